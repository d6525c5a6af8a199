"""Runs one server for its owner and sees to it that nothing of the server outlives either.

A program of its own, which needs the standard library only: it must be small, quick to start, and
safe to fork. It reads its order, a line of JSON, from stdin, and tells on stdout, a line of JSON
each: the server's pid, or the error that kept it from starting, and later how it ended.

The server ends when stdin does, which the end of its owner brings about too, kill -9 included:
SIGTERM to its group, then SIGKILL after `grace` seconds, also to those of its processes that left
the group. A second line on stdin: at once.
"""

import contextlib
import ctypes
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_CHUNK = 65536
_LINE = 8192
_MOMENT = 0.02


def main() -> None:
    """Do what the order on stdin says until it has ended."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # processes whose parent ends are left to us, not to init
    order = json.loads(_order())
    try:
        log = Log(order["log"], order["limit"], order["mask"].encode())
        guard = Guard(order["command"], order["cwd"], order["grace"], log)
    except OSError as error:
        _tell(error=error.strerror or type(error).__name__)
        return
    _tell(pid=guard.pid)
    code = guard.run()
    shutil.rmtree(order["folder"], ignore_errors=True)
    _tell(exit=code)


def _order() -> bytes:
    """The first line, read byte by byte where it ends, as what follows is read unbuffered."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            sys.exit(0)  # the owner ended before it had said what to do
        line += byte
    return line


def _tell(**what: Any) -> None:
    with contextlib.suppress(BrokenPipeError):  # the owner has gone and need not know
        os.write(1, json.dumps(what).encode() + b"\n")


def _prctl(what: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(what, value, 0, 0, 0)


def _die_with_guard() -> None:
    """In the server before it begins: should the guard be killed, the server is as well."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Guard:
    """One server and all that it starts."""

    def __init__(self, command: list[str], cwd: str, grace: float, log: "Log") -> None:
        self._log = log
        self._grace = grace
        self._killing_at: float | None = None
        self._output, output = os.pipe()
        self._woken, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(self._woken, False)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        self._inputs = [0, self._output, self._woken]
        self._server = subprocess.Popen(  # noqa: S603 - the owner's command is what we are for
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_die_with_guard,
        )
        os.close(output)

    @property
    def pid(self) -> int:
        """The server's process, which leads a group and a session of its own."""
        return self._server.pid

    def run(self) -> int:
        """Until the server has ended and nobody of it is left; its exit code, -N for signal N."""
        while (code := self._server.poll()) is None:
            self._step()
        self._send(signal.SIGKILL)
        _bury()
        os.set_blocking(self._output, False)
        with contextlib.suppress(BlockingIOError):
            while self._take():
                pass
        self._log.end()
        return code

    def _step(self) -> None:
        ready, _, _ = select.select(self._inputs, [], [], self._left())
        if 0 in ready:
            self._heard()
        if self._output in ready and not self._take():
            self._inputs.remove(self._output)
        if self._woken in ready:
            os.read(self._woken, _CHUNK)
            self._reap()
        if self._killing_at is not None and time.monotonic() >= self._killing_at:
            self._send(signal.SIGKILL)
            self._killing_at = None

    def _left(self) -> float | None:
        return None if self._killing_at is None else max(0.0, self._killing_at - time.monotonic())

    def _heard(self) -> None:
        """The owner says kill, or nothing ever again."""
        if os.read(0, _CHUNK):
            self._stop(0.0)
        else:
            self._inputs.remove(0)
            self._stop(self._grace)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._stop(self._grace)

    def _stop(self, grace: float) -> None:
        self._send(signal.SIGTERM)
        self._killing_at = time.monotonic() + grace

    def _send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._server.pid, number)

    def _take(self) -> bool:
        """Put what the server has printed in the log; False: it will print no more."""
        data = os.read(self._output, _CHUNK)
        self._log.write(data)
        return bool(data)

    def _reap(self) -> None:
        """Bury the orphans that ended; the server's own end is read by its handle."""
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        with contextlib.suppress(ChildProcessError):
            while (seen := os.waitid(os.P_ALL, 0, flags)) and seen.si_pid != self._server.pid:
                os.waitpid(seen.si_pid, 0)


def _bury() -> None:
    """End whoever was left to us, until nobody is: killing one may leave us its children."""
    with contextlib.suppress(ChildProcessError):
        while True:
            for pid in _children():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(_MOMENT)


def _children() -> Iterator[int]:
    if sys.platform != "linux":
        return
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:
            # pid (name) state ppid: the name may hold anything, so it is cut at the last bracket.
            if int(stat.read().rpartition(b")")[2].split()[1]) == os.getpid():
                yield int(name)


class Log:
    """A file of at most `limit` bytes and the one before it; `mask` never gets there."""

    def __init__(self, path: str, limit: int, mask: bytes) -> None:
        self._path = path
        self._limit = limit
        self._mask = mask
        self._rest = b""
        self._file = self._open()
        self.write(b"--- started ---\n")

    def write(self, data: bytes) -> None:
        """Lines as they are complete; a bar that is drawn over itself counts as lines."""
        *lines, rest = re.split(rb"[\r\n]+", self._rest + data)
        if len(rest) > _LINE + len(self._mask):
            lines.append(rest[:_LINE])
            rest = rest[_LINE:]
        self._rest = rest
        if lines:
            self._put(b"".join(line + b"\n" for line in lines if line))

    def end(self) -> None:
        """Whatever the last line is, it is complete now."""
        self.write(b"\n")

    def _put(self, text: bytes) -> None:
        if self._mask:
            text = text.replace(self._mask, b"[key]")
        with contextlib.suppress(OSError):  # a full disk must not stop the server
            if os.fstat(self._file).st_size + len(text) > self._limit:
                os.replace(self._path, self._path + ".1")
                os.close(self._file)
                self._file = self._open()
            os.write(self._file, text)

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self._path, flags, 0o600)


if __name__ == "__main__":
    main()
