"""Running a vendor's tool: it may be missing, fail, hang or print nonsense, and says so alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from bicameral.chips.probes.device import Blind, Device, Unread

# Vendors install here without always touching PATH.
_FOLDERS = (
    "/opt/rocm/bin",
    "/opt/hyhal/bin",
    "/usr/local/hyhal/bin",
    "/usr/local/corex/bin",
    "/usr/local/sbin",
    "/usr/sbin",
)
_WORDS = 200


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """Where to look: the root of /proc and /sys, PATH for tools (None: ours), who we are."""

    root: Path = Path("/")
    path: str | None = None
    system: str = sys.platform
    seconds: float = 5.0

    def tool(self, name: str) -> str | None:
        """The file of a tool, if it is installed."""
        ours = os.environ.get("PATH", os.defpath)
        return shutil.which(name, path=self.path or os.pathsep.join((ours, *_FOLDERS)))


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A vendor's tool, how it is asked, and the pure function that reads its answer.

    `read` raises Unread, ValueError, KeyError or TypeError at a form it does not know. `sampled`:
    it was written from real output; no reader here has met its hardware.
    """

    vendor: str
    command: tuple[str, ...]
    read: Callable[[str], Sequence[Device]]
    sampled: bool = True
    system: str = "linux"

    @property
    def name(self) -> str:
        """What the tool is called."""
        return self.command[0]


def ask(tool: Tool, host: Host) -> tuple[tuple[Device, ...], Blind | None]:
    """The devices that `tool` tells of, and why it could not tell of all; never raises."""
    file = host.tool(tool.name)
    if file is None:
        untried = "" if tool.sampled else " (and its reader is untested)"
        return (), _blind(tool, f"is not installed{untried}", absent=True)
    said, failure = _run((file, *tool.command[1:]), host.seconds)
    try:
        devices = tuple(tool.read(said))
    except (Unread, ValueError, KeyError, TypeError, msgspec.DecodeError):
        devices = ()
        form = "it was not read" if tool.sampled else "its reader was written without a sample"
        failure = failure or f"answered in a form that is not known ({form}): {_last(said)}"
    return devices, _blind(tool, failure) if failure else None


def _blind(tool: Tool, why: str, *, absent: bool = False) -> Blind:
    return Blind(tool=tool.name, vendor=tool.vendor, why=f"{tool.name} {why}", absent=absent)


def _run(command: Sequence[str], seconds: float) -> tuple[str, str | None]:
    """What it printed, and how it failed if it did."""
    try:
        process = subprocess.Popen(  # noqa: S603 (our own fixed commands)
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"LC_ALL": "C"},
            start_new_session=True,
        )
    except OSError as error:
        return "", f"cannot be started: {error.strerror}"
    try:
        said, complained = _decoded(process.communicate(timeout=seconds))
    except subprocess.TimeoutExpired:
        last = _last(_stopped(process))
        return "", f"did not answer within {seconds:g} s" + (f": {last}" if last else "")
    if process.returncode:
        last = _last(complained) or _last(said) or "it said nothing"
        return said, f"failed (exit {process.returncode}): {last}"
    return said, None


def _stopped(process: subprocess.Popen[bytes]) -> str:
    """Its last words after it was killed; one that hangs in its driver dies only when that ends."""
    with suppress(ProcessLookupError, PermissionError):  # all of it is already dead
        os.killpg(process.pid, signal.SIGKILL)
    try:
        said, complained = _decoded(process.communicate(timeout=1))
    except subprocess.TimeoutExpired:
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()
        process.poll()  # so that it leaves no zombie, unless it still hangs
        return ""
    return complained.strip() or said


def _decoded(both: tuple[bytes, bytes]) -> tuple[str, str]:
    said, complained = (part.decode("utf-8", "replace") for part in both)
    return said, complained


def _last(text: str) -> str:
    """The last line with something on it, short and without control characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip(" \t-=+|")]
    last = "".join(c for c in lines[-1] if c.isprintable()) if lines else ""
    return last if len(last) <= _WORDS else last[:_WORDS] + "…"
