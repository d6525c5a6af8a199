"""Asks a server whether it is well and what it serves."""

from __future__ import annotations

import time
from collections.abc import Callable

import aiohttp
import msgspec
from msgspec import Struct

from bicameral.engines.launch.child import Child
from bicameral.engines.launch.listening import HOST
from bicameral.engines.launch.recipe import Recipe

_SOON = 0.05
_BODY = 2**20


class _Row(Struct):
    id: str = ""


class _Told(Struct):
    """OpenAI's list of models, or one that a server tells of itself."""

    data: list[_Row] = []
    model_id: str = ""


class Health:
    """Watches the server on one port; no answer within `silent` seconds means that it hangs."""

    def __init__(self, recipe: Recipe, port: int, key: str, *, every: float, silent: float) -> None:
        self._url = f"http://{HOST}:{port}"
        self._recipe = recipe
        self._headers = {"Authorization": f"Bearer {key}", "User-Agent": "bicameral"}
        self._every = every
        self._silent = silent
        self._patience = aiohttp.ClientTimeout(total=min(10.0, silent / 3))

    async def rises(self, child: Child, within: float, waiting: Callable[[], None]) -> str | None:
        """Wait for the first good answer: None, or why there will be none. `waiting`: not yet."""
        end = time.monotonic() + within
        pause = _SOON
        async with self._session() as session:
            while not await self._well(session):
                waiting()
                if why := await child.ended(pause):
                    return f"ended before it was up ({why})"
                if time.monotonic() > end:
                    return f"was not up after {within:g} s (start_seconds)"
                pause = min(1.0, pause * 1.5)
        return None

    async def falls(self, child: Child) -> str:
        """Wait for the end of a server that was well: why it came."""
        good = time.monotonic()
        async with self._session() as session:
            while True:
                if why := await child.ended(self._every):
                    return f"died ({why})"
                if await self._well(session):
                    good = time.monotonic()
                elif time.monotonic() - good > self._silent:
                    return f"hung: it gave no sign of health for {self._silent:g} s"

    async def serves(self) -> tuple[str, ...] | None:
        """The models it says it serves; None if it does not say."""
        async with self._session() as session:
            try:
                async with session.get(self._url + self._recipe.models) as answer:
                    if answer.status != 200:
                        return None
                    told = msgspec.json.decode(await _body(answer), type=_Told)
            except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError):
                return None
        names = tuple(row.id for row in told.data if row.id) or (told.model_id,)
        return tuple(filter(None, names)) or None

    async def _well(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(self._url + self._recipe.health) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    def _session(self) -> aiohttp.ClientSession:
        """A connection of its own for each question: one kept open may outlive the server."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
            timeout=self._patience,
        )


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    got = bytearray()
    async for chunk in answer.content.iter_any():
        got += chunk
        if len(got) > _BODY:
            break
    return bytes(got)
