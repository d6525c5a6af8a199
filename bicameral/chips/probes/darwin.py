"""The CPU of a Mac, by sysctl. Written from recorded output; no Mac was at hand."""

from __future__ import annotations

from bicameral.chips.probes.cpu import ISA, fields
from bicameral.chips.probes.device import Cache, Cpu, Device, Unread, whole

COMMAND = ("sysctl", "machdep.cpu", "hw")
_FEATURES = {
    "hw.optional.neon": "neon",
    "hw.optional.AdvSIMD": "neon",
    "hw.optional.arm.FEAT_DotProd": "dotprod",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_BF16": "bf16",
    "hw.optional.arm.FEAT_SME": "sme",
    "hw.optional.f16c": "f16c",
    "hw.optional.avx1_0": "avx",
    "hw.optional.avx2_0": "avx2",
    "hw.optional.avx512f": "avx512f",
}


def mac(said: str) -> tuple[Device, ...]:
    """From `COMMAND`. Caches are of the first performance level, the fastest cores'."""
    told = fields(said)
    name = told.get("machdep.cpu.brand_string")
    if name is None:
        raise Unread(said)
    cores = whole(told.get("hw.physicalcpu")) or 1
    threads = whole(told.get("hw.logicalcpu")) or cores
    memory = whole(told.get("hw.memsize"))
    has = {ours for theirs, ours in _FEATURES.items() if told.get(theirs) == "1"}
    return (
        Device(
            vendor="apple" if name.startswith("Apple") else "intel",
            name=name,
            index=0,
            told_by=COMMAND[0],
            kind="cpu",
            memory_gb=memory and memory / 1e9,
            units=cores,
            cpu=Cpu(
                sockets=whole(told.get("hw.packages")) or 1,
                cores=cores,
                threads=threads,
                may_use=threads,
                numa_nodes=1,
                isa=tuple(name for name in dict.fromkeys(ISA.values()) if name in has),
                caches=tuple(_caches(told)),
            ),
        ),
    )


def _caches(told: dict[str, str]) -> list[Cache]:
    names = ((1, "data", "l1dcachesize"), (2, "unified", "l2cachesize"))
    found = []
    for level, kind, name in names:
        size = whole(told.get(f"hw.perflevel0.{name}") or told.get(f"hw.{name}"))
        sharers = whole(told.get("hw.perflevel0.cpusperl2")) if level == 2 else 1
        cores = whole(told.get("hw.perflevel0.physicalcpu") or told.get("hw.physicalcpu")) or 1
        if size:
            count = max(1, cores // (sharers or cores))
            found.append(Cache(level=level, kind=kind, size=size, count=count))
    return found
