"""Which chips are here: what each vendor's own tool says, the catalogue, and what was measured.

Nothing of what is present is remembered between calls, so a chip that vanished is not in the next
answer; `missing` says why.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import msgspec

from bicameral.chips import measure
from bicameral.chips.catalogue import Catalogue, shipped
from bicameral.chips.chip import Chip, Fact
from bicameral.chips.measure import Measured
from bicameral.chips.names import row
from bicameral.chips.probes import boxes, cpu, darwin, pci, query, spoken
from bicameral.chips.probes.device import Blind, Device
from bicameral.chips.probes.tool import Host, Tool, ask

# Of one vendor's tools the next is asked where the one before it told of nothing.
TOOLS: tuple[tuple[Tool, ...], ...] = (
    (Tool(vendor="nvidia", command=query.NVIDIA, read=query.nvidia),),
    (
        Tool(vendor="amd", command=spoken.AMD, read=spoken.amd),
        Tool(vendor="amd", command=spoken.ROCM, read=spoken.rocm),
    ),
    (Tool(vendor="intel", command=spoken.INTEL, read=spoken.intel),),
    (Tool(vendor="intel", command=query.HABANA, read=query.habana),),
    (Tool(vendor="apple", command=spoken.APPLE, read=spoken.apple, system="darwin"),),
    (Tool(vendor="huawei", command=boxes.ASCEND, read=boxes.ascend),),
    (Tool(vendor="cambricon", command=boxes.CAMBRICON, read=boxes.cambricon),),
    (Tool(vendor="moore-threads", command=boxes.MOORE, read=boxes.moore),),
    (Tool(vendor="metax", command=boxes.METAX, read=boxes.metax),),
    (Tool(vendor="hygon", command=spoken.HYGON, read=spoken.hygon),),
    (Tool(vendor="iluvatar", command=query.ILUVATAR, read=query.iluvatar, sampled=False),),
)
_MAC = Tool(vendor="apple", command=darwin.COMMAND, read=darwin.mac, system="darwin")


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A device that is here now, its row of the catalogue, and what was measured of it.

    `parts`: so many such devices make one of the row's chip. `note`: why a row of that name was
    not taken, or that no reader for this tool was ever tried.
    """

    device: Device
    chip: Chip | None = None
    parts: int = 1
    measured: Measured | None = None
    note: str = ""

    @property
    def datasheet(self) -> Fact | None:
        """Memory bandwidth in GB/s as the catalogue has it, of this device alone."""
        fact = self.chip.bandwidth_gbs if self.chip else None
        if fact is None or self.parts == 1:
            return fact
        shares = {
            end: None if (x := getattr(fact, end)) is None else x / self.parts for end in _ENDS
        }
        return msgspec.structs.replace(fact, **shares)

    @property
    def ratio(self) -> float | None:
        """Measured over datasheet bandwidth, where both are known."""
        fact = self.datasheet
        return self.measured.bandwidth_gbs / fact.value if self.measured and fact else None


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, the CPU first, and which tools could not look.

    `narrowed`: environment variables that let programs see fewer chips than the tools do.
    """

    found: tuple[Found, ...]
    blind: tuple[Blind, ...]
    narrowed: Mapping[str, str]

    @property
    def accelerators(self) -> tuple[Found, ...]:
        """All but the CPU."""
        return tuple(found for found in self.found if found.device.kind != "cpu")


_ENDS = ("value", "low", "high")
_NARROW = (
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "ZE_AFFINITY_MASK",
    "HABANA_VISIBLE_DEVICES",
    "ASCEND_RT_VISIBLE_DEVICES",
    "MLU_VISIBLE_DEVICES",
    "MUSA_VISIBLE_DEVICES",
)


def here() -> tuple[Found, ...]:
    """The chips of this machine that can be seen now; the CPU is always the first."""
    return look().found


def chips() -> tuple[Chip, ...]:
    """The catalogue's rows of what is here, once for each chip; what it does not know is left out.

    Dies of one card, where the tool counts those, make one chip together.
    """
    known = [(f.chip, f.parts) for f in here() if f.chip]
    rows = {chip.id: (chip, known.count((chip, parts)) // parts) for chip, parts in known}
    return tuple(chip for chip, count in rows.values() for _ in range(count))


def look(host: Host | None = None, catalogue: Catalogue | None = None) -> Look:
    """Ask every tool at once; one that fails or hangs only blinds itself.

    Takes as long as the slowest vendor: at most some six seconds for each tool that it has.
    """
    host, catalogue = host or Host(), catalogue or shipped()
    groups = [[t for t in tools if t.system == host.system] for tools in TOOLS]
    with ThreadPoolExecutor(max_workers=len(groups)) as pool:
        answers = list(pool.map(lambda tools: _asked(tools, host), groups))
    told = _once(device for devices, _ in answers for device in devices)
    rest, hints = pci.unspoken(host, told)
    devices, blind = _cpu(host)
    return Look(
        found=tuple(_found(device, catalogue) for device in (*devices, *told, *rest)),
        blind=(*blind, *(b for _, why in answers for b in why), *hints),
        narrowed={name: os.environ[name] for name in _NARROW if name in os.environ},
    )


def missing(before: Iterable[Found], now: Look) -> tuple[tuple[Found, str], ...]:
    """Each of `before` that is not in `now`, and why: gone, or its tool cannot look any more."""
    present = {_identity(found.device) for found in now.found}
    return tuple(
        (found, _why(found.device, now))
        for found in before
        if _identity(found.device) not in present
    )


def _identity(device: Device) -> tuple[str, str]:
    return device.vendor, device.bus or f"{device.kind} {device.index} {device.name}"


def _why(device: Device, now: Look) -> str:
    told = [blind.why for blind in now.blind if blind.tool == device.told_by]
    return told[0] if told else f"{device.told_by} does not tell of it any more"


def _asked(tools: Iterable[Tool], host: Host) -> tuple[tuple[Device, ...], tuple[Blind, ...]]:
    blinds: list[Blind] = []
    for tool in tools:
        devices, blind = ask(tool, host)
        blinds += [blind] if blind else []
        if devices:
            return devices, tuple(b for b in blinds if not b.absent)
    return (), tuple(blinds)


def _once(devices: Iterable[Device]) -> tuple[Device, ...]:
    """Two tools may tell of one card, as rocm-smi and hy-smi do of a Hygon: the first counts."""
    seen: dict[str, Device] = {}
    for device in devices:
        seen.setdefault(device.bus or f"{device.told_by} {device.index}", device)
    return tuple(seen.values())


def _cpu(host: Host) -> tuple[tuple[Device, ...], tuple[Blind, ...]]:
    if host.system == "linux":
        return (cpu.linux(host),), ()
    if host.system != "darwin":
        why = f"the CPU cannot be looked at on {host.system}, only on linux and darwin"
        return (), (Blind(tool="cpu", vendor="cpu", why=why),)
    devices, blind = ask(_MAC, host)
    return devices, (blind,) if blind else ()


def _found(device: Device, catalogue: Catalogue) -> Found:
    chip, parts, note = row(device, catalogue)
    measured = measure.remembered(device) if device.kind == "cpu" else None
    return Found(
        device=device, chip=chip, parts=parts, measured=measured, note=note or _unsure(device)
    )


def _unsure(device: Device) -> str:
    tools = (tool for group in TOOLS for tool in group)
    untried = any(tool.name == device.told_by and not tool.sampled for tool in tools)
    return f"untested: no output of {device.told_by} was at hand" if untried else ""
