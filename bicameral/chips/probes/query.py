"""Tools that answer a query with comma-separated lines: nvidia-smi, ixsmi, hl-smi.

The three take the same words (NVIDIA's manual; Iluvatar and Habana followed it). All count in MiB.
"""

from __future__ import annotations

from collections.abc import Sequence

from bicameral.chips.probes.device import (
    Device,
    Unread,
    address,
    gigabytes,
    number,
    text_or_none,
    whole,
)

_ASKED = ("index", "name", "memory.total", "memory.free", "driver_version", "power.limit")
NVIDIA = (
    "nvidia-smi",
    "--query-gpu=" + ",".join((*_ASKED, "pci.bus_id")),
    "--format=csv,noheader,nounits",
)
ILUVATAR = (
    "ixsmi",
    "--query-gpu=" + ",".join((*_ASKED[:5], "pci.bus_id")),
    "--format=csv,noheader,nounits",
)
# Without "nounits": Habana's documentation does not say which unit would be left out.
HABANA = ("hl-smi", "-Q", ",".join((*_ASKED[:5], "bus_id")), "-f", "csv,noheader")
# Habana names boards, not chips (its System Management Interface guide).
_BOARDS = {"HL-2": "Intel Gaudi 2", "HL-3": "Intel Gaudi 3"}


def nvidia(said: str) -> Sequence[Device]:
    """From `NVIDIA`. GPUs that share the host's memory print [N/A] for it."""
    return [
        _device("nvidia", row, power_w=number(row[5]), bus=address(row[6]))
        for row in _rows(said, 7, "No devices were found")
    ]


def iluvatar(said: str) -> Sequence[Device]:
    """From `ILUVATAR`. Untested: only the query was seen in use, never an answer."""
    return [_device("iluvatar", row, bus=address(row[5])) for row in _rows(said, 6)]


def habana(said: str) -> Sequence[Device]:
    """From `HABANA`; boards are called by the name of their chip."""
    return [
        _device("intel", [row[0], _board(row[1]), *row[2:]], bus=address(row[5]), kind="npu")
        for row in _rows(said, 6)
    ]


def _board(name: str) -> str:
    return next((f"{chip} ({name})" for mark, chip in _BOARDS.items() if name[:4] == mark), name)


def _rows(said: str, width: int, none: str = "") -> list[list[str]]:
    """Lines of so many fields; others are warnings, unless there is nothing else."""
    lines = [line for line in said.splitlines() if line.strip()]
    split = [[field.strip() for field in line.split(",")] for line in lines]
    rows = [row for row in split if len(row) == width and row[0].isdigit() and row[1][:1] != "["]
    if lines and not rows and not (none and none in said):
        raise Unread(lines[0])
    return rows


def _device(vendor: str, row: Sequence[str], **more: object) -> Device:
    common: dict[str, object] = {
        "vendor": vendor,
        "index": whole(row[0]),
        "name": row[1],
        "told_by": {"nvidia": NVIDIA, "iluvatar": ILUVATAR, "intel": HABANA}[vendor][0],
        "memory_gb": gigabytes(number(row[2])),
        "free_gb": gigabytes(number(row[3])),
        "driver": text_or_none(row[4]),
    }
    return Device(**(common | more))  # type: ignore[arg-type]
