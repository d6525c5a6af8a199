"""Asking in one line, and waiting for what must come."""

from __future__ import annotations

import asyncio
import time

from bicameral.model import Model, collect
from bicameral.types import Image, Message, Request, Text


async def ask(model: Model, text: str, *images: bytes, **fields: object) -> str:
    parts = (Text(text), *(Image(data=data, media_type="image/png") for data in images))
    answer = await collect(model, Request(messages=(Message("user", parts),), **fields))
    if answer.error:
        raise answer.error
    return answer.text.strip()


async def until(true, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never became true")
