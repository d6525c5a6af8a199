"""Pictures are measured by their header; nothing is unpacked, nothing is fetched."""

from __future__ import annotations

import base64
import struct
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bicameral.errors import RequestError
from bicameral.server import media
from bicameral.types import Image


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = zlib.compress(b"\0" * ((width // 8 + 1) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def jpeg(width: int, height: int) -> bytes:
    app0 = b"\xff\xe0" + struct.pack(">H", 16) + b"JFIF\0" + bytes(9)
    frame = b"\xff\xff\xc2" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)
    return b"\xff\xd8" + app0 + frame + b"\xff\xd9"


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + bytes(20)


def webp(width: int, height: int) -> bytes:
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + bytes(4) + b"WEBPVP8X" + bytes(8) + canvas


def webp_lossless(width: int, height: int) -> bytes:
    bits = (width - 1) | (height - 1) << 14
    return (
        b"RIFF" + bytes(4) + b"WEBPVP8L" + bytes(4) + b"\x2f" + struct.pack("<I", bits) + bytes(9)
    )


def webp_lossy(width: int, height: int) -> bytes:
    frame = bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", width, height)
    return b"RIFF" + bytes(4) + b"WEBPVP8 " + bytes(4) + frame + bytes(9)


def url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def read(address: str, pixels: int = 40_000_000) -> Image:
    return media.image(address, None, max_pixels=pixels, param="p")


MAKERS = [png, jpeg, gif, webp, webp_lossless, webp_lossy]
KINDS = ["png", "jpeg", "gif", "webp", "webp", "webp"]


@pytest.mark.parametrize(("make", "kind"), list(zip(MAKERS, KINDS, strict=True)))
def test_the_header_tells_type_and_size(make, kind) -> None:
    image = read(url(make(20, 10), "image/x"), 200)
    assert image.media_type == f"image/{kind}"
    assert image.data == make(20, 10)
    with pytest.raises(RequestError, match="20 x 10 pixels") as caught:
        read(url(make(20, 10)), 199)
    assert caught.value.param == "p"


def test_a_bomb_is_refused_unopened() -> None:
    bomb = png(9000, 9000)
    assert len(bomb) < 20_000
    with pytest.raises(RequestError, match="9000 x 9000"):
        read(url(bomb))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"x", b"<svg/>", b"II*\0" + bytes(99), b"\0\0\1\0" + bytes(99), b"8BPS" + bytes(99),
        b"SIMPLE  =" + bytes(99), png(9, 9)[:20], png(0, 9), jpeg(9, 9)[:12], gif(9, 9)[:9],
        b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xe0\x00\x00\xff\xe0", b"RIFF    WEBPVP8?" + bytes(30),
    ],
    ids=lambda data: repr(data[:10]),
)  # fmt: skip
def test_what_is_no_picture_we_take_is_refused(data: bytes) -> None:
    with pytest.raises(RequestError, match="PNG, JPEG, WebP or GIF"):
        read(url(data))


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/passwd", "gopher://a", "ftp://a/b", "//a/b", "a.png", "http://", "https:///x",
        "http://user@host/", "http://user:pw@10.0.0.1/", "http://a b/", "javascript:1",
        "http://a/\r\nX: y", "http://a\\@b/", "http://a/" + "x" * 9000, " http://a/",
    ],
)  # fmt: skip
def test_only_plain_web_addresses_pass(address: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(address)
    assert caught.value.code == "blocked_url"


@pytest.mark.parametrize(
    "address",
    ["data:", "data:,x", "data:image/png,x", "data:image/png;base64,a", "data:;base64,=="],
)
def test_a_broken_data_url_is_refused(address: str) -> None:
    with pytest.raises(RequestError):
        read(address)


def test_a_web_address_is_not_fetched() -> None:
    assert read("https://example.com/cat.png?x=1").url == "https://example.com/cat.png?x=1"
    assert media.video("https://example.com/a.mp4", param="p").data is None


def test_a_clip_and_a_sound_are_decoded() -> None:
    assert media.video(url(b"abc", "video/mp4"), param="p").media_type == "video/mp4"
    assert media.audio("YWJj", "wav", param="p").data == b"abc"
    with pytest.raises(RequestError):
        media.audio("?", "wav", param="p")


@given(st.sampled_from(MAKERS), st.binary(max_size=40), st.integers(0, 60))
def test_any_damage_is_a_request_error(make, noise: bytes, at: int) -> None:
    data = make(20, 10)
    with suppress(RequestError):
        read(url(data[:at] + noise + data[at + len(noise) :]))
