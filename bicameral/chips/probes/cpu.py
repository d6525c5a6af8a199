"""The CPU as Linux tells of it in /proc and /sys, and how much of it this process may use."""

from __future__ import annotations

import os
import platform
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from bicameral.chips.probes.device import Cache, Cpu, Device
from bicameral.chips.probes.tool import Host

# Instruction sets that matter to models: the kernel's word, and ours.
ISA = {
    "avx": "avx",
    "avx2": "avx2",
    "f16c": "f16c",
    "avx_vnni": "avx_vnni",
    "avx512f": "avx512f",
    "avx512_vnni": "avx512_vnni",
    "avx512_bf16": "avx512_bf16",
    "avx512_fp16": "avx512_fp16",
    "amx_tile": "amx_tile",
    "amx_int8": "amx_int8",
    "amx_bf16": "amx_bf16",
    "asimd": "neon",
    "neon": "neon",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
    "sve2": "sve2",
    "sme": "sme",
}
# ARM's kernel gives numbers only: implementer and part (the Arm architecture's MIDR_EL1).
_PARTS = {
    (0x41, 0xD0C): "ARM Neoverse N1",
    (0x41, 0xD40): "ARM Neoverse V1",
    (0x41, 0xD49): "ARM Neoverse N2",
    (0x41, 0xD4F): "ARM Neoverse V2",
    (0x41, 0xD0B): "ARM Cortex-A76",
    (0x48, 0xD01): "HiSilicon Kunpeng 920",
    (0xC0, 0xAC3): "Ampere-1",
}
_MAKERS = {"GenuineIntel": "intel", "AuthenticAMD": "amd", "HygonGenuine": "hygon"}
_SIZES = {"K": 2**10, "M": 2**20, "G": 2**30}
_UNLIMITED = 2**60


def linux(host: Host, allowed: Collection[int] | None = None) -> Device:
    """The CPU; `allowed` are the processors that this process may run on (None: ask the kernel)."""
    proc, sys = host.root / "proc", host.root / "sys"
    info = read(proc / "cpuinfo")
    first = fields(info.partition("\n\n")[0])
    online = _list(read(sys / "devices/system/cpu/online")) or _processors(info)
    allowed = frozenset(os.sched_getaffinity(0) if allowed is None else allowed) & online or online
    quota = _quota(host)
    total, free = _memory(read(proc / "meminfo"))
    limit = _limit(host)
    return Device(
        vendor=_MAKERS.get(first.get("vendor_id", ""), "cpu"),
        name=first.get("model name") or _part(first) or platform.machine(),
        index=0,
        told_by="/proc",
        kind="cpu",
        memory_gb=min((m for m in (total, limit) if m is not None), default=None),
        free_gb=min((m for m in (free, limit) if m is not None), default=None),
        power_w=_power(sys),
        units=len({_core(sys, n) for n in allowed}),
        cpu=Cpu(
            sockets=len({_core(sys, n)[0] for n in online}),
            cores=len({_core(sys, n) for n in online}),
            threads=len(online),
            may_use=min(len(allowed), quota or len(allowed)),
            numa_nodes=len(list((sys / "devices/system/node").glob("node[0-9]*"))) or 1,
            isa=_isa((first.get("flags") or first.get("Features") or "").split()),
            caches=_caches(sys, allowed),
            limit_gb=limit,
        ),
    )


def fields(text: str) -> dict[str, str]:
    """Lines of "name : value" as a mapping."""
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def read(file: Path) -> str:
    """A file of the kernel's; empty where there is none."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _isa(flags: Iterable[str]) -> tuple[str, ...]:
    named = {ISA[flag] for flag in flags if flag in ISA}
    return tuple(name for name in dict.fromkeys(ISA.values()) if name in named)


def _part(first: Mapping[str, str]) -> str | None:
    who, what = first.get("CPU implementer"), first.get("CPU part")
    if who is None or what is None:
        return None
    return _PARTS.get((int(who, 16), int(what, 16)), f"ARM {who} {what}")


def _processors(info: str) -> frozenset[int]:
    return frozenset(int(n) for n in re.findall(r"^processor\s*:\s*(\d+)", info, re.MULTILINE))


def _list(text: str) -> frozenset[int]:
    """The kernel's "0-3,8" as numbers."""
    spans = (span.partition("-") for span in text.split(",") if span)
    return frozenset(n for a, _, b in spans for n in range(int(a), int(b or a) + 1))


def _core(sys: Path, processor: int) -> tuple[str, str]:
    """Socket and core; each its own core where the kernel does not tell."""
    at = sys / f"devices/system/cpu/cpu{processor}/topology"
    return read(at / "physical_package_id") or "0", read(at / "core_id") or f"cpu{processor}"


def _caches(sys: Path, allowed: Iterable[int]) -> tuple[Cache, ...]:
    """Caches that the allowed processors share, each once however many of them share it."""
    seen: set[tuple[int, str, int, str]] = set()
    for n in allowed:
        for at in (sys / f"devices/system/cpu/cpu{n}/cache").glob("index[0-9]*"):
            level, kind, size = read(at / "level"), read(at / "type"), read(at / "size")
            if level and size[-1:] in _SIZES:
                bytes_ = int(size[:-1]) * _SIZES[size[-1]]
                seen.add((int(level), kind.lower(), bytes_, read(at / "shared_cpu_list")))
    counts = Counter(cache[:3] for cache in seen)
    return tuple(
        Cache(level=level, kind=kind, size=size, count=count)
        for (level, kind, size), count in sorted(counts.items())
    )


def _memory(meminfo: str) -> tuple[float | None, float | None]:
    """All memory, and what programs can still get, in GB."""
    lines = fields(meminfo)
    total, free = (lines.get(name, "").split() for name in ("MemTotal", "MemAvailable"))
    return _gb(total), _gb(free)


def _gb(words: list[str]) -> float | None:
    return int(words[0]) * 1024 / 1e9 if words else None


def _power(sys: Path) -> float | None:
    """The long-term power limit of all sockets in W, where RAPL tells it."""
    sockets = (sys / "class/powercap").glob("intel-rapl:[0-9]*")
    files = (at / "constraint_0_power_limit_uw" for at in sockets if at.name.count(":") == 1)
    limits = [int(text) / 1e6 for file in files if (text := read(file)).isdigit()]
    return sum(limits) if limits else None


def _quota(host: Host) -> float | None:
    """Processors' worth of time that the narrowest cgroup grants."""
    grants = [_share(read(at / "cpu.max").split()) for at in _groups(host, "")]
    for at in _groups(host, "cpu"):
        words = [read(at / f"cpu.cfs_{what}_us") for what in ("quota", "period")]
        grants.append(_share(words))
    return min((grant for grant in grants if grant is not None), default=None)


def _share(words: list[str]) -> float | None:
    if len(words) != 2 or not words[0].isdigit() or not words[1].isdigit():
        return None
    return int(words[0]) / int(words[1])


def _limit(host: Host) -> float | None:
    """The narrowest cgroup's memory limit in GB; the old cgroups write a huge number for none."""
    files = [at / "memory.max" for at in _groups(host, "")]
    files += [at / "memory.limit_in_bytes" for at in _groups(host, "memory")]
    limits = [int(text) for file in files if (text := read(file)).isdigit()]
    return min((limit / 1e9 for limit in limits if limit < _UNLIMITED), default=None)


def _groups(host: Host, controller: str) -> list[Path]:
    """Our cgroup's folder and all above it; `controller` names an old (v1) hierarchy, "" the new.

    In a container the path is often that of the host, and only the root is mounted.
    """
    mounted = host.root / "sys/fs/cgroup" / controller
    for line in read(host.root / "proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            inner = mounted / path.strip("/")
            return [at for at in (inner, *inner.parents) if at.is_relative_to(mounted)]
    return [mounted]
