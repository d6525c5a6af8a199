"""Shared memory without a name: nothing is left behind in /dev/shm, whoever is killed.

The kernel frees a segment when the last process that maps it is gone.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
from contextlib import suppress

from bicameral.errors import BicameralError

# linux/fcntl.h; not all of them are in Python's fcntl. Nobody may shrink or grow the segment (a
# reader would die of SIGBUS), nor map it for writing once its owner has.
_SEAL_SHRINK, _SEAL_GROW, _SEAL_FUTURE_WRITE = 0x2, 0x4, 0x10
_POPULATE = getattr(mmap, "MAP_POPULATE", 0)  # page faults now, not in the middle of a hand-over


class SegmentError(BicameralError):
    """Shared memory cannot be had, or what a peer passed is none."""


def create(size: int) -> tuple[int, mmap.mmap]:
    """A new segment: its descriptor and the only map of it that may be written to."""
    # The kernel would rather end some process than refuse the reservation.
    if size > (free := _available()):
        raise SegmentError(
            f"{size} bytes of shared memory cannot be reserved, {free} are free; lower the limit"
        )
    fd = _anonymous()
    try:
        os.posix_fallocate(fd, 0, size)
        # No two lines: after the map, before anyone else has the descriptor.
        segment = mmap.mmap(fd, size, mmap.MAP_SHARED | _POPULATE)
        if hasattr(os, "memfd_create"):
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEAL_SHRINK | _SEAL_GROW | _SEAL_FUTURE_WRITE)
    except OSError as error:
        os.close(fd)
        raise SegmentError(
            f"{size} bytes of shared memory cannot be reserved ({error.strerror}); lower the limit"
        ) from error
    return fd, segment


def attach(fd: int, size: int) -> mmap.mmap:
    """A read-only map of a peer's segment; takes the descriptor over and closes it."""
    try:
        if os.fstat(fd).st_size != size or not _kept(fd):
            raise SegmentError("the peer passed a descriptor that is no sealed segment of its size")
        return mmap.mmap(fd, size, mmap.MAP_SHARED | _POPULATE, mmap.PROT_READ)
    except (OSError, ValueError) as error:
        raise SegmentError(f"the peer's segment cannot be mapped: {error}") from error
    finally:
        os.close(fd)


def _anonymous() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("bicameral", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with tempfile.TemporaryFile(prefix="bicameral-") as file:
        return os.dup(file.fileno())


def _available() -> int:
    """Bytes that can be reserved without pushing anyone out, as far as the system tells."""
    with suppress(OSError), open("/proc/meminfo", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _kept(fd: int) -> bool:
    if not hasattr(os, "memfd_create"):
        return True
    return bool(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEAL_SHRINK)
