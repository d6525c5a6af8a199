"""A bake-off as values: the workload, each request as it went, what they come to; and as JSON."""

from __future__ import annotations

import math
import tomllib
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit, urlunsplit

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from bicameral.config import Closed, convert
from bicameral.errors import ConfigError

SCHEMA = 1
"""Goes up when a file of before can no longer be read."""

Settings = Literal["default", "tuned"]
TaskKind = Literal["arithmetic", "copy", "facts"]
_Positive = Annotated[float, Meta(gt=0)]
_Count = Annotated[int, Meta(ge=1, le=100_000)]


class Prompt(Closed, frozen=True, kw_only=True):
    """One kind of request: about `tokens` tokens of text, made up or the beginning of `file`.

    `images` and `audio` are files that go with it. Of a rate's requests, it gets its `share`.
    """

    name: str
    tokens: _Count = 32
    share: _Positive = 1.0
    file: str | None = None
    images: tuple[str, ...] = ()
    audio: tuple[str, ...] = ()


class Load(Closed, frozen=True, kw_only=True):
    """At each of `rates` (requests a second) `count` requests, after `warmup` that do not count.

    `deadline` seconds, from when a request was due to its last token, are good enough; after
    `give_up` it has failed.
    """

    rates: tuple[_Positive, ...]
    deadline: _Positive
    count: _Count = 20
    warmup: Annotated[int, Meta(ge=0, le=1000)] = 2
    max_tokens: _Count = 32
    give_up: _Positive = 120.0
    prompts: tuple[Prompt, ...] = (Prompt(name="short", tokens=32), Prompt(name="long", tokens=256))


class Tasks(Closed, frozen=True, kw_only=True):
    """Questions with known answers, `count` new ones in each repeat.

    `file` has a line of JSON for each: id, question, answers. Who is right significantly less often
    than the best, and by more than `margin`, loses whatever its speed.
    """

    count: _Count = 20
    kinds: tuple[TaskKind, ...] = ("arithmetic", "copy", "facts")
    file: str | None = None
    max_tokens: _Count = 24
    margin: Annotated[float, Meta(ge=0, lt=1)] = 0.05


class Contestant(Closed, frozen=True, kw_only=True):
    """A member, in the keys of a [models.NAME] table, and what it is compared as.

    `any_model`: it may serve another model than it is asked for. `chip` is a label, by default
    what the member says.
    """

    name: str
    member: dict[str, Any]
    settings: Settings = "default"
    chip: str = ""
    any_model: bool = False


class Published(Closed, frozen=True, kw_only=True):
    """Which rows of the published tables stand beside: those whose names hold one of these."""

    models: tuple[str, ...] = ()
    chips: tuple[str, ...] = ()
    most: _Count = 30


class Modelled(Closed, frozen=True, kw_only=True):
    """A chip of the catalogue whose forecast stands beside, for the model of a config.json."""

    chip: str
    config: str
    weights: str = "bf16"
    tensor: _Count = 1
    at_once: _Positive = 1.0


class Workload(Closed, frozen=True, kw_only=True):
    """What everyone is put through; `seed` fixes arrivals, prompts and tasks on every machine."""

    name: str
    load: Load
    contestants: tuple[Contestant, ...]
    seed: int = 0
    repeats: Annotated[int, Meta(ge=1, le=100)] = 3
    tasks: Tasks | None = Tasks()
    published: Published | None = None
    modelled: tuple[Modelled, ...] = ()


class Row(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request as it went. Seconds count from its block's start; `rate` None: it was a task.

    `kind` is the prompt's name or the kind of task. `error` is the kind of failure.
    """

    contestant: str
    repeat: int
    rate: float | None = None
    number: int
    kind: str
    planned: float
    sent: float | None = None
    first: float | None = None
    ended: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    error: str = ""
    task: str = ""
    passed: bool | None = None

    @property
    def latency(self) -> float:
        """Seconds from when it was due to its end; infinite if it failed."""
        return math.inf if self.error or self.ended is None else self.ended - self.planned

    @property
    def waited(self) -> float:
        """Seconds from when it was due to its first token; infinite if it failed."""
        return math.inf if self.error or self.first is None else self.first - self.planned


class Block(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One contestant at one rate in one repeat (`rate` None: its tasks), in the order they ran.

    `joules` by `meter`, None where nothing can be read; `busy` is the machine's load average of a
    minute before the block. `aborted` says why not all of it ran.
    """

    contestant: str
    repeat: int
    rate: float | None = None
    seconds: float = 0.0
    joules: float | None = None
    meter: str = ""
    busy: float | None = None
    aborted: str = ""


class Found(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A contestant as it was found; `left_out` says why it does not count."""

    name: str
    settings: Settings = "default"
    engine: str = ""
    chip: str = ""
    serves: str = ""
    served: str = ""
    threads: int | None = None
    left_out: str = ""


class Machine(Struct, frozen=True, kw_only=True):
    """Where it ran: what the system says, the versions of what computes, the load averages."""

    cpu: str
    cores: int
    memory_gb: float | None
    system: str
    python: str
    packages: Mapping[str, str]
    load_before: tuple[float, ...]
    load_after: tuple[float, ...] = ()


class Bakeoff(Struct, frozen=True, kw_only=True):
    """A bake-off that ran: everything that its tables and its verdict are made of."""

    schema: int = SCHEMA
    made: str
    workload: Workload
    machine: Machine
    found: tuple[Found, ...]
    blocks: tuple[Block, ...]
    rows: tuple[Row, ...]

    @property
    def counted(self) -> tuple[Found, ...]:
        """The contestants that were not left out."""
        return tuple(each for each in self.found if not each.left_out)


def parse(text: str, source: str) -> Workload:
    """A workload from TOML; ConfigError names the table, the key and what is wrong."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: is not valid TOML: {error}") from error
    return check(convert(table, Workload, source, "workload"), source)


def check(workload: Workload, source: str) -> Workload:
    """The workload, if it can be run; else ConfigError."""
    load = workload.load
    named = {
        "contestants": [c.name for c in workload.contestants],
        "load.prompts": [p.name for p in load.prompts],
        "load.rates": [f"{rate:g}" for rate in load.rates],
    }
    for key, names in named.items():
        if not names:
            raise ConfigError(f"{source}: {key}: is empty; give at least one")
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ConfigError(f"{source}: {key}: has '{twice[0]}' twice")
    if not all(map(math.isfinite, (*load.rates, load.deadline, load.give_up))):
        raise ConfigError(f"{source}: load: rates and times must be finite")
    if load.give_up < load.deadline:
        raise ConfigError(f"{source}: load.give_up: must not be below the deadline")
    if workload.tasks and not (workload.tasks.kinds or workload.tasks.file):
        raise ConfigError(f"{source}: tasks.kinds: is empty; name kinds or give a file")
    return workload


def encode(bakeoff: Bakeoff) -> bytes:
    """The file as others may see it: no text that was asked or said, no secret of a member."""
    shown = tuple(replace(each, member=_open(each.member)) for each in bakeoff.workload.contestants)
    public = replace(bakeoff, workload=replace(bakeoff.workload, contestants=shown))
    return msgspec.json.format(msgspec.json.encode(public), indent=1)


def decode(data: bytes, source: str) -> Bakeoff:
    """Read it again; ConfigError if it is no bake-off, or one of another schema."""
    try:
        raw = msgspec.json.decode(data)
        schema = raw.get("schema") if isinstance(raw, dict) else None
        if schema == SCHEMA:
            return msgspec.convert(raw, Bakeoff)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{source}: is no bake-off ({error})") from error
    if schema is None:
        raise ConfigError(f"{source}: is no bake-off: it names no schema")
    raise ConfigError(f"{source}: has schema {schema}, this version reads {SCHEMA}")


def _open(member: Mapping[str, Any]) -> dict[str, Any]:
    """Headers could hold a key although they must not, and so could a URL's user or query."""
    shown = {key: value for key, value in member.items() if key != "headers"}
    if isinstance(url := shown.get("url"), str):
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        shown["url"] = urlunsplit((parts.scheme, host, parts.path, "", ""))
    return shown
