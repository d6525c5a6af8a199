"""What the CPU reaches: memory bandwidth and float32 matrix throughput, by numpy, in some seconds.

What a byte counts: a copy counts its bytes twice, read and written (as STREAM does, McCalpin 1995);
that a processor may first read the line it overwrites (write-allocate) is not counted. A read
counts once; it is what decoding does with the weights. Every thread first touches its own arrays,
so that they lie in memory next to it, and they are far larger than the last cache. Best of several
short bursts: a chip that gets hot is slower after minutes, and one thread alone clocks higher than
all of them. The matrices are multiplied by whatever BLAS numpy has, with as many threads as it
takes: what programs here get, not the most that the cores could do.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from typing import TYPE_CHECKING, Any

import msgspec

from bicameral.chips.probes.device import MIB, Device
from bicameral.errors import ChipError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The array that is read: at least this, so many times the last cache, and no more than this.
_LEAST, _TIMES, _MOST = 128 * MIB, 2, 2048 * MIB
_PASSES = 3
# A burst is repeated until it outlasts the threads' uneven start, but not for ever.
_BURST, _AGAIN = 0.02, 100
# No burst lasts so many seconds: then a thread has died, and the others must not wait for it.
_STUCK = 60.0
_SECONDS = 0.6
_LARGEST = 8192
_BLAS_LIMITS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Rates of the CPU: GB/s of 10^9 bytes, TFLOP/s of float32 multiplications and additions.

    `when` is UTC. `threads` ran the bandwidth; `blas` names the library and what limits its
    threads. `mib`: the array that is read; `beyond_cache`: times the last cache, None: unknown.
    `load`: the machine's load average before; what others run is missing from the rates.
    """

    when: str
    how: str
    threads: int
    read_gbs: float
    copy_gbs: float
    one_read_gbs: float
    one_copy_gbs: float
    tflops: float
    blas: str
    numpy: str
    mib: int
    beyond_cache: float | None = None
    load: float | None = None

    @property
    def bandwidth_gbs(self) -> float:
        """The better of reading and copying, which a datasheet's peak is to be held against."""
        return max(self.read_gbs, self.copy_gbs)


def measure(device: Device) -> Measured:
    """Measure this machine's CPU now, and remember it; raises ChipError without numpy or memory.

    Takes one to three seconds and every processor that this process may use.
    """
    try:
        measured = _measured(device)
    except (MemoryError, BrokenBarrierError) as error:
        raise ChipError("measuring the CPU needs more memory than is free: free some") from error
    _remember(_key(device), measured)
    return measured


def remembered(device: Device) -> Measured | None:
    """What was measured of this CPU with this numpy before, on any day; None if never."""
    return _read().get(_key(device))


def _measured(device: Device) -> Measured:
    numpy = _numpy()
    threads = max(1, int(device.cpu.may_use)) if device.cpu else 1
    load = round(os.getloadavg()[0], 2)
    size = _size(device)
    one_read, one_copy = _bandwidth(size, 1, 1)
    again = min(_AGAIN, math.ceil(_BURST * one_read * 1e9 * threads / size))
    read, copy = _bandwidth(size, threads, again) if threads > 1 else (one_read, one_copy)
    cache = device.cpu.last_cache if device.cpu else 0
    return Measured(
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        how=f"best of {_PASSES} bursts; copy counts read and written bytes, no write-allocate",
        threads=threads,
        read_gbs=read,
        copy_gbs=copy,
        one_read_gbs=one_read,
        one_copy_gbs=one_copy,
        tflops=_matrices(),
        blas=_blas(),
        numpy=numpy.__version__,
        mib=size // MIB,
        beyond_cache=round(size / cache, 1) if cache else None,
        load=load,
    )


def _numpy() -> Any:
    try:
        import numpy
    except ImportError as error:
        raise ChipError("measuring the CPU needs numpy: pip install numpy") from error
    return numpy


def _size(device: Device) -> int:
    """Bytes to read, by all threads together: beyond the caches, within an eighth of what is free.

    As many again are copied to.
    """
    cache = device.cpu.last_cache if device.cpu else 0
    wanted = min(max(_LEAST, _TIMES * cache), max(_MOST, _LEAST))
    free = int((device.free_gb or 4.0) * 1e9) // 16
    return max(MIB, min(wanted, free) // MIB * MIB)


def _bandwidth(size: int, threads: int, again: int) -> tuple[float, float]:
    """GB/s of reading and of copying `size` bytes by so many threads, each its part `again`."""
    spans: list[list[tuple[float, float]]] = [[] for _ in range(2 * _PASSES)]
    gate = Barrier(threads, timeout=_STUCK)
    part = size // threads
    with ThreadPoolExecutor(max_workers=threads) as pool:
        work = [pool.submit(_stream, part, again, gate, spans) for _ in range(threads)]
    for done in work:
        done.result()
    took = [max(end for _, end in span) - min(start for start, _ in span) for span in spans]
    total = part // 8 * 8 * threads * again / 1e9
    return total / min(took[:_PASSES]), 2 * total / min(took[_PASSES:])


def _stream(size: int, again: int, gate: Barrier, spans: list[list[tuple[float, float]]]) -> None:
    """One thread's passes; numpy lets go of the interpreter's lock while it reads or copies."""
    import numpy

    try:
        source: NDArray[numpy.int64] = numpy.ones(size // 8, dtype=numpy.int64)
        target = numpy.full_like(source, 0)
    except MemoryError:
        gate.abort()
        raise
    read, copy = source.max, lambda: numpy.copyto(target, source)
    for number, span in enumerate(spans):
        span.append(_timed(read if number < _PASSES else copy, again, gate))


def _timed(work: Callable[[], Any], again: int, gate: Barrier) -> tuple[float, float]:
    gate.wait()
    start = time.perf_counter()
    for _ in range(again):
        work()
    return start, time.perf_counter()


def _matrices() -> float:
    """TFLOP/s of square float32 matrices, large enough that one product takes a while."""
    side, best, spent = 512, 0.0, 0.0
    while spent < _SECONDS:
        took = _product(side)
        best, spent = max(best, 2 * side**3 / took / 1e12), spent + took
        if took < _SECONDS / 8 and side < _LARGEST:
            side *= 2
    return best


def _product(side: int) -> float:
    import numpy

    left = numpy.full((side, side), 0.5, dtype=numpy.float32)
    right, out = left.T.copy(), numpy.empty_like(left)
    start = time.perf_counter()
    numpy.matmul(left, right, out=out)
    return time.perf_counter() - start


def _blas() -> str:
    """The BLAS that numpy was built with, and what the environment allows it."""
    config: Any = _numpy().show_config("dicts")
    built = config["Build Dependencies"]["blas"]
    return " ".join((f"{built['name']} {built.get('version', '')}".strip(), *_limits()))


def _limits() -> list[str]:
    return [f"{name}={os.environ[name]}" for name in _BLAS_LIMITS if name in os.environ]


def _key(device: Device) -> str:
    """What a measurement holds for: another CPU, share of it, or numpy is measured again."""
    use = f"{device.cpu.may_use:g} threads of {device.units} cores" if device.cpu else "?"
    return " | ".join((device.name, use, f"numpy {_numpy_version()}", *_limits()))


def _numpy_version() -> str:
    """Without importing it: who only looks for chips needs no numpy."""
    try:
        return version("numpy")
    except PackageNotFoundError:
        return "none"


def _file() -> Path:
    shared = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(shared) / "bicameral" / "chips.json"


def _read() -> dict[str, Measured]:
    """What was kept; a file that cannot be read is as good as none, for all can be measured."""
    try:
        return msgspec.json.decode(_file().read_bytes(), type=dict[str, Measured])
    except (OSError, msgspec.DecodeError):
        return {}


def _remember(key: str, measured: Measured) -> None:
    """Keep it, whole or not at all; a cache that cannot be written costs the next call seconds."""
    file = _file()
    part = file.with_suffix(f".{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(msgspec.json.format(msgspec.json.encode(_read() | {key: measured})))
        part.replace(file)
    except OSError:
        part.unlink(missing_ok=True)
