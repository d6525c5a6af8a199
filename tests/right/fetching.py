"""A fetcher to which this machine is the internet, and what it is asked for."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest

from bicameral.errors import RequestError
from bicameral.right import fetch
from bicameral.right.fetch import FetchOptions
from bicameral.types import Modality
from tests.upstream import Reply, Upstream, reply

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(100)
NAME = "media.example.org"
LOOPBACK = ip_address("127.0.0.1")
PRIVATE = "127.0.0.2"


class Names:
    """A resolver with a script: the addresses to give, one list a look-up; the last one stays."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers) or [["127.0.0.1"]]
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not found:
            raise socket.gaierror(-2, "Name or service not known")
        return found


@asynccontextmanager
async def fetching(*servers: Upstream, names: Names | None = None, **fields):
    """A fetcher to which 127.0.0.1 is a public address, and no other."""
    options = FetchOptions(fetch=True, fetch_ports=tuple(s.port for s in servers), **fields)
    async with fetch.open(
        options, lookup=names or Names(), allow=lambda address: address == LOOPBACK
    ) as fetcher:
        yield fetcher


@asynccontextmanager
async def real(*servers: Upstream, **fields):
    """A fetcher as it is shipped, but for its ports."""
    options = FetchOptions(fetch=True, fetch_ports=tuple(s.port for s in servers), **fields)
    async with fetch.open(options) as fetcher:
        yield fetcher


def picture(*steps, kind: str = "image/png", **more) -> Reply:
    return reply(*(steps or (PNG,)), kind=kind, **more)


def address(up: Upstream, path: str = "/cat.png", host: str = NAME) -> str:
    return f"http://{host}:{up.port}{path}"


async def refusal(fetcher, url: str, kind=Modality.IMAGE, **fields) -> RequestError:
    with pytest.raises(RequestError) as caught:
        await fetcher.get(url, kind, **fields)
    assert "127." not in str(caught.value)  # no address, whatever the host was
    return caught.value
