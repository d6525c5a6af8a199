"""Asks a server's program for its version, once and at leisure."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

_PATIENCE = 120.0  # seconds: vLLM imports half of its world to tell
_LONGEST = 120


async def version(command: Sequence[str], env: Mapping[str, str]) -> str | None:
    """The first line it prints, cut short; None if it does not tell."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=env,
        )
    except OSError:
        return None
    try:
        out, _ = await asyncio.wait_for(process.communicate(), _PATIENCE)
    except TimeoutError:
        return None
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    lines = [line.strip() for line in out.decode(errors="replace").splitlines() if line.strip()]
    return lines[0][:_LONGEST] if lines and process.returncode == 0 else None
