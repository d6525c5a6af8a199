"""Fetching by URL: what comes is bounded in bytes and time, and of its kind."""

from __future__ import annotations

import asyncio
import gzip
import shutil
import ssl
import subprocess
import time

import pytest

from bicameral.right import fetch
from bicameral.types import Modality
from tests.right.fetching import NAME, PNG, address, fetching, picture, refusal
from tests.upstream import CLOSE, RESET, Reply, Seen, Upstream, Wait, reply


class Drip:
    """A body without end; counts what was taken of it."""

    def __init__(self, piece: bytes, *, pause: float = 0.0) -> None:
        self.sent = 0
        self._steps = self._forever(piece, pause)

    def _forever(self, piece: bytes, pause: float):
        while True:
            self.sent += len(piece)
            yield piece
            if pause:
                yield Wait(pause)

    def __call__(self, seen: Seen) -> Reply:
        return Reply(200, {"Content-Type": "image/png"}, Steps(PNG, self._steps), "chunked")


class Steps(tuple):
    """The steps of a Reply, made as they are sent."""

    def __new__(cls, first, rest):
        made = super().__new__(cls, (first,))
        made.rest = rest
        return made

    def __iter__(self):
        yield self[0]
        yield from self.rest


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_the_limit_is_left_before_it_is_whole(declared):
    endless = Drip(bytes(2**16))
    claim = picture(PNG, Content_Length=str(10**12), framing="close")
    async with Upstream() as up, fetching(up, fetch_bytes=2**20) as fetcher:
        up.script(claim if declared else endless)
        error = await refusal(fetcher, address(up))
        assert error.code == "media_too_large"
        assert "1048576 bytes" in str(error)
        await up.until(lambda u: not u.running)
        assert endless.sent < 16 * 2**20  # what the sockets between held


async def test_a_body_of_exactly_the_limit_is_taken_in_pieces_of_one_byte():
    async with Upstream() as up, fetching(up, fetch_bytes=len(PNG)) as fetcher:
        up.script(picture(*(PNG[i : i + 1] for i in range(len(PNG))), framing="chunked"))
        assert await fetcher.get(address(up), Modality.IMAGE) == (PNG, "image/png")


@pytest.mark.parametrize(
    "slow", [Drip(b"x", pause=0.05), picture(Wait(60), PNG), picture(PNG, Wait(60), PNG)]
)
async def test_a_slow_host_is_left_when_the_time_is_up(slow):
    async with Upstream() as up, fetching(up, fetch_seconds=1.0) as fetcher:
        up.script(slow)
        error = await refusal(fetcher, address(up))
        assert error.code == "fetch_timeout"
        await up.until(lambda u: u.cancelled == 1)


async def test_the_deadline_of_the_request_holds_as_well():
    async with Upstream() as up, fetching(up) as fetcher:
        up.script(picture(Wait(60), PNG))
        error = await refusal(fetcher, address(up), deadline=time.monotonic() + 0.2)
        assert error.code == "fetch_timeout"


async def test_a_name_server_that_hangs_is_left_too():
    async def never(host: str, port: int) -> list[str]:
        return await asyncio.Event().wait()

    async with Upstream() as up, fetching(up, names=never, fetch_seconds=0.2) as fetcher:
        assert (await refusal(fetcher, address(up))).code == "fetch_timeout"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "x-unknown"])
async def test_a_packed_body_is_refused_unread(encoding):
    bomb = gzip.compress(bytes(10 * 2**20))
    async with Upstream() as up, fetching(up) as fetcher:
        up.script(picture(bomb, Content_Encoding=encoding))
        error = await refusal(fetcher, address(up))
        assert error.code == "invalid_media"
        assert "Content-Encoding" in str(error)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (PNG, "text/html"),
        (PNG, "image/svg+xml"),
        (b"<html>" + bytes(100), "image/png"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/png"),
        (gzip.compress(PNG, mtime=0), "application/octet-stream"),
        (b"ID3" + bytes(100), "image/png"),
        (PNG[:5], "image/png"),
        (b"", "image/png"),
    ],
)
async def test_what_is_no_picture_is_refused(body, kind):
    async with Upstream() as up, fetching(up) as fetcher:
        up.script(picture(body, kind=kind))
        assert (await refusal(fetcher, address(up))).code == "invalid_media"


async def test_a_wrong_type_is_noticed_by_its_first_bytes():
    endless = Drip(bytes(2**16))
    async with Upstream() as up, fetching(up) as fetcher:
        up.script(
            lambda seen: Reply(200, {"Content-Type": "audio/wav"}, endless(seen).steps, "chunked")
        )
        assert (await refusal(fetcher, address(up), Modality.AUDIO)).code == "invalid_media"
        await up.until(lambda u: not u.running)
        assert endless.sent < 16 * 2**20


@pytest.mark.parametrize(
    "answer",
    [
        reply(status=404),
        reply(status=204),
        reply(status=206, kind="image/png"),
        Reply(steps=(RESET,)),
        Reply(steps=(CLOSE,)),
        picture(PNG[:50], CLOSE, Content_Length="500"),
        Reply(headers={"X": "a" * 100_000}, steps=(b"x",)),
    ],
)
async def test_a_host_that_fails_is_a_clear_error(answer):
    async with Upstream() as up, fetching(up) as fetcher:
        up.script(answer)
        assert (await refusal(fetcher, address(up), param="image_url")).code == "fetch_failed"


async def test_a_port_where_nobody_listens_is_a_clear_error():
    async with Upstream() as up:
        pass
    async with fetching(up) as fetcher:
        assert (await refusal(fetcher, address(up))).code == "fetch_failed"


async def test_forty_at_once_are_fetched_a_few_at_a_time():
    at_once = 0

    def watched(seen: Seen) -> Reply:
        nonlocal at_once
        at_once = max(at_once, up.running)
        return picture(PNG + seen.path.encode())

    async with Upstream() as up, fetching(up) as fetcher:
        up.script(watched)
        got = await asyncio.gather(
            *(fetcher.get(address(up, f"/{i}"), Modality.IMAGE) for i in range(40))
        )
    assert [body for body, _ in got] == [PNG + f"/{i}".encode() for i in range(40)]
    assert at_once <= fetch.AT_ONCE


@pytest.fixture
def certificate(tmp_path):
    """A certificate of NAME and its key, which nobody but this test trusts."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: it makes the certificate")
    made = tmp_path / "both.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"),
            *("-pkeyopt", "ec_paramgen_curve:P-256", "-subj", f"/CN={NAME}"),
            *("-addext", f"subjectAltName=DNS:{NAME}"),
            *("-keyout", made, "-out", tmp_path / "cert.pem"),
        ],
        check=True,
        capture_output=True,
    )
    with made.open("ab") as file:
        file.write((tmp_path / "cert.pem").read_bytes())
    return made


async def test_tls_is_for_the_name_though_the_connection_goes_to_its_address(
    certificate, monkeypatch
):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nConnection: close\r\n\r\n" + PNG
        )
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    server.port = server.sockets[0].getsockname()[1]
    async with server:
        async with fetching(server) as fetcher:
            error = await refusal(fetcher, f"https://{NAME}:{server.port}/")
            assert error.code == "fetch_failed"  # signed by nobody we know
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        async with fetching(server) as fetcher:
            got = await fetcher.get(f"https://{NAME}:{server.port}/", Modality.IMAGE)
            assert got == (PNG, "image/png")
            error = await refusal(fetcher, f"https://other.example.org:{server.port}/")
            assert error.code == "fetch_failed"
