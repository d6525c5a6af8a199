"""What hangs on the PCI bus, as Linux tells in /sys: accelerators that no tool spoke of.

This is how an Intel NPU, a Coral, a card without its driver and one that fell off its driver are
seen. Vendor ids are the PCI registry's; names of products are not kept here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from msgspec.structs import replace

from bicameral.chips.probes.device import Blind, Device
from bicameral.chips.probes.tool import Host

# Vendor id: our name, what people call it, its tool.
_VENDORS = {
    0x10DE: ("nvidia", "NVIDIA", "nvidia-smi"),
    0x1002: ("amd", "AMD", "amd-smi or rocm-smi"),
    0x8086: ("intel", "Intel", "xpu-smi"),
    0x1DA3: ("intel", "Intel Gaudi", "hl-smi"),
    0x19E5: ("huawei", "Huawei Ascend", "npu-smi"),
    0xCABC: ("cambricon", "Cambricon", "cnmon"),
    0x1ED5: ("moore-threads", "Moore Threads", "mthreads-gmi"),
    0x1D94: ("hygon", "Hygon", "hy-smi"),
    0x9999: ("metax", "MetaX", "mx-smi"),
    0x1E3E: ("iluvatar", "Iluvatar", "ixsmi"),
    0x1AC1: ("google", "Google Coral", ""),
    0x1AE0: ("google", "Google TPU", ""),
    0x1E52: ("tenstorrent", "Tenstorrent", ""),
    0x1E60: ("hailo", "Hailo", ""),
    0x17CB: ("qualcomm", "Qualcomm", ""),
    0x1022: ("amd", "AMD", ""),
}
_DISPLAY, _ACCELERATOR = 0x03, 0x12
# A Coral calls itself a system device, and is all that its vendor makes.
_CORAL = (0x1AC1, 0x08)
# Their tools tell of GPUs only.
_NO_NPU = ("Intel", "AMD")


def unspoken(host: Host, told: Iterable[Device]) -> tuple[tuple[Device, ...], tuple[Blind, ...]]:
    """Devices on the bus that none of `told` is, and what would tell more of each vendor's.

    A vendor whose tool gives no addresses is believed to have told of all of its cards.
    """
    told = tuple(told)
    buses = {device.bus for device in told}
    trusted = {device.vendor for device in told if device.bus is None}
    found = tuple(d for d in on_the_bus(host) if d.bus not in buses and d.vendor not in trusted)
    return found, tuple(_hints(found))


def on_the_bus(host: Host) -> tuple[Device, ...]:
    """Every display controller or accelerator of a vendor that we know; virtual functions not.

    An accelerator says so by its class, or because a driver of Linux's accel subsystem has it.
    """
    folder = host.root / "sys/bus/pci/devices"
    if not folder.is_dir():
        return ()
    seen = [device for at in sorted(folder.iterdir()) if (device := _device(at))]
    return tuple(_numbered(seen))


def _device(at: Path) -> Device | None:
    vendor, kind = _hex(at / "vendor") or 0, (_hex(at / "class") or 0) >> 16
    counts = kind in (_DISPLAY, _ACCELERATOR) or (vendor, kind) == _CORAL
    if (at / "accel").is_dir():
        counts, kind = True, _ACCELERATOR
    if not counts or vendor not in _VENDORS or (at / "physfn").exists():
        return None
    ours, called, _ = _VENDORS[vendor]
    total, used = (_count(at / f"mem_info_vram_{what}") for what in ("total", "used"))
    driver, cap = at / "driver", next(iter(at.glob("hwmon/hwmon*/power1_cap")), at / "none")
    return Device(
        vendor=ours,
        name=f"{called} {'GPU' if kind == _DISPLAY else 'NPU'} {_hex(at / 'device') or 0:04x}",
        index=0,
        told_by="/sys",
        kind="gpu" if kind == _DISPLAY else "npu",
        memory_gb=total and total / 1e9,
        free_gb=None if total is None or used is None else (total - used) / 1e9,
        driver=driver.resolve().name if driver.exists() else None,
        power_w=None if (microwatts := _count(cap)) is None else microwatts / 1e6,
        bus=at.name,
    )


def _numbered(seen: Iterable[Device]) -> Iterable[Device]:
    counts: dict[str, int] = {}
    for device in seen:
        index = counts.get(device.vendor, 0)
        counts[device.vendor] = index + 1
        yield replace(device, index=index)


def _hints(found: Iterable[Device]) -> Iterable[Blind]:
    """One line a vendor: its chips are there, but only their place on the bus is known."""
    counts: dict[tuple[str, str], int] = {}
    for device in found:
        called, tool = next(v[1:] for v in _VENDORS.values() if device.name.startswith(f"{v[1]} "))
        tool = "" if device.kind == "npu" and called in _NO_NPU else tool
        counts[device.vendor, tool] = counts.get((device.vendor, tool), 0) + 1
    for (vendor, tool), count in counts.items():
        more = f": install {tool} or see why it fails" if tool else "; no tool of it is known here"
        why = f"{count} of {vendor} seen on the PCI bus that no tool told of{more}"
        yield Blind(tool="/sys", vendor=vendor, why=why)


def _hex(file: Path) -> int | None:
    text = _read(file)
    return int(text, 16) if text else None


def _count(file: Path) -> int | None:
    text = _read(file)
    return int(text) if text and text.isdigit() else None


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
