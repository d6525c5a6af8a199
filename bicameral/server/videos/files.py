"""The files of the jobs: what each is to be made of, until it has ended, and its clip.

They are named by the job's id, which is ours, and readable by their owner only. A file is whole or
not there: it is written under another name first.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from bicameral.types import Request

_ORPHANED = 3600.0
_ID = re.compile(r"video_[0-9a-f]{32}")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Request).decode


class Files:
    """The two folders below `root`, which are made if they are not there. OSError as it comes."""

    def __init__(self, root: Path) -> None:
        self._asked = root / "asked"
        self._made = root / "made"
        for folder in (root, self._asked, self._made):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def ask(self, id: str, request: Request) -> int:
        """Keep what the job is to be made of; how many bytes that is."""
        return _write(self._asked / _checked(id), _encode(request))

    def asked(self, id: str) -> Request | None:
        """What the job is to be made of; None if that is not there any more, or unreadable."""
        try:
            return _decode((self._asked / _checked(id)).read_bytes())
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def make(self, id: str, clip: bytes) -> None:
        """Keep the clip of a job."""
        _write(self._made / _checked(id), clip)

    def made(self, id: str) -> BinaryIO:
        """The clip of a job; FileNotFoundError if it is not there."""
        return (self._made / _checked(id)).open("rb")

    def forget_asked(self, id: str) -> None:
        """Remove what the job was to be made of."""
        _remove(self._asked / _checked(id))

    def forget(self, id: str) -> None:
        """Remove all of the job."""
        self.forget_asked(id)
        _remove(self._made / _checked(id))

    def tidy(self, known: Collection[str], live: Collection[str]) -> int:
        """Remove what is of no `known` job, or what one is made of that is not `live`; how many.

        So it is after a crash. Files of the last hour stay: they may not be in the table yet.
        """
        gone = [path for path in self._stray(known, live) if _old(path)]
        for path in gone:
            _remove(path)
        return len(gone)

    def _stray(self, known: Collection[str], live: Collection[str]) -> Iterator[Path]:
        for folder, ids in ((self._asked, live), (self._made, known)):
            yield from (path for path in folder.iterdir() if path.name not in ids)


def _write(path: Path, data: bytes) -> int:
    draft = path.with_name(f"{path.name}.{os.urandom(4).hex()}")
    try:
        with open(draft, "xb", opener=_private) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        _remove(draft)
        raise
    return len(data)


def _remove(path: Path) -> None:
    """What is not there, nor its folder, need not be removed."""
    with suppress(FileNotFoundError, NotADirectoryError):
        path.unlink()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _checked(id: str) -> str:
    """What is no id of ours names no file."""
    if not _ID.fullmatch(id):
        raise FileNotFoundError(id)
    return id


def _old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _ORPHANED
    except FileNotFoundError:
        return False
