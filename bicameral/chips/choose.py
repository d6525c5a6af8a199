"""The chip for one model on this machine: what `chip = "auto"` comes to.

The planner is asked for one request an hour on each chip alone, and the fastest is taken. A CPU is
taken only if it was measured or is all there is, as it cannot be forecast.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress

import msgspec
from msgspec.structs import replace

from bicameral.chips.catalogue import shipped
from bicameral.chips.chip import Chip, Fact, Trust
from bicameral.chips.find import Found, Look
from bicameral.chips.network import Network
from bicameral.chips.plan import plan
from bicameral.chips.planned import Seen
from bicameral.chips.roofline import Precision
from bicameral.chips.workload import Goal, Load, Measured, Model, Pool, Workload
from bicameral.chips.workload_file import CPU
from bicameral.errors import ChipError, ConfigError

# What each vendor's chips are called in `chip = "cuda:0"`.
_KINDS = {
    "nvidia": "cuda",
    "amd": "rocm",
    "huawei": "npu",
    "cambricon": "mlu",
    "moore-threads": "musa",
}
_READ, _WRITTEN = 1024.0, 256.0  # tokens of the one request, unless it was measured with others
_SHOWN = 6


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A chip of this machine as a config names it ("cuda:0", "cpu").

    `chip` has the memory that is free now; None: the catalogue does not know it. `called` is its
    tool's name for it.
    """

    name: str
    called: str
    chip: Chip | None
    free_gb: float | None = None

    @property
    def cpu(self) -> bool:
        """Whether it is the CPU."""
        return self.name == "cpu"


class Candidates(msgspec.Struct, frozen=True):
    """The chips that a server may run on, and why others, or tools, are left out."""

    every: tuple[Candidate, ...]
    left_out: tuple[str, ...] = ()


class Choice(msgspec.Struct, frozen=True):
    """A chip as a config names it, and why it was taken."""

    chip: str
    reason: str


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The model that looks for a chip; `network` None: its shape is not known.

    `measured`: rows of it as in a workload; those for chips that are not here are left out.
    """

    name: str
    network: Network | None
    precision: Precision = Precision(weights="bf16", experts="bf16")
    measured: tuple[Measured, ...] = ()


def candidates(seen: Look, kinds: Mapping[str, str]) -> Candidates:
    """The chips of `kinds`, each with the environment variable that narrows what programs see."""
    every: list[Candidate] = []
    left: list[str] = [f"{blind.tool}: {blind.why}" for blind in seen.blind if not blind.absent]
    for found in seen.found:
        device = found.device
        kind = "cpu" if device.kind == "cpu" else _KINDS.get(device.vendor, "")
        if kind not in kinds:
            left.append(f"{device.name}: this server does not run on it")
        elif device.told_by == "/sys":  # which may have no driver, and counts in its own order
            left.append(f"{device.name}: only the PCI bus tells of it")
        elif why := _hidden(device.index, kinds[kind], seen.narrowed):
            left.append(f"{kind}:{device.index} {why}")
        else:
            name = kind if kind == "cpu" else f"{kind}:{device.index}"
            every.append(_candidate(name, found))
    return Candidates(tuple(every), tuple(left))


def _hidden(index: int, variable: str, narrowed: Mapping[str, str]) -> str:
    """Why a program started from here does not see the device; empty if it does."""
    if variable not in narrowed:
        return ""
    words = [word.strip() for word in narrowed[variable].split(",") if word.strip()]
    if not all(word.isdecimal() for word in words):
        return f"may be hidden: {variable} names chips otherwise than by number"
    return "" if str(index) in words else f"is hidden by {variable}"


def _candidate(name: str, found: Found) -> Candidate:
    device, chip = found.device, found.chip
    if name == "cpu":
        return Candidate(name=name, called=device.name, chip=chip or CPU)
    if chip is not None and found.parts > 1:
        chip = _part(chip, found.parts)
    if chip is not None and device.free_gb is not None:
        chip = _free(chip, device.free_gb)
    return Candidate(name=name, called=device.name, chip=chip, free_gb=device.free_gb)


def _part(chip: Chip, parts: int) -> Chip:
    """One of the dies that its tool counts, of a card that the catalogue counts as one."""

    def share(fact: Fact) -> Fact:
        low, high = (end if end is None else end / parts for end in (fact.low, fact.high))
        return replace(fact, value=fact.value / parts, low=low, high=high)

    facts = {f: share(getattr(chip, f)) for f in ("memory_gb", "bandwidth_gbs") if getattr(chip, f)}
    peaks = tuple(share(peak) for peak in chip.peaks)
    return replace(chip, name=f"1/{parts} of {chip.name}", peaks=peaks, **facts)


def _free(chip: Chip, free: float) -> Chip:
    """The chip with no more memory than is free now."""
    memory = chip.memory_gb
    if memory is not None and memory.value <= free:
        return chip
    return replace(chip, memory_gb=Fact(value=free, source="its tool", trust=Trust.MEASURED))


def choose(asked: Asked, among: Candidates, busy: Collection[str] = ()) -> Choice:
    """The chip to take, and why; one that is `busy` only if no other will do.

    Raises ChipError with the planner's own words if none can run it, ConfigError with what to say
    if too little is known to choose.
    """
    able = _able(asked, among)
    if len(able) == 1:
        return Choice(able[0].name, "it is the only one here")
    idle = [c for c in able if c.name not in busy]
    if asked.network is None and not all(_rows(asked, c) for c in able):
        return _unknown(asked, able, idle)
    if not any(c.chip for c in able):
        raise ConfigError(f"{_at(asked)}: the catalogue knows none of {_names(able)}: name one")
    with suppress(ChipError):
        if any(c.chip for c in idle):
            return _planned(asked, _distinct(idle))
    return _planned(asked, _distinct(able))


def _able(asked: Asked, among: Candidates) -> list[Candidate]:
    """Those to choose from: a CPU that nobody measured is no choice beside anything else."""
    able = [c for c in among.every if not c.cpu or _rows(asked, c)] or list(among.every)
    if not able:
        shown = "; ".join(among.left_out[:_SHOWN]) or "no tool tells of one"
        raise ChipError(f"{_at(asked)}: there is no chip here that its server runs on: {shown}")
    return able


def _rows(asked: Asked, candidate: Candidate) -> tuple[Measured, ...]:
    """The model's measurements on that chip, whichever precision they were taken in."""
    names = {candidate.name, candidate.chip.id if candidate.chip else ""}
    return tuple(
        replace(row, model=asked.name, chip=candidate.name, precision="")
        for row in asked.measured
        if _chip(asked, row) in names
    )


def _chip(asked: Asked, row: Measured) -> str:
    """The chip of a row, as a config or the catalogue names it; ConfigError if neither does."""
    if row.chip == "cpu" or row.chip.partition(":")[0] in _KINDS.values():
        return row.chip
    try:
        return shipped().chip(row.chip).id
    except ConfigError as error:
        raise ConfigError(f"[models.{asked.name}] measured: {error}") from error


def _unknown(asked: Asked, able: Sequence[Candidate], idle: Sequence[Candidate]) -> Choice:
    """Chips that are all alike need no plan; others do."""
    if len({c.called for c in able}) > 1:
        raise ConfigError(
            f"{_at(asked)}: the shape of its network is not known, so {_names(able)} cannot be "
            "compared: give network, the path of its config.json or GGUF file, or name the chip"
        )
    best = max(idle or able, key=lambda c: c.free_gb or 0.0)
    return Choice(best.name, f"{len(able)} alike are here ({best.called}); most memory is free")


def _distinct(able: Iterable[Candidate]) -> list[Candidate]:
    """Of chips alike the one with most free memory, as the plan would take any of them."""
    found: dict[str, Candidate] = {}
    for each in able:
        if each.chip is not None:
            before = found.get(each.chip.id)
            if before is None or (each.free_gb or 0.0) > (before.free_gb or 0.0):
                found[each.chip.id] = each
    return list(found.values())


def _planned(asked: Asked, able: Sequence[Candidate]) -> Choice:
    """The fastest of the plans of each alone; raises as the plan of all together if none fits.

    One plan of them all would not tell them apart: to it a replica that is hardly used costs the
    same whatever its speed.
    """
    found: list[tuple[float, str, Candidate]] = []
    for each in able:
        with suppress(ChipError, ConfigError):
            work = _work(asked, [each])
            (seen,) = plan(work).seen
            whole = seen.first.value + work.load.written.mean * seen.token.value
            found.append((whole, _said(each, seen), each))
    if not found:
        plan(_work(asked, able))
        raise ChipError(f"{_at(asked)}: none of {_names(able)} alone can run it")
    (_, said, best), *others = sorted(found, key=lambda each: each[0])
    beside = f"; next best {others[0][2].name}, {others[0][1]}" if others else ""
    return Choice(best.name, f"{said}{beside}")


def _said(candidate: Candidate, seen: Seen) -> str:
    first, token = seen.first.value, seen.token.value * 1e3
    return f"{candidate.called}: {first:.3g} s and {token:.3g} ms a token, {seen.token.way}"


def _work(asked: Asked, able: Sequence[Candidate]) -> Workload:
    rows = tuple(row for c in able for row in _rows(asked, c))
    first = rows[0] if rows else None
    model = Model(name=asked.name, network=asked.network, precisions=(asked.precision,), share=1.0)
    return Workload(
        models=(model,),
        pools=tuple(
            Pool(name=c.name, chip=c.chip, count=1, per_node=1) for c in able if c.chip is not None
        ),
        load=Load(
            requests_per_hour=1.0,
            input=(first and first.input) or _READ,
            output=(first and first.output) or _WRITTEN,
        ),
        goal=Goal(minimise="latency"),
        measured=rows,
        source=_at(asked),
    )


def _at(asked: Asked) -> str:
    return f'[models.{asked.name}] chip = "auto"'


def _names(able: Sequence[Candidate]) -> str:
    return ", ".join(f"{c.name} ({c.called})" for c in able)
