"""What a measurement has to say of the machine it was taken on; energy, where it can be read."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bicameral.chips.bakeoff import Machine
from bicameral.engines.llama.cores import usable

# What computes, or carries what is computed.
_PACKAGES = (
    "aiohttp",
    "bicameral",
    "ctranslate2",
    "numpy",
    "onnxruntime",
    "torch",
    "transformers",
    "uvloop",
    "xllamacpp",
)
_RAPL = Path("/sys/class/powercap")


def machine() -> Machine:
    """This machine now; what cannot be told is empty or None."""
    return Machine(
        cpu=_cpu(),
        cores=usable(),
        memory_gb=_memory(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        packages={name: said for name in _PACKAGES if (said := _version(name))},
        load_before=load(),
    )


def load() -> tuple[float, ...]:
    """Load averages of 1, 5 and 15 minutes; empty where the system has none."""
    return tuple(round(x, 2) for x in os.getloadavg()) if hasattr(os, "getloadavg") else ()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1)
    except (AttributeError, ValueError, OSError):
        return None


class Energy:
    """Joules of all processor packages since it was made, by Intel's and AMD's own counters.

    `meter` is empty where they cannot be read: in most virtual machines, and without the right to.
    """

    def __init__(self, root: Path = _RAPL) -> None:
        self._zones = sorted(root.glob("intel-rapl:?")) if root.is_dir() else []
        self._began = [_micro(zone / "energy_uj") for zone in self._zones]
        known = bool(self._began) and None not in self._began
        self.meter = "RAPL, whole packages" if known else ""

    def joules(self) -> float | None:
        """What was used; None if it cannot be read."""
        if not self.meter:
            return None
        total = 0
        for zone, before in zip(self._zones, self._began, strict=True):
            now, turn = _micro(zone / "energy_uj"), _micro(zone / "max_energy_range_uj")
            if now is None or before is None or (now < before and not turn):
                return None
            total += now - before if now >= before else now - before + (turn or 0)
        return total / 1e6


def _micro(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
