"""What a client may not do to the server: too much, too slowly, too often, or in bad form."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import struct

import pytest

from tests.server.client import HI, call, chat, embed, head, raw, until
from tests.server.live import serving
from tests.server.test_media import png, url

SLOW = """
[models.echo]
engine = "scripted"

[models.slow]
engine = "scripted"
reply = "a b c d e f g h i j k l m n o p"
delay = 0.5

[models.flood]
engine = "scripted"
reply = "FLOOD"

[models.eye]
engine = "scripted"
accepts = ["text", "image"]

[models.vec]
engine = "scripted"
emits = ["embedding"]
""".replace("FLOOD", "x" * 200_000 + " " + "y " * 3000)
BODY = json.dumps({"model": "echo", "messages": HI}).encode()


async def answer(reader: asyncio.StreamReader, seconds: float = 5.0) -> bytes:
    """All that the server says before it closes."""
    return await asyncio.wait_for(reader.read(), seconds)


async def test_a_long_body_is_refused_before_it_is_read() -> None:
    async with serving(max_body=1000) as live:
        reader, writer = await raw(live)
        writer.write(head(live, 10**12))
        line = await asyncio.wait_for(reader.readline(), 5)
        assert b" 413 " in line
        writer.close()
        got = await call(live, "POST", "/v1/chat/completions", b" " * 1001)
        assert (got.status, got.error["code"]) == (413, "body_too_large")
        assert (await chat(live)).status == 200


async def drip(writer: asyncio.StreamWriter, piece: bytes) -> None:
    """Send `piece` for as long as the server takes it."""
    while True:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.001)


async def test_a_chunked_bomb_is_cut() -> None:
    async with serving(max_body=100_000) as live:
        _, writer = await raw(live)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(drip(writer, b"ffff\r\n" + b" " * 0xFFFF + b"\r\n"), 10)
        writer.close()
        assert (await chat(live)).status == 200


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: -1",
        b"Content-Length: x",
        b"Content-Length: 1\r\nContent-Length: 2",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Content-Length: 99999999999999999999999",
        b"Bad\x00Header: 1",
        b"No colon",
    ],
)
async def test_bad_http_is_a_400_in_openai_form(lines: bytes) -> None:
    async with serving() as live:
        reader, writer = await raw(live)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n" + lines + b"\r\n\r\n"
        )
        said = await answer(reader)
        assert said.startswith(b"HTTP/1.1 400 ")
        assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["code"] == "bad_http"
        writer.close()


async def test_a_short_body_is_waited_for_and_then_refused() -> None:
    async with serving(header_timeout=0.2) as live:
        reader, writer = await raw(live)
        writer.write(head(live, len(BODY) + 1) + BODY)
        assert (await answer(reader)).startswith(b"HTTP/1.1 408 ")
        writer.close()
        await until(lambda: not live.server.app.desk.tasks)
        assert live.scripted("echo").runs == 0


@pytest.mark.parametrize(
    "start", [b"", b"POST /v1/chat/compl", b"GET /healthz HTTP/1.1\r\nA: b\r\n"]
)
async def test_slow_headers_are_refused(start: bytes) -> None:
    async with serving(header_timeout=0.2) as live:
        reader, writer = await raw(live)
        writer.write(start)
        assert (await answer(reader)).startswith(b"HTTP/1.1 408 ")
        writer.close()


async def test_a_dripping_body_does_not_buy_time() -> None:
    async with serving(header_timeout=0.3) as live:
        reader, writer = await raw(live)
        writer.write(head(live, 1000))
        reading = asyncio.create_task(answer(reader, 10))
        while not reading.done():
            writer.write(b" ")
            await asyncio.sleep(0.02)
        try:
            assert b" 408 " in await reading
        except ConnectionResetError:
            """It was closed while bytes still came in, which resets it: no time was bought."""
        writer.close()


async def test_an_idle_connection_is_closed() -> None:
    async with serving(idle_timeout=0.2) as live:
        reader, writer = await raw(live)
        writer.write(head(live, len(BODY)) + BODY)
        assert (await answer(reader)).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_line_breaks_do_not_keep_an_idle_connection() -> None:
    async with serving(idle_timeout=5, header_timeout=0.3) as live:
        reader, writer = await raw(live)
        writer.write(head(live, len(BODY)) + BODY)
        await asyncio.wait_for(reader.readuntil(b"}}}"), 5)
        writer.write(b"\r\n")
        assert b" 408 " in await answer(reader)
        writer.close()


@pytest.mark.parametrize(
    "start", [b"OPTIONS *", b"CONNECT a:1", b"GET \xff", b"GET http://[/", b"G T /"]
)
async def test_odd_targets_are_answered(start: bytes) -> None:
    async with serving() as live:
        reader, writer = await raw(live)
        writer.write(start + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert (await answer(reader))[:11] in (b"HTTP/1.1 40", b"HTTP/1.1 20")
        assert (await chat(live)).status == 200
        writer.close()


async def test_an_upgrade_is_not_taken() -> None:
    async with serving() as live:
        reader, writer = await raw(live)
        more = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
        writer.write(head(live, len(BODY), *more) + BODY)
        assert (await asyncio.wait_for(reader.readline(), 5))[:12] in (
            b"HTTP/1.1 200",
            b"HTTP/1.1 400",
        )
        writer.close()


async def test_a_long_answer_is_not_a_slow_request() -> None:
    async with serving(SLOW, header_timeout=0.2, idle_timeout=0.2) as live:
        got = await chat(live, model="slow", stream=True, max_tokens=2)
        assert got.text == "a b "


async def test_headers_without_end_are_refused() -> None:
    async with serving() as live:
        reader, writer = await raw(live)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
        sending = asyncio.create_task(drip(writer, b"X-A: " + b"a" * 1000 + b"\r\n"))
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 431 ")
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(sending, 5)
        writer.close()


async def test_a_client_that_does_not_read_is_dropped() -> None:
    async with serving(SLOW, write_timeout=0.3) as live:
        text = [{"role": "user", "content": "x" * 20_000_000}]
        body = json.dumps({"model": "echo", "messages": text, "stream": True}).encode()
        _, writer = await raw(live)
        writer.transport.pause_reading()
        writer.write(head(live, len(body)) + body)
        await until(lambda: live.scripted("echo").runs == 1)
        assert (await chat(live)).status == 200
        await until(lambda: not live.server._uvicorn.server_state.connections, 10)
        assert not live.server.app.desk.tasks
        writer.close()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, identity"])
async def test_an_encoded_body_is_refused(encoding: str) -> None:
    async with serving() as live:
        bomb = gzip.compress(b" " * 10_000_000)
        got = await call(live, "POST", "/v1/chat/completions", bomb, {"Content-Encoding": encoding})
        assert (got.status, got.error["code"]) == (415, "unsupported_encoding")


async def test_more_requests_than_allowed_are_told_to_come_again() -> None:
    async with serving(SLOW, max_streams=2) as live:
        running = [asyncio.create_task(chat(live, model="slow")) for _ in range(2)]
        await until(lambda: live.scripted("slow").running == 2)
        got = await chat(live)
        assert (got.status, got.error["code"]) == (429, "too_many_requests")
        assert got.headers["retry-after"] == "1"
        assert (await call(live, "GET", "/healthz")).status == 200
        for task in running:
            task.cancel()
        await until(lambda: live.scripted("slow").running == 0)
        assert (await chat(live)).status == 200


async def test_hard_json_is_a_400_and_the_next_request_fine() -> None:
    async with serving(max_messages=10) as live:
        path = "/v1/chat/completions"
        for body in (b"[" * 10**6, b'{"a":NaN}', b"\xff\xfe", b"\xef\xbb\xbf{}", b'{"a":1,"a":1}'):
            assert (await call(live, "POST", path, body)).status == 400
        assert (await chat(live, messages=HI * 11)).status == 400
        assert (await chat(live, n=10**6)).error["param"] == "n"
        assert (await chat(live)).status == 200


async def test_pictures_are_measured() -> None:
    def turn(address: str) -> list[dict[str, object]]:
        parts = [{"type": "image_url", "image_url": {"url": address}}]
        return [{"role": "user", "content": parts}]

    async with serving(SLOW, max_image_pixels=100) as live:
        assert (await chat(live, model="eye", messages=turn(url(png(10, 10))))).status == 200
        bomb = await chat(live, model="eye", messages=turn(url(png(11, 10))))
        assert (bomb.status, bomb.error["code"]) == (400, "image_too_large")
        assert bomb.error["param"] == "messages[0].content[0].image_url"
        refused = await chat(live, messages=turn(url(png(10, 10))))
        assert (refused.status, refused.error["param"]) == (400, "messages")
        blocked = await chat(live, model="eye", messages=turn("file:///etc/passwd"))
        assert blocked.error["code"] == "blocked_url"


async def test_embeddings() -> None:
    async with serving(SLOW) as live:
        floats = (await embed(live, model="vec", input=["ab", "c"])).json
        assert [row["index"] for row in floats["data"]] == [0, 1]
        assert floats["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
        packed = (await embed(live, model="vec", input="ab", encoding_format="base64")).json
        values = struct.unpack("<26f", base64.b64decode(packed["data"][0]["embedding"]))
        assert values == pytest.approx(floats["data"][0]["embedding"])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": [1, 2]}, "input"),
        ({"input": [[1, 2]]}, "input"),
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "a", "dimensions": 3}, "dimensions"),
        ({"input": "a", "model": "echo"}, "model"),
        ({}, "input"),
    ],
)
async def test_wrong_embedding_fields_are_named(fields, param: str) -> None:
    async with serving(SLOW) as live:
        got = await embed(live, **{"model": "vec", **fields})
        assert (got.status, got.error["param"]) == (400, param)
