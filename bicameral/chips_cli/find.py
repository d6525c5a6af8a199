"""`bicameral chips`: what is here, what was measured of it, and what its datasheet says."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from textwrap import wrap
from typing import Annotated, Any

import msgspec
import typer
from msgspec.structs import replace
from rich.table import Table
from rich.text import Text

from bicameral import terminal
from bicameral.chips import measure
from bicameral.chips.find import Found, Look, look
from bicameral.chips.measure import Measured
from bicameral.chips.probes.device import Cache, Cpu
from bicameral.errors import ChipError

_COLUMNS = ("chip", "cores", "GB free", "measured", "datasheet", "trust", "ratio", "W")
_LEVELS = {"data": "d", "instruction": "i"}


def chips(
    measuring: Annotated[
        bool | None,
        typer.Option(
            "--measure/--no-measure",
            help="Measure the CPU anew, or not at all; else once, and it is remembered.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One line of JSON with everything.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Every tool, by name.")] = False,
) -> None:
    """List the chips that are here: memory, measured and datasheet bandwidth, what could not look.

    Bandwidth is GB/s of 10^9 bytes. Only the CPU is measured; it takes one to three seconds.
    """
    with terminal.waiting("looking for chips…"):
        seen, unmeasured = _measured(look(), measuring)
    if json:
        sys.stdout.write(msgspec.json.encode(_plainly(seen)).decode() + "\n")
        return
    _show(seen, verbose)
    if unmeasured:
        _say(unmeasured, "yellow")


def _measured(seen: Look, measuring: bool | None) -> tuple[Look, str]:
    """The same with the CPU measured as asked, and why that was not possible."""
    first = next((found for found in seen.found if found.device.cpu), None)
    if measuring is False or first is None or (measuring is None and first.measured):
        return seen, ""
    try:
        now = replace(first, measured=measure.measure(first.device))
    except ChipError as error:
        if measuring:
            raise
        return seen, str(error)
    return replace(seen, found=(now, *seen.found[1:])), ""


def _show(seen: Look, verbose: bool) -> None:
    terminal.out.print(_table(seen.found))
    for found in seen.found:
        if found.device.cpu:
            _show_cpu(found.device.cpu, found.measured)
        if found.note:
            _say(f"{found.device.name}: {found.note}")
    if not seen.accelerators:
        _say("No accelerator was found: models run on the CPU.")
    for name, value in seen.narrowed.items():
        _say(f"{name}={value} is set: programs started from here may see fewer chips")
    _show_blind(seen, verbose)


def _table(found: Iterable[Found]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for place, column in enumerate(_COLUMNS):
        right = place > 0 and column != "trust"
        table.add_column(
            column, justify="right" if right else "left", no_wrap=right, overflow="fold"
        )
    for first, count in _alike(found):
        table.add_row(*_cells(first, count))
    return table


def _alike(found: Iterable[Found]) -> Iterator[tuple[Found, int]]:
    """Devices of one name and size as one row."""
    rows: dict[tuple[Any, ...], list[Found]] = {}
    for each in found:
        device = each.device
        key = (device.vendor, device.name, device.kind, device.memory_gb, device.power_w)
        rows.setdefault(key, []).append(each)
    for group in rows.values():
        frees = [f.device.free_gb for f in group if f.device.free_gb is not None]
        least = min(frees, default=None)
        yield replace(group[0], device=replace(group[0].device, free_gb=least)), len(group)


def _cells(found: Found, count: int) -> tuple[Text, ...]:
    device, sheet = found.device, found.datasheet
    doubt = "?" if sheet and sheet.doubt else ""
    texts = (
        f"{count} x {device.name}" if count > 1 else device.name,
        _figure(device.units, ""),
        "shared" if device.shared else f"{_figure(device.free_gb)}/{_figure(device.memory_gb)}",
        _figure(found.measured.bandwidth_gbs if found.measured else None, ".1f"),
        _figure(sheet.value if sheet else None),
        f"{sheet.trust.value}{doubt}" if sheet else "-",
        _figure(found.ratio, ".0%"),
        _figure(device.power_w, ".0f"),
    )
    return tuple(Text(text) for text in texts)


def _figure(value: float | None, form: str = ",.0f") -> str:
    return "-" if value is None else format(value, form)


def _show_cpu(cpu: Cpu, measured: Measured | None) -> None:
    used = f"{cpu.may_use:g} of {cpu.threads} processors are ours"
    limit = f"; memory limit {cpu.limit_gb:.1f} GB" if cpu.limit_gb else ""
    _say(f"CPU: {cpu.sockets} socket, {cpu.numa_nodes} NUMA node, {cpu.cores} cores; {used}{limit}")
    _say(f"has {' '.join(cpu.isa) or 'no instruction set that we look for'}")
    _say(f"caches: {', '.join(_cache(cache) for cache in cpu.caches) or 'unknown'}")
    if measured:
        _say(_rates(measured))


def _cache(cache: Cache) -> str:
    size = f"{cache.size / 2**20:g} MiB" if cache.size >= 2**20 else f"{cache.size / 2**10:g} KiB"
    many = f"{cache.count} x " if cache.count > 1 else ""
    return f"L{cache.level}{_LEVELS.get(cache.kind, '')} {many}{size}"


def _rates(m: Measured) -> str:
    near = m.beyond_cache is not None and m.beyond_cache < 1.5
    busy = m.load is not None and m.load > m.threads / 4
    return (
        f"measured {m.when[:10]}: reads {m.read_gbs:.1f} GB/s, copies {m.copy_gbs:.1f} "
        f"(read and written) with {m.threads} threads; {m.one_read_gbs:.1f} and "
        f"{m.one_copy_gbs:.1f} with one; {m.tflops:.3f} float32 TFLOP/s by {m.blas}"
        + (f"; arrays only {m.beyond_cache:g} x the last cache, which may help" if near else "")
        + (f"; others kept it busy (load {m.load:g}): measure again when idle" if busy else "")
    )


def _show_blind(seen: Look, verbose: bool) -> None:
    absent = [blind for blind in seen.blind if blind.absent]
    for blind in seen.blind:
        if verbose or not blind.absent:
            _say(blind.why, "" if blind.absent else "yellow")
    if absent and not verbose:
        _say(f"{len(absent)} vendor tools are not installed; -v names them", "dim")


def _say(line: str, style: str = "") -> None:
    for part in wrap(line, max(20, terminal.out.width - 4), subsequent_indent="  "):
        terminal.out.print(Text(f"  {part}", style=style))


def _plainly(seen: Look) -> Mapping[str, Any]:
    return {
        "chips": [_plain(found) for found in seen.found],
        "blind": seen.blind,
        "narrowed": seen.narrowed,
    }


def _plain(found: Found) -> Mapping[str, Any]:
    return {
        **msgspec.to_builtins(found),
        "chip": found.chip and found.chip.id,
        "datasheet_gbs": found.datasheet,
        "ratio": found.ratio,
    }
