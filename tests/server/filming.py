"""What the tests of /v1/videos share: a model that makes clips, forms, masks, the real client."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import openai

from bicameral.engines import scripted
from tests.server.client import Got, call, until
from tests.server.live import Live

CLIPS = Path(scripted.__file__).parent / "script"
MP4, GIF, NPZ, PNG = (
    (CLIPS / f"clip.{kind}").read_bytes() for kind in ("mp4", "gif", "npz", "png")
)
FILM = """
[models.chat]
engine = "scripted"
[models.film]
engine = "scripted"
accepts = ["text", "image", "video"]
emits = ["video"]
"""
SLOW = """
[models.slow]
engine = "scripted"
accepts = ["text", "image", "video"]
emits = ["video"]
delay = 0.05
video_steps = 400
"""


def kept(path: Path, **options: Any) -> str:
    """The [videos] table."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in options.items()]
    return "\n".join(["[videos]", f'path = "{path}"', *lines, ""])


def client(live: Live, key: str = "none") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=live.base_url, api_key=key, max_retries=0)


def npy(values: Any, kind: type = np.uint8) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(values, kind))
    return file.getvalue()


async def form(live: Live, *parts: tuple[str, Any], headers=None, path: str = "/v1/videos") -> Got:
    """A form of these parts; bytes are a file."""
    body = aiohttp.FormData(default_to_multipart=True)
    for name, value in parts:
        body.add_field(name, value, filename="../../x" if isinstance(value, bytes) else None)
    async with (
        aiohttp.ClientSession() as session,
        session.post(live.url + path, data=body, headers=headers) as response,
    ):
        found = {k.lower(): v for k, v in response.headers.items()}
        return Got(response.status, found, await response.read())


async def post(live: Live, headers=None, path: str = "/v1/videos", **fields: Any) -> Got:
    """A job as JSON."""
    return await call(live, "POST", path, {"prompt": "", **fields}, headers)


async def get(live: Live, id: str, what: str = "", headers=None) -> Got:
    return await call(live, "GET", f"/v1/videos/{id}{what}", headers=headers)


async def ended(live: Live, id: str, headers=None) -> Any:
    """The job once it has ended."""
    found: list[Any] = []

    async def over() -> bool:
        found[:] = [(await get(live, id, headers=headers)).json]
        return found[0]["status"] not in ("queued", "in_progress")

    async with asyncio.timeout(5):
        while not await over():
            await asyncio.sleep(0.01)
    return found[0]


async def running(live: Live, name: str = "slow", count: int = 1) -> None:
    """Wait until the scripted model works at so many."""
    await until(lambda: live.scripted(name).running == count)
