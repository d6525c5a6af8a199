"""Pictures of every kind that people send, and those that are meant to hurt."""

from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import sys
import zlib

import pytest

np = pytest.importorskip("numpy", reason="needs pip install 'bicameral[see]'")
Image = pytest.importorskip("PIL.Image", reason="needs pip install 'bicameral[see]'")

from bicameral.engines.media import picture  # noqa: E402
from bicameral.engines.media.header import measure  # noqa: E402
from bicameral.errors import ConfigError, RequestError  # noqa: E402

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)
ORIENTATION = 0x0112


def corner(mode: str = "RGB"):
    """40 x 20: red in the upper left corner, blue elsewhere."""
    image = Image.new("RGB", (40, 20), BLUE)
    image.paste(RED, (0, 0, 20, 10))
    return image.convert(mode)


def encoded(image, kind: str, **fields) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **fields)
    return out.getvalue()


def near(pixel, colour) -> bool:
    return all(abs(int(a) - b) < 40 for a, b in zip(pixel, colour, strict=True))


def png(width: int, height: int, *, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG from its raw rows, for what Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def refused(data: bytes) -> RequestError:
    with pytest.raises(RequestError) as caught:
        picture.decode(data, name="picture 1")
    assert caught.value.param == "messages"
    assert "picture 1" in str(caught.value)
    return caught.value


KINDS = {
    "png": lambda image: encoded(image, "PNG"),
    "jpeg": lambda image: encoded(image, "JPEG", quality=95, subsampling=0),
    "progressive jpeg": lambda image: encoded(image, "JPEG", quality=95, progressive=True),
    "webp": lambda image: encoded(image, "WEBP", quality=95),
    "lossless webp": lambda image: encoded(image, "WEBP", lossless=True),
    "gif": lambda image: encoded(image, "GIF"),
}
every = pytest.mark.parametrize("kind", KINDS)


@every
def test_the_kinds_that_are_taken(kind):
    pixels = picture.decode(KINDS[kind](corner()))
    assert pixels.shape == (20, 40, 3)
    assert pixels.dtype == np.uint8
    assert near(pixels[2, 2], RED)
    assert near(pixels[15, 30], BLUE)


@every
def test_the_header_tells_the_size(kind):
    header = measure(KINDS[kind](corner()))
    assert (header.width, header.height) == (40, 20)
    assert header.media_type.split("/")[1] in kind


@every
def test_cut_short_is_an_error(kind):
    data = KINDS[kind](Image.effect_noise((200, 100), 90).convert("RGB"))
    for length in (0, 4, 20, len(data) // 2):
        assert refused(data[:length]).code == "invalid_image"


@pytest.mark.parametrize("kind", ["png", "webp", "gif"])
def test_corrupt_is_an_error_or_a_picture(kind):
    """Whatever byte is wrong, nothing but a RequestError comes out."""
    good = KINDS[kind](corner())
    for at in range(len(good)):
        bad = good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :]
        with contextlib.suppress(RequestError):
            assert picture.decode(bad, most=4000).ndim == 3


@pytest.mark.parametrize("kind", ["TIFF", "ICO", "BMP", "PPM", "TGA", "JPEG2000", "AVIF"])
def test_other_kinds_are_refused(kind):
    assert refused(encoded(corner(), kind)).code == "invalid_image"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"8BPS\x00\x01" + bytes(100),
        b"SIMPLE  =                    T" + bytes(2880),
        b"%PDF-1.7\n" + bytes(100),
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_what_is_no_picture_is_refused(data):
    assert refused(data).code == "invalid_image"


@pytest.mark.parametrize(
    ("orientation", "turned", "red"),
    [
        (1, (20, 40), (2, 2)),
        (2, (20, 40), (2, 37)),
        (3, (20, 40), (17, 37)),
        (4, (20, 40), (17, 2)),
        (5, (40, 20), (2, 2)),
        (6, (40, 20), (2, 17)),
        (7, (40, 20), (37, 17)),
        (8, (40, 20), (37, 2)),
        (99, (20, 40), (2, 2)),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_turned_as_its_exif_says(kind, orientation, turned, red):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    pixels = picture.decode(encoded(corner(), kind, exif=exif))
    assert pixels.shape[:2] == turned
    assert near(pixels[red], RED)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_monstrous_exif_changes_nothing():
    for exif in (b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0" + b"\xff" * 60_000):
        assert near(picture.decode(encoded(corner(), "JPEG", exif=exif))[2, 2], RED)


@pytest.mark.parametrize("mode", ["P", "CMYK", "YCbCr"])
def test_other_colour_models(mode):
    kind = "PNG" if mode == "P" else "JPEG"
    pixels = picture.decode(encoded(corner(mode), kind))
    assert near(pixels[2, 2], RED)
    assert near(pixels[15, 30], BLUE)


def test_one_bit():
    image = Image.new("1", (40, 20), 1)
    image.paste(0, (0, 0, 20, 10))
    pixels = picture.decode(encoded(image, "PNG"))
    assert pixels[2, 2].tolist() == [0, 0, 0]
    assert pixels[15, 30].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("colour", "values", "seen"),
    [
        (0, (0x8000,), (128, 128, 128)),
        (0, (1023 << 6,), (255, 255, 255)),  # ten bits, as cameras store them in sixteen
        (2, (0xFFFF, 0x8000, 0), (255, 128, 0)),
        (4, (0x8000, 0xFFFF), (128, 128, 128)),
        (6, (0xFFFF, 0, 0, 0), WHITE),
    ],
    ids=["grey", "ten bits", "rgb", "grey and alpha", "rgb and alpha"],
)
def test_sixteen_bits_a_channel(colour, values, seen):
    row = b"\0" + struct.pack(f">{len(values)}H", *values) * 8
    pixels = picture.decode(png(8, 4, depth=16, colour=colour, rows=row * 4))
    assert pixels.shape == (4, 8, 3)
    assert near(pixels[2, 2], seen)


def test_what_is_see_through_lies_on_white():
    clear = corner().convert("RGBA")
    clear.putpixel((2, 2), (255, 0, 0, 0))
    for data in (encoded(clear, "PNG"), encoded(clear, "WEBP", lossless=True)):
        assert near(picture.decode(data)[2, 2], WHITE)
    palette = corner("P")
    see_through = palette.getpixel((2, 2))
    for kind in ("PNG", "GIF"):
        pixels = picture.decode(encoded(palette, kind, transparency=see_through))
        assert near(pixels[2, 2], WHITE)
        assert near(pixels[15, 30], BLUE)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_a_moving_picture_the_first_frame(kind):
    later = [Image.new("RGB", (40, 20), (0, 200 - i, 0)) for i in range(5)]
    data = encoded(corner(), kind, save_all=True, append_images=later, duration=20)
    assert near(picture.decode(data)[2, 2], RED)


def test_ten_thousand_frames_cost_no_more_than_the_first():
    """The frames after the first are not even looked at: they are no frames."""
    still = encoded(corner("P"), "GIF")
    frames = b"\x2c" + b"\xff" * 9 + b"\x08" + b"\x01\x00\x00"
    pixels = picture.decode(still[:-1] + frames * 10_000 + b";")
    assert near(pixels[2, 2], RED)


def test_made_smaller_in_proportion():
    big = corner().resize((1000, 500))
    for kind in ("PNG", "JPEG", "GIF"):
        pixels = picture.decode(encoded(big, kind), most=20_000)
        assert pixels.shape == (100, 200, 3)
        assert near(pixels[10, 10], RED)
    thin = encoded(Image.new("RGB", (9000, 1)), "PNG")
    assert picture.decode(thin, most=100).shape == (1, 949, 3)


BOMB = png(9000, 9000, depth=1, colour=0, rows=bytes(1126) * 9000)


def test_a_bomb_is_refused_before_it_is_opened(monkeypatch):
    assert len(BOMB) < 20_000
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("opened"))
    error = refused(BOMB)
    assert error.code == "image_too_large"
    assert "9000 x 9000" in str(error)


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 2**31 - 1, 2**31 - 1) + bytes(20),
        b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(20),
        b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff" * 6 + bytes(20),
        b"\xff\xd8\xff\xc0\0\x11\x08" + struct.pack(">HH", 65500, 65500) + bytes(20),
    ],
    ids=["png", "gif", "webp", "jpeg"],
)
def test_a_huge_claim_is_refused_whatever_the_kind(data):
    assert refused(data).code == "image_too_large"


def test_a_frame_larger_than_its_gif_is_refused():
    small = bytearray(encoded(corner("P"), "GIF"))
    at = small.index(b"\x2c\0\0\0\0")
    small[at + 5 : at + 9] = struct.pack("<HH", 65535, 65535)
    with pytest.raises(RequestError):
        picture.decode(bytes(small))


def test_a_jpeg_of_endless_scans_is_refused():
    data = encoded(corner(), "JPEG", progressive=True)
    scan = data.index(b"\xff\xda")
    assert "scans" in str(refused(data[:scan] + data[scan:-2] * 20 + data[-2:]))


def test_text_that_unpacks_to_much_is_refused():
    head, rest = png(1, 1, depth=8, colour=0, rows=b"\0\0")[:33], b"IEND"
    text = b"note\0\0" + zlib.compress(bytes(50_000_000), 9)
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text
    chunk += struct.pack(">I", zlib.crc32(b"zTXt" + text))
    assert refused(head + chunk + rest).code == "invalid_image"


MEASURE = """
import resource, sys
from bicameral.engines.media import picture
from bicameral.errors import RequestError
import PIL.Image, PIL.PngImagePlugin, numpy
data = sys.stdin.buffer.read()
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
try:
    print(picture.decode(data, most=1_000_000).shape)
except RequestError as error:
    print(error.code)
print((peak() - before) // 1024)
"""


def peak_of(data: bytes) -> tuple[str, int]:
    """What came of it, and by how many MiB a fresh process grew."""
    ran = subprocess.run(
        [sys.executable, "-c", MEASURE], input=data, capture_output=True, check=True
    )
    said, grew = ran.stdout.decode().split("\n")[:2]
    return said, int(grew)


def test_a_bomb_takes_no_memory():
    said, grew = peak_of(BOMB)
    assert said == "image_too_large"
    assert grew < 8


@pytest.mark.slow
def test_the_largest_picture_takes_bounded_memory():
    """A palette with alpha is the worst: four bytes a pixel beside its own one."""
    image = Image.new("P", (8000, 5000))
    said, grew = peak_of(encoded(image, "PNG", transparency=0, compress_level=1))
    assert said == "(791, 1265, 3)"
    assert grew < 300


def test_pillows_own_limit_stays_as_it_is():
    before = Image.MAX_IMAGE_PIXELS
    picture.decode(KINDS["png"](corner()))
    assert before is not None
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ConfigError, match=r"pip install 'bicameral\[see\]'"):
        picture.decode(KINDS["png"](corner()))
