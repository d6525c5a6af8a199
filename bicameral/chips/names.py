"""Which row of the catalogue a device is, by the name that its tool gives it; no near misses."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bicameral.chips.catalogue import Catalogue
from bicameral.chips.chip import Chip
from bicameral.chips.probes.device import Device
from bicameral.errors import ConfigError

# What tools print, where it is not the catalogue's own name or alias. The whole name must match.
_PRINTED = (
    (r"NVIDIA A100-SXM4-80GB", "a100-sxm-80"),
    (r"NVIDIA A100 80GB PCIe", "a100-pcie-80"),
    (r"NVIDIA H100 80GB HBM3", "h100-sxm"),
    (r"NVIDIA H800", "h800-sxm"),
    (r"NVIDIA H20", "h20-sxm"),
    (r"NVIDIA H200", "h200-sxm"),
    (r"NVIDIA B200", "b200-sxm"),
    (r"NVIDIA B300( SXM6 AC)?", "b300-sxm"),
    (r"NVIDIA GB10", "gb10"),
    (r"NVIDIA Thor", "jetson-thor"),
    (r"(AMD )?Instinct (MI3\w+)( OAM)?", r"AMD Instinct \2"),
    (r"Intel Gaudi (\d) \(.*\)", r"Intel Gaudi \1"),
    (r"Intel\(R\) Arc\(TM\) (Pro )?(\w+)( Graphics)?", r"Intel Arc \1\2"),
    (r"Ascend 910B\d?\w*", "ascend-910b"),
    (r"Ascend 310P\d?", "ascend-310p"),
    (r"Ascend910", "ascend-910c"),
    (r"(Cambricon MLU590)-\w+", r"\1"),
    (r"Iluvatar (BI-V150\w*)", "bi-v150"),
)
# Tools leave out what the driver keeps, and count GB of 2^30 or 10^9; other memory is another chip.
_NEAR = 0.15


def row(device: Device, catalogue: Catalogue) -> tuple[Chip | None, int, str]:
    """The chip, how many such devices make one of it, and why a chip of that name was refused."""
    chip = _named(_called(device), catalogue)
    if chip is None:
        return None, 1, ""
    if device.kind == "cpu":
        return _whole_system(device, chip)
    if device.shared or device.memory_gb is None or chip.memory_gb is None:
        return chip, 1, ""
    for parts in _parts(chip):
        low, high = (end / parts for end in (chip.memory_gb.span))
        if low * (1 - _NEAR) <= device.memory_gb <= high * (1 + _NEAR):
            return chip, parts, ""
    has, wants = device.memory_gb, chip.memory_gb.value
    return None, 1, f"it has {has:.0f} GB, and {chip.id} of the catalogue {wants:g} GB"


def _parts(chip: Chip) -> Sequence[int]:
    """A tool may count the dies of a card that the catalogue counts as one."""
    return (1, chip.dies) if chip.per == "card" and chip.dies > 1 else (1,)


def _whole_system(device: Device, chip: Chip) -> tuple[Chip | None, int, str]:
    """The catalogue's CPUs are two-socket systems: neither one socket nor a slice of a machine."""
    cpu = device.cpu
    if chip.per == "system" and cpu and (cpu.sockets != 2 or cpu.may_use < cpu.threads):
        return None, 1, f"{chip.id} of the catalogue is a whole machine of two sockets"
    return chip, 1, ""


def _called(device: Device) -> str:
    if device.kind == "cpu":
        return f"CPU:{device.name}" if "Xeon" in device.name else device.name
    for pattern, ours in _PRINTED:
        if found := re.fullmatch(pattern, device.name, re.IGNORECASE):
            return found.expand(ours)
    return device.name


def _named(name: str, catalogue: Catalogue) -> Chip | None:
    try:
        return catalogue.chip(name)
    except ConfigError:
        return None
