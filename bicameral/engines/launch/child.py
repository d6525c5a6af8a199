"""One server as a child process, with a guard between it and us (see guard.py)."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from bicameral.errors import ConfigError

_GUARD = Path(__file__).with_name("guard.py")
_LOG_BYTES = 4 * 2**20
_TAIL_BYTES = 4096
_TAIL_LINES = 8
_TAIL_LINE = 200
_LATE = 10.0  # seconds a guard has beyond the grace before it is taken for hung itself


class Order(Struct, frozen=True, kw_only=True):
    """What to run. `mask` is a secret that must not get into the log; `grace` is in seconds.

    `folder` holds the files that it reads, and goes when it does, whatever becomes of us.
    """

    command: tuple[str, ...]
    env: Mapping[str, str]
    log: Path
    folder: Path
    mask: str
    grace: float
    cwd: str


class Child:
    """A server that runs; `pid` leads its group and session. Whoever starts one stops it."""

    def __init__(self, guard: asyncio.subprocess.Process, pid: int, order: Order) -> None:
        self.pid = pid
        self._guard = guard
        self._order = order
        self._end = asyncio.create_task(self._ending())

    @classmethod
    async def start(cls, order: Order) -> Child:
        """The server, just begun; ConfigError if the system will not run it."""
        guard = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            str(_GUARD),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=order.env,
            start_new_session=True,
        )
        try:
            told = await _begun(guard, order)
        except BaseException:
            await whole(_finished(guard))
            raise
        if "pid" not in told:
            await _finished(guard)
            why = told.get("error", "its guard died")
            raise ConfigError(f"'{order.command[0]}' cannot be run ({why})")
        return cls(guard, told["pid"], order)

    async def ended(self, within: float) -> str | None:
        """How it ended, in words; None if it has not `within` that many seconds."""
        done, _ = await asyncio.wait({self._end}, timeout=within)
        return self._end.result() if done else None

    async def stop(self, *, now: bool = False) -> None:
        """End it and all it started, in good order unless `now`; nothing of it is left then."""
        pipe = _pipe(self._guard)
        with suppress(ConnectionError):
            if now:
                pipe.write(b"kill\n")
            pipe.close()
        done, _ = await asyncio.wait({self._end}, timeout=self._order.grace + _LATE)
        if not done:
            self._guard.kill()
            await self._end
        await _finished(self._guard)

    def tail(self) -> str:
        """The last lines that it printed since it began, cut short."""
        return tail(self._order.log)

    async def _ending(self) -> str:
        out = self._guard.stdout
        assert out is not None
        line = await out.readline()
        if not line:  # somebody killed the guard, which takes the server with it, but not its group
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            return "its guard was killed"
        return _words(msgspec.json.decode(line)["exit"])


async def _begun(guard: asyncio.subprocess.Process, order: Order) -> dict[str, Any]:
    told = {
        "command": order.command,
        "cwd": order.cwd,
        "log": str(order.log),
        "folder": str(order.folder),
        "limit": _LOG_BYTES,
        "mask": order.mask,
        "grace": order.grace,
    }
    assert guard.stdout is not None
    _pipe(guard).write(msgspec.json.encode(told) + b"\n")
    line = await guard.stdout.readline()
    return msgspec.json.decode(line, type=dict[str, Any]) if line else {}


async def _finished(guard: asyncio.subprocess.Process) -> None:
    """Wait for its end, and for that of the pipe, which may come later."""
    _pipe(guard).close()
    await guard.wait()
    assert guard.stdout is not None
    await guard.stdout.read()


async def whole(work: Coroutine[Any, Any, None]) -> None:
    """Do it to the end, even if we are cancelled meanwhile; then the cancellation goes on."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError


def _pipe(guard: asyncio.subprocess.Process) -> asyncio.StreamWriter:
    assert guard.stdin is not None
    return guard.stdin


def _words(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def log_path(name: str) -> Path:
    """Where the server of the member `name` logs, its folder made; only this user may read it."""
    state = os.environ.get("XDG_STATE_HOME", "")
    try:
        home = Path(state) if os.path.isabs(state) else Path("~/.local/state").expanduser()
        folder = home / "bicameral" / "logs"
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"[models.{name}] its log cannot be written ({error}); set XDG_STATE_HOME"
        ) from error
    return folder / f"{quote(name, safe='')}.log"


def tail(log: Path) -> str:
    """The last lines of a log since the last start, each and all of them cut short."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = text.rpartition("--- started ---\n")[2].splitlines()[-_TAIL_LINES:]
    shown = ("".join(c if c.isprintable() else " " for c in line)[:_TAIL_LINE] for line in lines)
    return " | ".join(line.strip() for line in shown if line.strip())
