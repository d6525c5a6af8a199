"""Opens launched members whose server is the fake, impatient enough for tests."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import psutil

from bicameral.engines.launched import Launched
from bicameral.model import collect
from bicameral.types import Answer, Request
from tests.engines.models import opened

FAKE = str(Path(__file__).with_name("fake.py"))
HASTE: dict[str, Any] = {
    "health_seconds": 0.05,
    "hung_seconds": 1.0,
    "stop_seconds": 2.0,
    "start_seconds": 30.0,
}


def command(*flags: str) -> list[str]:
    return [sys.executable, FAKE, "--port", "{port}", *flags]


def faked(*flags: str, **keys: Any) -> AbstractAsyncContextManager[Any]:
    """A member served by the fake under the flags."""
    keys = {"recipe": "bicameral", "model": "m", "command": command(*flags), **HASTE, **keys}
    return opened("launched", "big", **keys)


async def ask(model: Launched, text: str = "hi") -> Answer:
    return await collect(model, Request.ask(text))


async def answered(model: Launched) -> Answer:
    """Ask until somebody answers: it is coming up again."""
    while (answer := await ask(model)).error is not None:
        await asyncio.sleep(0.02)
    return answer


async def gone(*pids: int) -> None:
    """Wait until none of them runs."""
    while any(alive(pid) for pid in pids):
        await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
