"""Tools that answer in JSON: amd-smi, rocm-smi, hy-smi, xpu-smi and macOS's system_profiler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from bicameral.chips.probes.device import (
    MIB,
    Device,
    Unread,
    address,
    gigabytes,
    number,
    text_or_none,
    whole,
)

AMD = ("amd-smi", "static", "--asic", "--bus", "--vram", "--driver", "--limit", "--json")
_SHOW = ("--showproductname", "--showmeminfo", "vram", "--showmaxpower", "--showbus")
ROCM = ("rocm-smi", *_SHOW, "--showdriverversion", "--json")
HYGON = ("hy-smi", *_SHOW, "--json")
INTEL = ("xpu-smi", "discovery", "-j")
APPLE = ("system_profiler", "SPDisplaysDataType", "-json")
_UNITS = {"B": 1.0, "KB": 2.0**10, "MB": 2.0**20, "GB": 2.0**30}


def amd(said: str) -> Sequence[Device]:
    """From `AMD`: a list of GPUs, since ROCm 7 under "gpu_data"; "MB" are MiB."""
    body = _json(said)
    rows = body.get("gpu_data", [body]) if isinstance(body, dict) else body
    return [_instinct(row) for row in rows]


def _instinct(row: Mapping[str, Any]) -> Device:
    asic, size = row["asic"], row.get("vram", {}).get("size")
    return Device(
        vendor="amd",
        name=str(asic["market_name"]),
        index=int(row["gpu"]),
        told_by=AMD[0],
        memory_gb=_sized(size),
        driver=text_or_none(row.get("driver", {}).get("version")),
        power_w=number(_value(row.get("limit", {}).get("max_power"))),
        units=whole(asic.get("num_compute_units")),
        bus=address(row.get("bus", {}).get("bdf")),
    )


def _value(cell: Any) -> Any:
    return cell.get("value") if isinstance(cell, dict) else cell


def _sized(size: Any) -> float | None:
    unit = size.get("unit", "MB") if isinstance(size, dict) else "MB"
    amount = number(_value(size))
    return None if amount is None else amount * _UNITS[unit] / 1e9


def rocm(said: str) -> Sequence[Device]:
    """From `ROCM`: "card0" and so on, and "system" with the driver."""
    return _cards(said, "amd", ROCM[0], "AMD GPU")


def hygon(said: str) -> Sequence[Device]:
    """From `HYGON`, which grew from rocm-smi and counts in MiB under like names."""
    return _cards(said, "hygon", HYGON[0], "Hygon DCU")


def _cards(said: str, vendor: str, tool: str, plain: str) -> list[Device]:
    body = _json(said)
    driver = text_or_none(body.get("system", {}).get("Driver version"))
    cards = {key: row for key, row in body.items() if key.startswith("card")}
    if body and not cards:
        raise Unread(said)
    return [_card(key, row, vendor, tool, plain, driver) for key, row in cards.items()]


def _card(
    key: str, row: Mapping[str, Any], vendor: str, tool: str, plain: str, driver: str | None
) -> Device:
    cell = {name.casefold(): value for name, value in row.items()}
    total, used = _vram(cell, "total memory"), _vram(cell, "total used memory")
    return Device(
        vendor=vendor,
        name=text_or_none(cell.get("card series")) or plain,
        index=int(key.removeprefix("card")),
        told_by=tool,
        memory_gb=total,
        free_gb=None if total is None or used is None else total - used,
        driver=driver,
        power_w=number(cell.get("max graphics package power (w)")),
        bus=address(cell.get("pci bus")),
    )


def _vram(cell: Mapping[str, Any], what: str) -> float | None:
    bytes_, mib = number(cell.get(f"vram {what} (b)")), number(cell.get(f"vram {what} (mib)"))
    return gigabytes(mib) if bytes_ is None else bytes_ / 1e9


def intel(said: str) -> Sequence[Device]:
    """From `INTEL`; virtual functions and what is no GPU are left out."""
    body = _json(said)
    return [
        Device(
            vendor="intel",
            name=str(row["device_name"]),
            index=int(row["device_id"]),
            told_by=INTEL[0],
            memory_gb=gigabytes(_mib(row.get("memory_physical_size_byte"))),
            driver=text_or_none(row.get("driver_version")),
            units=whole(row.get("number_of_eus")),
            bus=address(row.get("pci_bdf_address")),
        )
        for row in body["device_list"]
        if row.get("device_type", "GPU") == "GPU"
        and row.get("device_function_type", "physical") == "physical"
    ]


def _mib(size: Any) -> float | None:
    amount = number(size)
    return None if amount is None else amount / MIB


def apple(said: str) -> Sequence[Device]:
    """From `APPLE`; an Apple GPU has the CPU's memory, so none of its own is given."""
    rows = _json(said)["SPDisplaysDataType"]
    return [
        Device(
            vendor="apple",
            name=str(row.get("sppci_model") or row["_name"]),
            index=index,
            told_by=APPLE[0],
            units=whole(row.get("sppci_cores")),
            shared=True,
        )
        for index, row in enumerate(rows)
        if "Apple" in str(row.get("spdisplays_vendor", "")) or "Apple" in str(row.get("_name", ""))
    ]


def _json(said: str) -> Any:
    """The JSON in `said`; some of these tools print a warning before it."""
    start = min((at for at in (said.find("{"), said.find("[")) if at >= 0), default=-1)
    if start < 0:
        if said.strip():
            raise Unread(said)
        return {}
    return msgspec.json.decode(said[start:].strip())
