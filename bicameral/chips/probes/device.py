"""One device as its tool tells of it, and the units in which tools tell it."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

Kind = Literal["cpu", "gpu", "npu"]

MIB = 2**20
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


class Cache(msgspec.Struct, frozen=True, kw_only=True):
    """Caches of one level and kind that the process may use: how many, and bytes of each."""

    level: int
    kind: str
    size: int
    count: int


class Cpu(msgspec.Struct, frozen=True, kw_only=True):
    """What the machine has, and what of it this process may use.

    `cores` and `threads` count the machine's; `may_use` is how many processors this process gets
    at once, by affinity and the cgroup's quota (a fraction is possible). `isa` names only the
    instruction sets that matter to models. `limit_gb`: the cgroup's memory limit, if any.
    """

    sockets: int
    cores: int
    threads: int
    may_use: float
    numa_nodes: int
    isa: tuple[str, ...]
    caches: tuple[Cache, ...]
    limit_gb: float | None = None

    @property
    def last_cache(self) -> int:
        """Bytes in all caches of the last level; 0 if unknown."""
        last = max((cache.level for cache in self.caches), default=0)
        return sum(cache.size * cache.count for cache in self.caches if cache.level == last)


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A device in its tool's words; what the tool does not say is None.

    `index` counts as the tool does. Memory in GB of 10^9 bytes, `power_w` the limit in W, `units`
    the cores or compute units, `bus` the PCI address. `shared`: its memory is the CPU's.
    """

    vendor: str
    name: str
    index: int
    told_by: str
    kind: Kind = "gpu"
    memory_gb: float | None = None
    free_gb: float | None = None
    driver: str | None = None
    power_w: float | None = None
    units: int | None = None
    bus: str | None = None
    shared: bool = False
    cpu: Cpu | None = None


class Blind(msgspec.Struct, frozen=True, kw_only=True):
    """Why a tool saw nothing, in its own last words; `absent`: it is only not installed."""

    tool: str
    vendor: str
    why: str
    absent: bool = False


class Unread(ValueError):
    """A tool's output has a form that its reader does not know."""


def number(text: object) -> float | None:
    """The first number in what a tool printed; None for N/A, [Not Supported], - and the like."""
    found = _NUMBER.match(str(text).strip())
    return None if found is None else float(found.group())


def whole(text: object) -> int | None:
    """The same as an integer."""
    value = number(text)
    return None if value is None else int(value)


def gigabytes(mib: float | None) -> float | None:
    """GB of 10^9 bytes from MiB, which is what these tools count in, whatever they call it."""
    return None if mib is None else mib * MIB / 1e9


def address(bus: object) -> str | None:
    """A PCI address as the kernel writes it: tools lengthen the domain or use capitals."""
    found = re.match(r"([0-9a-f]{4,8}):([0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f])", str(bus).lower())
    return f"{found.group(1)[-4:]}:{found.group(2)}" if found else None


def text_or_none(value: object) -> str | None:
    """A word of a tool's, or None where it stands for nothing."""
    said = str(value or "").strip()
    return None if said.strip("[]").casefold() in ("", "n/a", "na", "unknown", "-") else said
