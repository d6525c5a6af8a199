"""Config to a tree of models: the only file that knows every part."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bicameral import engines, policies
from bicameral.config import (
    ClusterOptions,
    Config,
    LedgerOptions,
    MemberOptions,
    MindOptions,
    convert,
)
from bicameral.errors import ChipError, ConfigError, WeightsError
from bicameral.ledger import prices
from bicameral.left.again import Absent
from bicameral.left.mind import Mind
from bicameral.left.policy import Policy
from bicameral.left.sticky import Sticky
from bicameral.left.tokens import Tokens
from bicameral.model import Model
from bicameral.right.perceiving import Perceiving
from bicameral.right.senses import Fetcher, Senses
from bicameral.types import Modality, Reach

if TYPE_CHECKING:
    from bicameral.left.learned import Learned

DEFAULT = "default"


def member(
    name: str, table: Mapping[str, Any], source: str, cluster: ClusterOptions | None = None
) -> AbstractAsyncContextManager[Model]:
    """The model of a [models.NAME] table, not opened yet; ConfigError if the table is wrong.

    One that says `cluster` runs in `cluster`, if there is one. Opening it may raise ConfigError
    too, WeightsError or ChipError; all name `source`.
    """
    where = f"models.{name}"
    kind = table.get("engine")
    if not isinstance(kind, str):
        raise ConfigError(f"{source}: [{where}] engine: say which engine runs this model")
    try:
        engine = engines.find(kind)
    except ConfigError as error:
        raise ConfigError(f"{source}: [{where}] engine: {error}") from error
    table = prices.filled(table, where, source)
    options = convert(table, engine.Options, source, where)
    try:
        options.price()
    except ValueError as error:
        raise ConfigError(f"{source}: [{where}] {error}") from error
    if options.cluster is not False and cluster is not None:
        return _far(name, table, options, cluster, source)
    if options.apart is False:
        return _opened(engine.open(name, options), source)
    return _apart(name, table, options.apart, source)


def _apart(
    name: str, table: Mapping[str, Any], how: bool | dict[str, Any], source: str
) -> AbstractAsyncContextManager[Model]:
    from bicameral.right import apart

    chosen = how if isinstance(how, dict) else {}
    settings = convert(chosen, apart.Settings, source, f"models.{name}.apart")
    plain = {key: value for key, value in table.items() if key != "apart"}
    return _opened(apart.open(name, plain, settings, source), source)


def _far(
    name: str,
    table: Mapping[str, Any],
    options: MemberOptions,
    cluster: ClusterOptions,
    source: str,
) -> AbstractAsyncContextManager[Model]:
    from bicameral.cluster import member as far
    from bicameral.cluster.settings import Settings

    where = f"models.{name}.cluster"
    if options.apart is not False:
        raise ConfigError(f"{source}: [{where}] it is apart there anyway: leave one of both out")
    chosen = options.cluster if isinstance(options.cluster, dict) else {}
    settings = convert(chosen, Settings, source, where)
    plain = {key: value for key, value in table.items() if key != "cluster"}
    return _opened(far.open(name, plain, settings, cluster, source), source)


@asynccontextmanager
async def _opened(opening: AbstractAsyncContextManager[Model], source: str) -> AsyncIterator[Model]:
    """An engine does not know the file that its options came from, so the file is named here."""
    async with AsyncExitStack() as stack:
        try:
            model = await stack.enter_async_context(opening)
        except (ChipError, ConfigError, WeightsError) as error:
            raise type(error)(f"{source}: {error}") from error
        yield model


def perceiving(
    config: Config, members: Mapping[str, Model], fetcher: Fetcher | None = None
) -> dict[str, Model]:
    """The members, those that answer in words taking what the perceivers among them translate.

    ConfigError if [right] names one as a perceiver that emits no percepts.
    """
    named = config.right.perceivers
    perceivers = [
        model
        for name, model in members.items()
        if (name in named if named is not None else Modality.PERCEPT in model.card.emits)
    ]
    for model in perceivers:
        if Modality.PERCEPT not in model.card.emits:
            raise ConfigError(
                f"{config.source}: [right] perceivers: {model.card.name} does not perceive"
            )
    if not perceivers:
        return dict(members)
    senses = Senses(perceivers, fetcher=fetcher, remembered=config.right.remembered)
    return {
        name: Perceiving(model, senses) if Modality.TEXT in model.card.emits else model
        for name, model in members.items()
    }


def minds(config: Config, members: Mapping[str, Model]) -> dict[str, Model]:
    """Every mind of the config over the opened members."""
    built: dict[str, Model] = {}
    files: dict[str | None, Learned | None] = {}

    def find(name: str) -> Model:
        if name in members:
            return members[name]
        if name not in built:
            built[name] = _mind(name, config.minds[name])
        return built[name]

    def _mind(name: str, options: MindOptions) -> Model:
        over = [find(m) for m in options.members]
        reach = Reach[options.reach.upper()]
        if options.policy == "tokens":
            return _tokens(name, options, over, reach, config.source)
        if options.learned not in files:
            files[options.learned] = policies.learned(config, name)
        taught = files[options.learned]
        judge = find(options.judge) if options.judge else None
        return Mind(
            name,
            policies.policy(config, name, judge, taught),
            over,
            reach=reach,
            estimator=policies.estimator(config, name, taught),
            reader=policies.reader(options),
            sticky=Sticky() if options.sticky and len(over) > 1 else None,
        )

    for name in config.minds:
        find(name)
    return built


def policy(config: Config, name: str) -> Policy:
    """The policy of a mind without its members: enough to take a recorded decision again."""
    options = config.minds[name]
    judge = Absent(options.judge) if options.judge else None
    return policies.policy(config, name, judge, policies.learned(config, name))


def _tokens(
    name: str, options: MindOptions, members: list[Model], reach: Reach, source: str
) -> Model:
    try:
        return Tokens(name, members, weights=options.weights, sure=options.sure or 0.5, reach=reach)
    except ConfigError as error:
        raise ConfigError(f"{source}: [minds.{name}] {error}") from error


def embedded() -> Config:
    """Without a config file: `auto` over the local chat models that have been pulled.

    What it knows of them bench/embedded.py taught it; a right answer is worth a hundred seconds.
    Where the library that reads pictures (`see`) is installed, they read them. Calls are booked.
    Without the library that reads it (`embed-fast`): a cascade, with the threshold that
    bench/confidence.py shows for the smallest.
    """
    from bicameral.engines import weights

    rows = weights.catalogue()
    chat = [name for name in weights.pulled(rows) if rows[name].kind == "gguf" and rows[name].chat]
    names = tuple(sorted(chat, key=lambda name: rows[name].bytes))
    if not names:
        raise ConfigError(
            "there is no config file and no local model has been pulled: run "
            "`bicameral pull smollm2-135m`, or write bicameral.toml"
        )
    models = {name: {"engine": "llama_cpp", "weights": name} for name in names}
    if find_spec("rapidocr"):
        models["ocr"] = {"engine": "ocr"}
    if find_spec("wordllama"):
        file = str(Path(__file__).parent / "left" / "embedded.npz")
        mind = MindOptions(policy="auto", members=names, learned=file, worth="1", second="0.01")
    else:
        mind = MindOptions(policy="cascade", members=names, threshold=0.75, try_tokens=64)
    return Config(models=models, minds={DEFAULT: mind}, ledger=LedgerOptions())
