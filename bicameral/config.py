"""TOML to frozen structs. An unknown key is an error that names its table and the nearest key.

The shape of a member's table belongs to its engine: `convert` turns it into the engine's closed
Options once the engine is known. Secrets are named by environment variable, never written here.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from bicameral.errors import ConfigError
from bicameral.types import Price, Reach

ReachName = Literal["device", "site", "private", "public"]
KindName = Literal["choice", "number", "exact", "json", "code", "text"]
PolicyName = Literal[
    "route", "cascade", "vote", "fuse", "select", "verify", "samples", "tokens", "auto"
]


class Closed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table that takes the keys below and no other."""


class MemberOptions(Closed, frozen=True, kw_only=True):
    """What every [models.NAME] table takes; an engine's Options add its own keys.

    `price_*` are dollars per million tokens, written as strings so that they stay exact. `quality`
    is the probability that its answers are right, for minds that have not learned it. `apart`: it
    runs in a process of its own, as its [models.NAME.apart] table says, or with true as usual.
    """

    engine: str
    owner: str = ""
    reach: ReachName | None = None
    price_input: str | None = None
    price_output: str | None = None
    price_cached_input: str | None = None
    quality: Annotated[float, Meta(ge=0, le=1)] | None = None
    apart: bool | dict[str, Any] = False

    def price(self) -> Price | None:
        """The price in nano-dollars per million tokens; None if it is not given."""
        if self.price_input is None or self.price_output is None:
            if self.price_input or self.price_output or self.price_cached_input:
                raise ValueError("price_input and price_output go together: give both or neither")
            return None
        cached = self.price_cached_input
        return Price(
            input=nano(self.price_input),
            output=nano(self.price_output),
            cached_input=None if cached is None else nano(cached),
        )

    def reach_or(self, default: Reach) -> Reach:
        """The declared reach, or `default`."""
        return default if self.reach is None else Reach[self.reach.upper()]


class CheckOptions(Closed, frozen=True, kw_only=True):
    """A check of a mind's answers: exactly one of the first three.

    `pattern`: a regular expression found in the answer. `json`: the answer has to satisfy the
    request's own JSON schema. `command`: a program that reads the answer on stdin and exits 0 for
    right, 1 for wrong, within `seconds`; it runs with the server's rights, so give it a sandbox.
    """

    pattern: str | None = None
    json: bool = False
    command: tuple[str, ...] = ()
    seconds: Annotated[float, Meta(gt=0)] = 10.0


class MindOptions(Closed, frozen=True, kw_only=True):
    """A [minds.NAME] table: a policy over members, which may be other minds.

    `learned` is the file that `bicameral learn` wrote, beside the config. `worth` is what a right
    answer is worth, `second` what a second is worth, `most` what a request may cost, all in
    dollars as strings; `least` asks for the cheapest that is right with that probability.
    A cascade without a worth stops at an answer whose confidence, 0 to 1, reaches `threshold`
    (0.8); its members before the last may say at most `try_tokens`. `judge` writes for a fuse (by
    default the last member), picks for a select, verifies for a verify. `samples` is how often
    each member of a fuse is asked, or at most the one of samples (5). `analysis`: the judge of a
    fuse first compares the answers. `at_once`: how many of a vote are asked together, by default
    all, or one after the other where the order was learned. `weights` and `sure` are for tokens:
    the say of each member, and how sure the first has to be to go on alone (0.5). `answers` says
    how answers are compared, by default guessed from each request. `sticky`: stay with the member
    that holds the conversation, unless a switch gains more than its cache is worth.
    No member beyond `reach` is ever called.
    """

    policy: PolicyName
    members: tuple[str, ...]
    reach: ReachName = "public"
    learned: str | None = None
    worth: str | None = None
    second: str | None = None
    least: Annotated[float, Meta(ge=0, le=1)] | None = None
    most: str | None = None
    threshold: Annotated[float, Meta(ge=0, le=1)] | None = None
    try_tokens: Annotated[int, Meta(ge=1)] | None = None
    judge: str | None = None
    samples: Annotated[int, Meta(ge=1, le=64)] | None = None
    analysis: bool | None = None
    at_once: Annotated[int, Meta(ge=1)] | None = None
    weights: tuple[float, ...] | None = None
    sure: Annotated[float, Meta(gt=0, le=1)] | None = None
    answers: KindName | None = None
    check: CheckOptions | None = None
    sticky: bool = True


_GOAL = frozenset({"learned", "worth", "second", "least", "most"})
_READ = frozenset({"answers", "check"})
# The keys that mean something to a policy, besides members, reach and sticky.
POLICIES: Mapping[str, frozenset[str]] = {
    "route": _GOAL,
    "cascade": _GOAL | _READ | {"threshold", "try_tokens"},
    "vote": _GOAL | _READ | {"at_once"},
    "fuse": _READ | {"judge", "samples", "analysis"},
    "select": _READ | {"judge", "learned"},
    "verify": _READ | {"judge"},
    "samples": _READ | {"samples"},
    "tokens": frozenset({"weights", "sure"}),
    "auto": _GOAL | _READ,
}


class ServerOptions(Closed, frozen=True, kw_only=True):
    """The [server] table. Sizes are bytes, times seconds.

    `keys_env` names an environment variable with comma-separated API keys.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    keys_env: str | None = None
    max_body: int = 32 * 2**20
    max_depth: int = 64
    max_messages: int = 2048
    max_image_pixels: int = 40_000_000
    max_streams: int = 512
    header_timeout: float = 10.0
    idle_timeout: float = 60.0
    write_timeout: float = 30.0
    drain_timeout: float = 30.0


class JournalOptions(Closed, frozen=True, kw_only=True):
    """The [journal] table: what is kept of the decisions of minds, for `explain` and `learn`.

    `path` is by default bicameral/journal.sqlite3 in $XDG_STATE_HOME (~/.local/state). It keeps
    the last `keep` answers: ids, names, costs and times, the question and the answer themselves
    only with `prompts`.
    """

    enabled: bool = True
    path: str | None = None
    prompts: bool = False
    keep: Annotated[int, Meta(ge=1, le=10**9)] = 100_000


class FetchOptions(Closed, frozen=True, kw_only=True):
    """Whether and what is fetched by URL for perceivers. Sizes are bytes, times seconds.

    `allow_hosts` are the only hosts it may go to, '*.example.com' for every name below one; empty:
    any public one. A host must have a public address either way. `fetch_seconds` is for all of
    one fetch, redirects included.
    """

    fetch: bool = False
    allow_hosts: tuple[str, ...] = ()
    fetch_ports: tuple[Annotated[int, Meta(ge=1, le=65535)], ...] = (80, 443)
    fetch_bytes: Annotated[int, Meta(ge=1, le=2**31)] = 32 * 2**20
    fetch_seconds: Annotated[float, Meta(gt=0, le=600)] = 20.0


class RightOptions(FetchOptions, frozen=True, kw_only=True):
    """The [right] table: how pictures, sounds and clips are put in words for models without eyes.

    `perceivers` names the models that do it, by default all that emit percepts. What they found in
    the last `remembered` parts is not looked for again. With `fetch`, media that a request names
    by URL are fetched for them, from `allow_hosts` only if there are any ('*.example.com': every
    name below), never from a private address, within `fetch_ports`, `fetch_bytes`, `fetch_seconds`.
    """

    perceivers: tuple[str, ...] | None = None
    remembered: Annotated[int, Meta(ge=1, le=10**6)] = 1024


class Config(Struct, frozen=True, kw_only=True):
    """The whole file; `models` and `watch` are still raw: engines and the watch read their own."""

    models: Mapping[str, Mapping[str, Any]] = {}
    minds: Mapping[str, MindOptions] = {}
    server: ServerOptions = ServerOptions()
    journal: JournalOptions = JournalOptions()
    right: RightOptions = RightOptions()
    watch: Mapping[str, Any] = {}
    source: str = "(embedded default)"


T = TypeVar("T")
_DOLLARS = re.compile(r"\d{1,6}(\.\d{1,9})?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}")


def nano(dollars: str) -> int:
    """Dollars as a decimal string to nano-dollars, exactly."""
    if not _DOLLARS.fullmatch(dollars):
        raise ValueError(f"'{dollars}' is no price: write dollars as \"0.25\"")
    whole, _, fraction = dollars.partition(".")
    return int(whole) * 10**9 + int(fraction.ljust(9, "0"))


def load(path: Path) -> Config:
    """Read and check a config file."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text") from error
    return parse(text, str(path))


def parse(text: str, source: str) -> Config:
    """Check the text of a config file; `source` names it in errors."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: is not valid TOML: {error}") from error
    _known(tables, ("models", "minds", "server", "journal", "right", "watch"), source, "the file")
    models = _tables(tables.get("models", {}), source, "models")
    minds = {
        name: convert(table, MindOptions, source, f"minds.{name}")
        for name, table in _tables(tables.get("minds", {}), source, "minds").items()
    }
    server = convert(tables.get("server", {}), ServerOptions, source, "server")
    journal = convert(tables.get("journal", {}), JournalOptions, source, "journal")
    right = convert(tables.get("right", {}), RightOptions, source, "right")
    config = Config(
        models=models,
        minds=minds,
        server=server,
        journal=journal,
        right=right,
        watch=tables.get("watch", {}),
        source=source,
    )
    _check_names(config)
    return config


def convert(table: Mapping[str, Any], kind: type[T], source: str, where: str) -> T:
    """Turn a raw table into `kind`; an error names the file, the table, the key and the reason."""
    _known(table, _keys(kind), source, f"[{where}]")
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        key = path.rstrip("`").lstrip(".")
        raise ConfigError(f"{source}: [{where}] {key + ': ' if key else ''}{reason}") from error


def secret(variable: str, where: str) -> str:
    """The secret in the environment variable; ConfigError if it is not set."""
    value = os.environ.get(variable, "").strip()
    if not value:
        raise ConfigError(f"[{where}] key_env: the environment variable {variable} is not set")
    return value


def nearest(word: str, known: tuple[str, ...]) -> str:
    """'; did you mean X?' for the known word closest to `word`, or the list of them."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(sorted(known))}"


def _keys(kind: type) -> tuple[str, ...]:
    return tuple(f.encode_name for f in msgspec.structs.fields(kind))


def _known(table: Any, keys: tuple[str, ...], source: str, where: str) -> None:
    if not isinstance(table, Mapping):
        raise ConfigError(f"{source}: {where} must be a table")
    for key in table:
        if key not in keys:
            raise ConfigError(f"{source}: {where} has an unknown key '{key}'; {nearest(key, keys)}")


def _tables(group: Any, source: str, where: str) -> dict[str, dict[str, Any]]:
    if not isinstance(group, dict) or not all(isinstance(t, dict) for t in group.values()):
        raise ConfigError(f"{source}: [{where}] holds tables only: write [{where}.NAME]")
    return group


def _check_names(config: Config) -> None:
    names = (*config.models, *config.minds)
    for name in names:
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{config.source}: '{name}' is no name: use letters, digits and ._:/-"
            )
    for name in config.minds:
        if name in config.models:
            raise ConfigError(f"{config.source}: '{name}' is both a model and a mind; rename one")
    for name in config.right.perceivers or ():
        if name not in config.models:
            hint = nearest(name, tuple(config.models))
            raise ConfigError(f"{config.source}: [right] perceivers: there is no '{name}'; {hint}")
    for name, mind in config.minds.items():
        _check_mind(config, name, mind, names)


def _check_mind(config: Config, name: str, mind: MindOptions, names: tuple[str, ...]) -> None:
    where = f"{config.source}: [minds.{name}]"
    if not mind.members:
        raise ConfigError(f"{where} members: is empty; name at least one model")
    for member in (*mind.members, *([mind.judge] if mind.judge else [])):
        if member not in names:
            raise ConfigError(f"{where} there is no '{member}'; {nearest(member, names)}")
    if len(set(mind.members)) < len(mind.members):
        raise ConfigError(f"{where} members: names one twice")
    _check_policy(where, mind)
    _check_cycle(config, (name,))


def _check_policy(where: str, mind: MindOptions) -> None:
    for key in _set_keys(mind):
        if key not in POLICIES[mind.policy]:
            policies = [name for name, keys in POLICIES.items() if key in keys]
            raise ConfigError(f"{where} {key}: is for the policy {' or '.join(policies)} only")
    for key in ("worth", "second", "most"):
        try:
            nano(getattr(mind, key) or "0")
        except ValueError as error:
            raise ConfigError(f"{where} {key}: {error}") from error
    if mind.policy in ("samples", "verify") and len(mind.members) != 1:
        raise ConfigError(f"{where} members: {mind.policy} is over one member")
    if (
        mind.check
        and sum(map(bool, (mind.check.pattern, mind.check.json, mind.check.command))) != 1
    ):
        raise ConfigError(f"{where} check: give one of pattern, json and command")


def _set_keys(mind: MindOptions) -> list[str]:
    """The keys of the table that not every policy takes, as far as they are set."""
    known = frozenset().union(*POLICIES.values())
    return [
        key for key in mind.__struct_fields__ if key in known and getattr(mind, key) is not None
    ]


def _check_cycle(config: Config, path: tuple[str, ...]) -> None:
    mind = config.minds.get(path[-1])
    if mind is None:
        return
    for member in (*mind.members, *([mind.judge] if mind.judge else [])):
        if member in path:
            loop = " -> ".join((*path, member))
            raise ConfigError(f"{config.source}: minds form a circle: {loop}")
        _check_cycle(config, (*path, member))
