"""Sources: where frames come from. Each is a plain generator, so it can run in any process.

A source reads one thing, slowly or fast, and says in Gaps what it could not read. Pacing, buffers
and the look-out for frozen pictures come after it, in files of their own.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from bicameral.errors import RequestError
from bicameral.right.stream.clock import Clock
from bicameral.right.stream.frame import Frame
from bicameral.right.stream.notices import Gap, Kind

ADDRESSES = ("rtsp", "rtsps", "http", "https")
_PICTURES = "pictures"
_FILES: dict[str, Kind] = {
    **dict.fromkeys((".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif"), "sound"),
    **dict.fromkeys((".npz", ".csv"), "events"),
}


class Source(Protocol):
    """Something to watch; `label` names it without secrets, `live` means that it does not wait."""

    kind: Kind
    live: bool
    label: str

    def frames(self) -> Generator[Frame | Gap]:
        """Frames in the order they were captured; closing the generator releases the source.

        RequestError (param `source`) if it cannot be read at all.
        """
        ...


def open_source(name: str, clock: Clock, *, label: str | None = None) -> Source:
    """The source that `name` means: an address, `mic`, a folder of pictures or a file.

    Nothing is read yet but the file's type. The caller vouches for `name`: it is opened with this
    process's rights. RequestError (param `source`) if there is no such thing.
    """
    scheme = name.partition("://")[0].lower() if "://" in name else ""
    if scheme in ADDRESSES:
        from bicameral.right.stream.sources.video import Camera

        return Camera(name, clock, label or _without_secrets(name))
    if scheme:
        raise _wrong(f"'{scheme}://' cannot be watched; known: {', '.join(ADDRESSES)}")
    if name == "mic" or name.startswith("mic:"):
        from bicameral.right.stream.sources.microphone import Microphone

        return Microphone(name[4:] or None, label or name)
    return _on_disk(Path(name), label or Path(name).name)


def _on_disk(path: Path, label: str) -> Source:
    if path.is_dir():
        from bicameral.right.stream.sources.pictures import Pictures

        return Pictures(path, label)
    if not path.is_file():
        raise _wrong(f"there is no file, folder or address called '{label}'")
    match _FILES.get(path.suffix.lower()):
        case "sound":
            from bicameral.right.stream.sources.sound import Recording

            return Recording(path, label)
        case "events":
            from bicameral.right.stream.sources.events import EventFile

            return EventFile(path, label)
    from bicameral.right.stream.sources.video import VideoFile

    return VideoFile(path, label)


def _without_secrets(address: str) -> str:
    """Scheme, host and path: cameras take passwords in the user part, and keys in the query."""
    try:
        parts = urlsplit(address)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        port = f":{parts.port}" if parts.port else ""
    except ValueError as error:
        raise _wrong("the address is malformed") from error
    if not host:
        raise _wrong("the address names no host")
    return f"{parts.scheme}://{host}{port}{parts.path}"


def _wrong(why: str) -> RequestError:
    return RequestError(f"source: {why}", param="source", code="bad_source")
