"""A command that judges an answer: it runs tests, or shows what a program does.

The command is the operator's, the answer is not: no shell, no environment of ours, a folder of its
own that is deleted, a limit on time and on what is read of its output. It runs with the rights of
this process, so a command that runs what a model wrote should be a sandbox (bwrap, nsjail, docker).
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from bicameral.errors import ConfigError
from bicameral.left import sources
from bicameral.types import Answer, Request

FILE = "{file}"
_OUTPUT = 64 * 1024
_PIECE = 64 * 1024
_PASSED, _FAILED = 0, 1


class Command:
    """A Checker and a probe. `argv` gets the answer on standard input, or as the file `{file}`.

    Exit status 0: right, 1: wrong, as test runners do; one that is killed, by us after `seconds`
    or by a signal, is wrong; any other, or the end of the request's time, cannot tell. `code`:
    only the code in the answer's fences. At most `at_once` run at a time.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        seconds: float = 10.0,
        code: bool = False,
        suffix: str = "",
        at_once: int = 2,
    ) -> None:
        if not argv:
            raise ConfigError("a checker's command is empty")
        self._argv = tuple(argv)
        self._seconds = seconds
        self._code = code
        self._suffix = suffix
        self._turn = asyncio.Semaphore(at_once)

    async def check(self, request: Request, answer: Answer) -> bool | None:
        """Whether the command says that the answer is right."""
        status, _ = await self._run(request, answer)
        if status is None or status > _FAILED:
            return None
        return status == _PASSED

    async def shows(self, request: Request, answer: Answer) -> str | None:
        """What the command prints for the answer; None unless it ends well."""
        status, output = await self._run(request, answer)
        return output.decode(errors="replace") if status == _PASSED else None

    async def _run(self, request: Request, answer: Answer) -> tuple[int | None, bytes]:
        """The exit status, negative if killed, None if it never ran to its end; and the output."""
        text = sources.program(answer.text) if self._code else answer.text
        try:
            async with asyncio.timeout(request.remaining()), self._turn:
                with tempfile.TemporaryDirectory(prefix="bicameral-check-") as folder:
                    return await self._run_in(Path(folder), text)
        except TimeoutError:
            return None, b""

    async def _run_in(self, folder: Path, text: str) -> tuple[int | None, bytes]:
        argv, fed = list(self._argv), text.encode(errors="replace")
        if any(FILE in word for word in argv):
            file = folder / f"answer{self._suffix}"
            file.write_bytes(fed)
            argv, fed = [word.replace(FILE, str(file)) for word in argv], b""
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                cwd=folder,
                env=_environment(folder),
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                start_new_session=True,
            )
        except OSError:
            return None, b""
        try:
            async with asyncio.timeout(self._seconds):
                output = await _talk(process, fed)
                return await process.wait(), output
        except TimeoutError:
            return -signal.SIGKILL, b""
        finally:
            await _end(process)


def _environment(folder: Path) -> dict[str, str]:
    """Enough to find programs, and nothing that was meant for us alone."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return {**kept, "HOME": str(folder), "TMPDIR": str(folder)}


async def _talk(process: Process, fed: bytes) -> bytes:
    """Write all of `fed`, read to the end, keep the beginning of what it printed."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_feed(process, fed))
        reading = group.create_task(_heard(process))
    return reading.result()


async def _feed(process: Process, fed: bytes) -> None:
    stdin = process.stdin
    with suppress(BrokenPipeError, ConnectionResetError):  # it need not read all of its input
        if stdin:
            stdin.write(fed)
            await stdin.drain()
            stdin.close()
            await stdin.wait_closed()


async def _heard(process: Process) -> bytes:
    kept = bytearray()
    while process.stdout and (piece := await process.stdout.read(_PIECE)):
        kept += piece[: _OUTPUT - len(kept)]
    return bytes(kept)


async def _end(process: Process) -> None:
    """Kill it with everything it started that is still there."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
