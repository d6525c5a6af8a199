"""Writes docs/config.md from the structs that read the config: `python docs/generate.py`."""

from __future__ import annotations

import inspect
import types
import typing
from pathlib import Path

import msgspec

from bicameral import engines
from bicameral.cluster.settings import Bounds
from bicameral.cluster.settings import Settings as Replicas
from bicameral.config import (
    ClusterOptions,
    JournalOptions,
    LedgerOptions,
    MemberOptions,
    MindOptions,
    RightOptions,
    ServerOptions,
    VideosOptions,
)
from bicameral.right.apart import Settings
from bicameral.right.stream.settings import WatchOptions

HEAD = """# The config file

One TOML file: `bicameral.toml` in the working directory, `$BICAMERAL_CONFIG`, or `--config FILE`.
A key that is not listed here is an error that names the nearest one. Secrets are named by
environment variable and never written into the file. This page is made from the code by
`python docs/generate.py`.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD, _section("[models.NAME], every engine", MemberOptions, ())]
    shared = [field.name for field in msgspec.structs.fields(MemberOptions)]
    parts += [
        _section(f'[models.NAME], engine = "{name}"', engines.find(name).Options, shared)
        for name in engines.ENGINES
    ]
    parts.append(_section("[models.NAME.apart]", Settings, ()))
    parts.append(_section("[models.NAME.cluster]", Replicas, ()))
    parts.append(_section("[models.NAME.cluster.replicas]", Bounds, ()))
    parts.append(_section("[minds.NAME]", MindOptions, ()))
    parts.append(_section("[server]", ServerOptions, ()))
    parts.append(_section("[videos]", VideosOptions, ()))
    parts.append(_section("[journal]", JournalOptions, ()))
    parts.append(_section("[ledger]", LedgerOptions, ()))
    parts.append(_section("[cluster]", ClusterOptions, ()))
    parts.append(_section("[right]", RightOptions, ()))
    parts.append(_section("[watch]", WatchOptions, ()))
    return "\n".join(parts)


def _section(title: str, kind: type, without: typing.Sequence[str]) -> str:
    lines = [f"## {title}\n", inspect.cleandoc(kind.__doc__ or "") + "\n"]
    lines += ["| key | type | default |", "|---|---|---|"]
    for field in msgspec.structs.fields(kind):
        if field.name not in without:
            shown = _type(field.type).replace("|", "\\|")
            lines.append(f"| `{field.encode_name}` | {shown} | {_default(field)} |")
    return "\n".join(lines) + "\n"


def _type(kind: object) -> str:
    """As TOML sees it."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _type(args[0])
    if origin is typing.Literal:
        return " or ".join(f'"{arg}"' for arg in args)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(arg) for arg in args if arg is not type(None))
    if origin is tuple:
        return f"list of {_type(args[0])}"
    if origin is not None:
        return f"table of {_type(args[1])}"
    if isinstance(kind, type) and issubclass(kind, str) and kind is not str:
        return " or ".join(f'"{member}"' for member in kind)  # type: ignore[var-annotated]
    names = {str: "string", int: "integer", float: "number", bool: "true or false"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))  # type: ignore[call-overload]


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value = field.default
    if value is msgspec.NODEFAULT:
        value = field.default_factory()
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value)
    return f"`{value}`" if value not in ("", {}) else ""


if __name__ == "__main__":
    Path(__file__).with_name("config.md").write_text(page(), encoding="utf-8")
