"""Tools that only draw a table: npu-smi, cnmon, mthreads-gmi, mx-smi.

Every card takes two or three lines in it; a new version moves columns, so fields are known by
their form (a bus address, 1/2 MiB, 30 W/ 250 W) and not by their place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from bicameral.chips.probes.device import Device, Unread, address, gigabytes

ASCEND = ("npu-smi", "info")
CAMBRICON = ("cnmon",)
MOORE = ("mthreads-gmi",)
METAX = ("mx-smi",)

_BUS = re.compile(r"\b[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-9a-fA-F]\b")
_NPU = re.compile(r"^\|\s*(\d+)\s+(\S+)\s*\|\s*\S+\s*\|\s*(?:[\d.]+|-)\s")
_NPU_CHIP = re.compile(r"^\|\s*(\d+)\s*(\d*)\s*\|\s*[0-9a-fA-F]{4}:")
_USED_OF = re.compile(r"(\d+)\s*/\s*(\d+)")
_MLU = re.compile(r"^\|\s*(\d+)\s+\S+\s+(MLU\S+)\s")
_MTT = re.compile(r"^\s*(\d+)\s+(MTT[^|]*?)\s*\|.*?(\d+)MiB\((\d+)MiB\)")
_MX = re.compile(r"^\|\s*(\d+)\s+((?:MetaX |MX)\S+)\s")


def ascend(said: str) -> Sequence[Device]:
    """From `ASCEND`: a line of the card, then one of the chip on it; a 910C card has two.

    Indices count chips, as ASCEND_RT_VISIBLE_DEVICES does. Its power is a draw, not a limit.
    """
    version = _found(r"Version:\s*(\S+)", said)
    devices: list[Device] = []
    name = ""
    for line in said.splitlines():
        if name and (chip := _NPU_CHIP.match(line)):
            devices.append(_npu(name, chip.group(2) or len(devices), line, version))
            name = ""
        elif card := _NPU.match(line):
            name = card.group(2)
    return _some(devices, said)


def _npu(name: str, index: str | int, line: str, version: str | None) -> Device:
    # A 910 has DDR, which reads 0 / 0, before its HBM; a 310 has only the first.
    used, total = max(_USED_OF.findall(line), key=lambda pair: int(pair[1]))
    return Device(
        vendor="huawei",
        name=name if name.startswith("Ascend") else f"Ascend {name}",
        index=int(index),
        told_by=ASCEND[0],
        kind="npu",
        memory_gb=gigabytes(int(total)),
        free_gb=gigabytes(int(total) - int(used)),
        driver=version,
        bus=_bus(line),
    )


def cambricon(said: str) -> Sequence[Device]:
    """From `CAMBRICON`: name and firmware, then power and memory; the driver is in the head."""
    return _some(
        [
            Device(
                vendor="cambricon",
                name=f"Cambricon {head.group(2)}",
                index=int(head.group(1)),
                told_by=CAMBRICON[0],
                kind="npu",
                driver=_found(r"Driver (v\S+)", said) or _found(r"On\s+(v[\d.]+)", line),
                bus=_bus(line),
                **_figures(below),
            )
            for head, line, below in _pairs(_MLU, said)
        ],
        said,
    )


def metax(said: str) -> Sequence[Device]:
    """From `METAX`: name and bus, then power and memory."""
    return _some(
        [
            Device(
                vendor="metax",
                name=head.group(2).replace("MXC", "MetaX C"),
                index=int(head.group(1)),
                told_by=METAX[0],
                driver=_found(r"Driver Version:\s*(\S+)", said),
                bus=_bus(line),
                **_figures(below),
            )
            for head, line, below in _pairs(_MX, said)
        ],
        said,
    )


def moore(said: str) -> Sequence[Device]:
    """From `MOORE`: name, bus and used memory (of all) in one line."""
    return _some(
        [
            Device(
                vendor="moore-threads",
                name=f"Moore Threads {card.group(2)}",
                index=int(card.group(1)),
                told_by=MOORE[0],
                memory_gb=gigabytes(int(card.group(4))),
                free_gb=gigabytes(int(card.group(4)) - int(card.group(3))),
                driver=_found(r"Driver Version:\s*(\S+)", said),
                bus=_bus(line),
            )
            for line in said.splitlines()
            if (card := _MTT.match(line))
        ],
        said,
    )


def _pairs(head: re.Pattern[str], said: str) -> Iterator[tuple[re.Match[str], str, str]]:
    """Each card's first line with the line below it."""
    for line, below in pairwise(said.splitlines()):
        if found := head.match(line):
            yield found, line, below


def _figures(line: str) -> dict[str, Any]:
    """Memory and power limit from "30 W/ 250 W | 0 MiB/ 23374 MiB" or "69W / 350W | 1/2 MiB"."""
    memory = re.search(r"(\d+)\s*(?:MiB)?\s*/\s*(\d+)\s*MiB", line)
    power = re.search(r"W\s*/\s*(\d+)\s*W", line)
    used, total = (int(memory.group(1)), int(memory.group(2))) if memory else (None, None)
    return {
        "memory_gb": gigabytes(total),
        "free_gb": None if total is None or used is None else gigabytes(total - used),
        "power_w": float(power.group(1)) if power else None,
    }


def _some(devices: list[Device], said: str) -> list[Device]:
    """The devices; a drawing that holds none is one that this reader does not know."""
    if not devices and said.strip():
        raise Unread(said)
    return devices


def _bus(line: str) -> str | None:
    found = _BUS.search(line)
    return address(found.group()) if found else None


def _found(pattern: str, said: str) -> str | None:
    match = re.search(pattern, said)
    return match.group(1) if match else None
