"""What is asked of a training, as a value: everything that decides its outcome, and how to run it.

Names and tables come from a command line or a TOML file; unknown ones are refused by name.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from bicameral.engines.vdt.design import Autoencoder, Design, named
from bicameral.engines.vdt.learn.autoencode import CodecSchedule
from bicameral.engines.vdt.learn.clips import Found, Shape
from bicameral.engines.vdt.learn.train import Schedule
from bicameral.errors import ConfigError

T = TypeVar("T", bound=Struct)
_FRAMES = 16  # of a clip, where the films are longer than a net would take whole
_WHOLE = 32  # frames of a film that is taken whole
_SIDE = 64  # pixels of a clip of camera films
_TOKENS = 64  # of a frame, at most, where no patch is asked for
_TABLES = ("design", "schedule", "codec")


class Order(Struct, frozen=True, kw_only=True):
    """The first six decide the outcome and must stay when a training goes on; but `steps` may grow.

    `minutes` is how long one piece may take, `every` the steps between looks, 0 for none.
    """

    data: str
    design: Design
    schedule: Schedule
    codec: CodecSchedule = CodecSchedule()
    stride: int = 1
    half: bool = False
    out: str
    minutes: float | None = None
    every: int = 500
    save: float = 120.0
    compiled: bool = False
    device: str = "cpu"
    gpus: Annotated[int, Meta(ge=0)] = 0

    @property
    def shape(self) -> Shape:
        """Of its clips."""
        design = self.design
        return Shape(
            frames=design.frames,
            height=design.height,
            width=design.width,
            channels=design.channels,
            stride=self.stride,
        )


class Wishes(Struct, frozen=True, kw_only=True):
    """What a person says of the net; None is left to the data. `config` is a name or a TOML file,
    `factor` that of a codec, `sets` are KEY=VALUE of the design, the schedule or codec.KEY."""

    config: str = "modern-s"
    frames: int | None = None
    size: tuple[int, int] | None = None
    channels: int | None = None
    patch: int | None = None
    stride: int = 1
    factor: int | None = None
    sets: tuple[str, ...] = ()


def planned(
    wishes: Wishes, found: Found, precision: str = "float32"
) -> tuple[Design, Schedule, CodecSchedule]:
    """The net and its training for the data found; ConfigError names what does not fit."""
    name, tables = _file(wishes.config)
    for table, key, value in map(_setting, wishes.sets):
        tables[table][key] = value
    high, wide = wishes.size or ((_SIDE, _SIDE) if found.natural else (found.height, found.width))
    timing = tables["codec"]
    own = {key: timing.pop(key) for key in Autoencoder.__struct_fields__ if key in timing}
    if wishes.factor:
        own["factor"] = wishes.factor
    if "factor" not in own and (own or timing):
        raise ConfigError("settings of a codec are for a design that has one: give --codec 4")
    autoencoder = _made(own, Autoencoder, "codec") if own else None
    patch = wishes.patch or _patch(high, wide, autoencoder.factor if autoencoder else 1)
    design = named(
        name,
        frames=wishes.frames or _frames(found, wishes.stride),
        height=high,
        width=wide,
        channels=wishes.channels or found.channels,
        patch=patch,
    )
    whole = msgspec.to_builtins(design) | tables["design"]
    whole["codec"] = msgspec.to_builtins(autoencoder)
    timed = {"precision": precision, **tables["schedule"]}
    return (
        _made(whole, Design, "design"),
        _made(timed, Schedule, "schedule"),
        _made({"seed": timed.get("seed", 0), **timing}, CodecSchedule, "codec"),
    )


def _frames(found: Found, stride: int) -> int:
    there = (found.frames - 1) // stride + 1
    return there if there <= _WHOLE and not found.natural else min(there, _FRAMES)


def _patch(high: int, wide: int, factor: int) -> int:
    """The smallest that makes few tokens; with a codec 2, as VDT has it."""
    fits = [p for p in (2, 4, 8, 16, 32) if high % (p * factor) == 0 == wide % (p * factor)]
    for patch in fits:
        if high * wide // (patch * factor) ** 2 <= _TOKENS:
            return patch
    if not fits:
        raise ConfigError(f"{high} x {wide} pixels do not divide into patches: give another --size")
    return fits[-1]


def _file(config: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """The name of a design and the tables beside it."""
    tables: dict[str, dict[str, Any]] = {name: {} for name in _TABLES}
    if not config.endswith(".toml"):
        return config, tables
    try:
        read = tomllib.loads(Path(config).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{config} cannot be read: {error}") from error
    name = read.pop("name", None)
    if not isinstance(name, str):
        raise ConfigError(f'{config}: say which design it starts from, as in name = "modern-s"')
    for key, table in read.items():
        if key not in tables or not isinstance(table, dict):
            raise ConfigError(f"{config}: there is no [{key}]; there are [{'], ['.join(_TABLES)}]")
        tables[key] = dict(table)
    return name, tables


def _setting(text: str) -> tuple[str, str, Any]:
    """KEY=VALUE as table, key and value."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(f"--set {text}: write KEY=VALUE, as in rate=1e-3")
    table, dot, inner = key.rpartition(".")
    if dot and table not in _TABLES:
        raise ConfigError(f"--set {text}: there are {', '.join(f'{t}.KEY' for t in _TABLES)}")
    if not dot:
        table = next((t for t, kind in _kinds().items() if key in kind), "")
        if not table:
            raise _unknown(key, [name for kind in _kinds().values() for name in kind])
        inner = key
    return table, inner, _value(value.strip())


def _kinds() -> Mapping[str, tuple[str, ...]]:
    """Where a key without a table belongs."""
    design = tuple(key for key in Design.__struct_fields__ if key != "codec")
    return {"schedule": Schedule.__struct_fields__, "design": design}


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _made(table: Mapping[str, Any], kind: type[T], name: str) -> T:
    known = kind.__struct_fields__
    for key in table:
        if key not in known:
            raise _unknown(f"{name}.{key}", [f"{name}.{each}" for each in known])
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name}: {error}") from error


def _unknown(key: str, known: Iterable[str]) -> ConfigError:
    known = sorted(set(known))
    near = difflib.get_close_matches(key, known, 1)
    told = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    return ConfigError(f"there is no setting '{key}'; {told}")
