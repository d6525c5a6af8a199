"""The command line: ask, chat, watch, models, serve, check, pull, explain, feedback, learn, eval,
ledger, keys, prices, chips, bakeoff, plan, vdt.

Answers go to stdout, everything else to stderr. Exit codes: 0 answered, 1 a model failed, 2 the
call or the config is wrong, 130 interrupted.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from bicameral import account, build, terminal
from bicameral.asking import asking, clip, image, sound
from bicameral.brain import Brain, load_config
from bicameral.chips_cli.bakeoff import bakeoff
from bicameral.chips_cli.find import chips
from bicameral.chips_cli.plan import plan
from bicameral.config import Config, nano
from bicameral.errors import BicameralError, ModelError, RequestError
from bicameral.evals.command import evaluate
from bicameral.explain import explain as explain_answer
from bicameral.explain import feedback
from bicameral.learn import learn
from bicameral.ledger_cli.commands import ledger
from bicameral.ledger_cli.keys import keys
from bicameral.ledger_cli.prices import app as prices
from bicameral.model import Model
from bicameral.probe import Probe, probe, probe_all
from bicameral.terminal import err
from bicameral.types import Answer, Message, Modality, Part, Reach, Request, Sampling, Text
from bicameral.vdt_cli.app import app as vdt
from bicameral.watching import watch

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
T = TypeVar("T")

ConfigPath = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="The config file; else $BICAMERAL_CONFIG, ./bicameral.toml."
    ),
]
MindName = Annotated[str | None, typer.Option("--mind", "-m", help="The mind or member to ask.")]
ReachName = Annotated[
    str | None, typer.Option(help="How far the data may travel: device, site, private, public.")
]


def main() -> None:
    """The entry point: a known error is one line on stderr and an exit code."""
    try:
        app()
    except ModelError as error:
        _fail(error, 1)
    except BicameralError as error:
        _fail(error, 2)
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(error: BicameralError, code: int) -> None:
    err.print(f"error: {error}", style="red", markup=False)
    sys.exit(code)


def _run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question; - reads it from stdin.")],
    mind: MindName = None,
    images: Annotated[
        list[str] | None, typer.Option("--image", help="A picture, file or url.")
    ] = None,
    audio: Annotated[list[str] | None, typer.Option(help="A recording, a file.")] = None,
    video: Annotated[list[str] | None, typer.Option(help="A clip, file or url.")] = None,
    system: Annotated[str | None, typer.Option(help="Instructions before the question.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1)] = None,
    temperature: Annotated[float | None, typer.Option(min=0, max=2)] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    reach: ReachName = None,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds to answer in.")] = None,
    budget: Annotated[str | None, typer.Option(help="The most it may cost, in dollars.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One line of JSON.")] = False,
    explain: Annotated[bool, typer.Option(help="Who was asked, how fast, and why.")] = False,
    config: ConfigPath = None,
) -> None:
    """Ask once and stream the answer."""
    text = sys.stdin.read() if question == "-" else question
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed)
    media = (images or (), audio or (), video or ())
    request = asking(text, *media, sampling=sampling, **_limits(reach, timeout, budget))
    if system:
        request = request.but(messages=(_says("system", system), *request.messages))
    answer = _run(_ask(request, mind, config, quiet=json))
    if json:
        sys.stdout.write(terminal.as_json(answer) + "\n")
    if explain:
        _explain(answer)


@asynccontextmanager
async def _opened(config: Path | None) -> AsyncIterator[Brain]:
    """A Brain; loading weights takes a while, so a spinner says so."""
    async with AsyncExitStack() as stack:
        with terminal.waiting("loading…"):
            brain = await stack.enter_async_context(Brain.open(config))
        yield brain


async def _ask(request: Request, mind: str | None, config: Path | None, *, quiet: bool) -> Answer:
    async with _opened(config) as brain:
        emits = brain.model(mind).card.emits
        if Modality.PERCEPT in emits and Modality.TEXT not in emits:
            request = request.but(output=Modality.PERCEPT)
        events = brain.run(request, mind)
        return await terminal.show_stream(events, mind or brain.default, quiet=quiet)


def _explain(answer: Answer) -> None:
    """Every call, then what the mind expected and got; the id is for `explain`, `feedback`."""
    terminal.show_calls(answer)
    for decision in answer.decisions[:1]:
        err.print(f"  {decision.mind}, {decision.id}", style="dim", markup=False)
        account.show_members(err, decision)


def _says(role: Any, text: str) -> Message:
    return Message(role, (Text(text),))


def _limits(reach: str | None, timeout: float | None, budget: str | None) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    if reach is not None:
        if reach.upper() not in Reach.__members__:
            raise RequestError(f"--reach {reach}: write device, site, private or public")
        limits["reach"] = Reach[reach.upper()]
    if timeout is not None:
        limits["deadline"] = time.monotonic() + timeout
    if budget is not None:
        try:
            limits["budget"] = nano(budget)
        except ValueError as error:
            raise RequestError(f"--budget: {error}") from error
    return limits


@app.command()
def chat(
    mind: MindName = None,
    system: Annotated[str | None, typer.Option(help="Instructions for the whole chat.")] = None,
    reach: ReachName = None,
    explain: Annotated[bool, typer.Option(help="Who was asked after each answer.")] = False,
    config: ConfigPath = None,
) -> None:
    """Chat: /image, /audio and /video FILE go with what is said next, /new forgets.

    /mind NAME switches, Ctrl-C stops an answer, Ctrl-D ends.
    """
    opening = (_says("system", system),) if system else ()
    limits = _limits(reach, None, None)
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        brain = runner.run(stack.enter_async_context(_opened(config)))
        try:
            for asked, name in _turns(brain, opening, mind):
                answer = _turn(runner, brain, Request(messages=tuple(asked), **limits), name)
                if answer is None:
                    asked.pop()
                    continue
                asked.append(_says("assistant", answer.text))
                if explain:
                    _explain(answer)
        finally:
            runner.run(stack.aclose())


def _turns(
    brain: Brain, opening: tuple[Message, ...], mind: str | None
) -> Iterator[tuple[list[Message], str]]:
    """The conversation so far, ending with what the user just typed, and whom to ask."""
    name = brain.model(mind).card.name
    messages = list(opening)
    attached: list[Part] = []
    while (line := _read(name)) is not None:
        word, _, rest = line.partition(" ")
        if word == "/new":
            messages, attached = list(opening), []
        elif word == "/mind":
            name = _switched(brain, rest.strip(), name)
        elif word in _ATTACH:
            attached += _attached(word, rest.strip())
        elif line:
            messages.append(Message("user", (Text(line), *attached)))
            attached = []
            yield messages, name


_ATTACH: Mapping[str, Callable[[str], Part]] = {"/image": image, "/audio": sound, "/video": clip}


def _attached(word: str, file: str) -> Iterator[Part]:
    try:
        yield _ATTACH[word](file)
    except RequestError as error:
        err.print(str(error), style="red", markup=False)


def _read(name: str) -> str | None:
    try:
        return input(f"{name}> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return None


def _switched(brain: Brain, name: str, mind: str) -> str:
    try:
        return brain.model(name).card.name
    except RequestError as error:
        err.print(str(error), style="red", markup=False)
        return mind


def _turn(runner: asyncio.Runner, brain: Brain, request: Request, name: str) -> Answer | None:
    """One answer; None if it failed or was stopped."""
    try:
        return runner.run(terminal.show_stream(brain.run(request, name), name))
    except BicameralError as error:
        err.print(f"error: {error}", style="red", markup=False)
    except KeyboardInterrupt:
        err.print("\nstopped", style="dim")
    return None


@app.command()
def models(
    probing: Annotated[bool, typer.Option("--probe/--no-probe", help="Ask each a token.")] = True,
    json: Annotated[bool, typer.Option("--json", help="The cards, one line of JSON each.")] = False,
    config: ConfigPath = None,
) -> None:
    """List minds and members: what they are, where they run, whether they answer."""
    _run(_models(probing, json, config))


async def _models(probing: bool, json: bool, config: Path | None) -> None:
    async with _opened(config) as brain:
        leaves = [model for model in brain.models.values() if not model.card.members]
        with terminal.waiting("asking each for one token…"):
            probes = await probe_all(leaves) if probing else []
        if json:
            terminal.print_cards(brain.models, probes)
        else:
            terminal.show_models(brain.models, probes, brain.default)


@app.command()
def check(config: ConfigPath = None) -> None:
    """Validate the config and ask every member for one token."""
    loaded = load_config(config)
    if not _run(_check(loaded)):
        sys.exit(1)


async def _check(config: Config) -> bool:
    terminal.out.print(f"{config.source}: read", markup=False)
    opened: dict[str, Model] = {}
    good = True
    for name, table in config.models.items():
        try:
            with terminal.waiting(f"{name}…"):
                async with build.member(name, table, config.source, config.cluster) as model:
                    opened[name] = model
                    found = await probe(model)
        except BicameralError as error:
            found = Probe(name=name, seconds=0, error=str(error))
        good = good and found.error is None
        terminal.out.print(_finding(found, opened.get(name)), markup=False)
    if len(opened) == len(config.models):
        for name, mind in build.minds(config, build.perceiving(config, opened)).items():
            terminal.out.print(f"  mind {name}: {' + '.join(mind.card.members)}", markup=False)
    return good


def _finding(found: Probe, model: Model | None) -> str:
    if found.error is not None:
        return f"✗ {found.name}: {found.error}"
    wanted = model.card.serves if model else ""
    served = found.served or wanted or "it does not say what"
    other = f" (asked for {wanted})" if wanted and served != wanted else ""
    return f"✓ {found.name}: answered in {found.seconds:.2f} s, serves {served}{other}"


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535)] = None,
    ray: Annotated[
        str | None, typer.Option(help="The Ray cluster: auto, local or HOST:PORT; else [cluster].")
    ] = None,
    config: ConfigPath = None,
) -> None:
    """Serve the minds behind an OpenAI-compatible endpoint."""
    from bicameral.server.serve import serve as run_server

    run_server(config, host=host, port=port, ray=ray)


@app.command()
def pull(
    names: Annotated[list[str] | None, typer.Argument(help="Weights; none lists them.")] = None,
) -> None:
    """Fetch weights by name, verify their checksum and keep them in the cache directory."""
    from bicameral.engines import weights
    from bicameral.engines.pull import pull as fetch

    rows = weights.catalogue()
    if not names:
        for name, row in rows.items():
            state = "pulled" if weights.is_pulled(row) else f"{row.size / 2**20:.0f} MiB"
            terminal.out.print(f"{name:24}{state:>10}  {row.licence}  {row.note}", markup=False)
        return
    for name in names:
        weights.row(name, rows)
    for name in names:
        with terminal.download(name) as progress:
            path = fetch(name, progress)
        err.print(f"{name}: {path}", markup=False)


app.command()(watch)
app.command("explain")(explain_answer)
app.command()(feedback)
app.command()(learn)
app.command("eval")(evaluate)
app.command()(chips)
app.command()(bakeoff)
app.command()(plan)
app.add_typer(ledger, name="ledger")
app.add_typer(keys, name="keys")
app.add_typer(prices, name="prices")
app.add_typer(vdt, name="vdt")
