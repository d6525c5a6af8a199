"""Reading real text: Chinese from a picture kept here, English drawn with Pillow's own font."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
from pathlib import Path

import pytest

pytest.importorskip("rapidocr", reason="needs pip install 'bicameral[see]'")
np = pytest.importorskip("numpy")

from PIL import Image as pillow  # noqa: E402
from PIL import ImageDraw, ImageFont  # noqa: E402

from bicameral.engines import ocr  # noqa: E402
from bicameral.errors import Broken, ConfigError  # noqa: E402
from bicameral.model import collect  # noqa: E402
from bicameral.types import Image, Message, Modality, Percept, Request  # noqa: E402

CHINESE = Path(__file__).with_name("chinese.png")
SAID = [
    "北京是中国的首都，人口两千一百万。",
    "今天的天气很好，我们去公园散步吧！",
    "订单号A20261122，合计98.60元",
]


def page(*lines: str, width: int = 640, size: int = 28, gap: int = 60, dark: bool = False):
    """Lines below one another, as pixels."""
    back, ink = ("black", "white") if dark else ("white", "black")
    image = pillow.new("RGB", (width, gap * len(lines) + 20), back)
    font = ImageFont.load_default(size)
    for row, line in enumerate(lines):
        ImageDraw.Draw(image).text((20, 20 + gap * row), line, font=font, fill=ink)
    return image


def png(image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def reader(**keys) -> ocr.Reader:
    return ocr.Reader("reader", ocr.Options(engine="ocr", **keys))


@pytest.fixture(scope="module")
def eye() -> ocr.Reader:
    return reader()


def read(eye: ocr.Reader, image) -> list[Percept]:
    return eye.look(np.asarray(image.convert("RGB")))


def plain(text: str) -> str:
    return text.replace(" ", "").replace(",", "，")


def test_chinese_and_english(eye):
    found = read(eye, pillow.open(CHINESE))
    assert [plain(line.text) for line in found] == SAID
    found = read(eye, page("Invoice 2026-11-22", "Total 1,234.50 EUR"))
    assert [line.text for line in found] == ["Invoice 2026-11-22", "Total 1,234.50 EUR"]
    assert all(line.kind == "text" and 0.8 < line.confidence <= 1 for line in found)


def test_boxes_are_shares_of_the_picture(eye):
    (line,) = read(eye, page("Hello", "", "", width=800))
    left, top, right, bottom = line.box
    assert 0.0 < left < 0.04
    assert 0.08 < right < 0.2
    assert 0.05 < top < bottom < 0.4


def test_read_from_top_to_bottom_and_left_to_right(eye):
    image = page("north", "middle", "south")
    ImageDraw.Draw(image).text((400, 22), "east", font=ImageFont.load_default(28), fill="black")
    assert [line.text for line in read(eye, image)] == ["north", "east", "middle", "south"]


def test_a_dark_page_and_a_picture_without_text(eye):
    assert [line.text for line in read(eye, page("Night mode", dark=True))] == ["Night mode"]
    assert read(eye, pillow.new("RGB", (300, 200), "white")) == []


def test_what_is_turned_by_exif_is_read_upright():
    exif = pillow.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    page("Hello world").rotate(90, expand=True).save(out, "JPEG", exif=exif, quality=95)

    async def seen() -> tuple[Percept, ...]:
        async with ocr.open("reader", ocr.Options(engine="ocr")) as model:
            return (await collect(model, asked(out.getvalue()))).percepts

    (line,) = asyncio.run(seen())
    assert line.text == "Hello world"
    assert line.box[2] - line.box[0] > 0.2


LONG = "The warranty does not cover damage by water."


def test_a_long_line_is_not_taken_for_one_upside_down(eye):
    """At this size and stretch the net that tells which way up a line is would turn it."""
    image = page(LONG, width=1350, size=50, gap=100).resize((1600, 180))
    assert [line.text for line in read(eye, image)] == [LONG]


def test_a_picture_that_is_upside_down_is_read(eye):
    found = read(eye, page(LONG, "Hello world", width=900).rotate(180))
    assert [line.text for line in found] == ["Hello world", LONG]


def test_a_long_picture_is_read_whole_and_in_order(eye):
    lines = [f"Line {number} of many" for number in range(25)]
    found = read(eye, page(*lines, width=400))
    assert [plain(line.text) for line in found] == [plain(line) for line in lines]
    tops = [line.box[1] for line in found]
    assert tops == sorted(tops)
    assert tops[-1] > 0.9


def test_the_cut_goes_between_the_lines():
    image = np.asarray(page(*["text"] * 60, width=300))
    pieces = list(ocr._pieces(image, 1000))
    assert [piece.shape[0] for _, _, piece in pieces] != [len(image)]
    assert sum(piece.shape[0] for _, _, piece in pieces) == len(image)
    for _, top, piece in pieces:
        assert piece[-1].min() == 255, f"a line is cut below row {top}"
    wide = image.transpose(1, 0, 2)
    assert [(left, top) for left, top, _ in ocr._pieces(wide, 300)] == [
        (top, left) for left, top, _ in ocr._pieces(image, 900)
    ]


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 60), (60, 1), (3, 3), (5, 4000), (4000, 5), (31, 31)]
)
def test_pictures_of_odd_shapes(eye, shape):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert isinstance(eye.look(noise), list)


def test_a_line_it_is_not_sure_of_is_left_out():
    assert read(reader(floor=1.0), page("Hello")) == []


def test_a_failure_of_the_nets_is_an_error_of_ours(eye, monkeypatch):
    def fail(*_, **__):
        raise ValueError("no such shape")

    monkeypatch.setattr(eye, "_read", fail)
    with pytest.raises(Broken, match="rapidocr failed: no such shape"):
        read(eye, page("Hello"))


def test_the_log_and_its_handlers_stay_as_they_were(capfd):
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    read(reader(), page("Hello"))
    read(reader(), pillow.new("RGB", (100, 100)))
    assert (root.level, list(root.handlers)) == before
    assert logging.getLogger("RapidOCR").handlers == []
    assert capfd.readouterr() == ("", "")


def test_nothing_is_written_or_downloaded(monkeypatch):
    def files() -> set[tuple[str, int]]:
        import rapidocr

        folder = Path(rapidocr.__file__).parent
        return {(str(path), path.stat().st_mtime_ns) for path in folder.rglob("*.onnx")}

    from rapidocr.utils.download_file import DownloadFile

    monkeypatch.setattr(DownloadFile, "run", lambda *_: pytest.fail("downloaded"))
    before = files()
    assert read(reader(), page("Hello"))[0].text == "Hello"
    assert files() == before


def test_models_that_are_gone_are_not_looked_for_elsewhere(monkeypatch):
    monkeypatch.setattr(ocr, "_MODELS", {"Det": "gone.onnx"})
    with pytest.raises(ConfigError, match=r"no gone.onnx: run `pip install 'bicameral\[see\]'`"):
        reader()


def test_a_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidocr.main", None)
    with pytest.raises(ConfigError, match=r"pip install 'bicameral\[see\]'"):
        reader()


def asked(*pictures: bytes) -> Request:
    parts = tuple(Image(data=data) for data in pictures)
    return Request(messages=(Message("user", parts),), output=Modality.PERCEPT)


async def test_as_a_model_for_several_pictures():
    async with ocr.open("reader", ocr.Options(engine="ocr")) as model:
        answer = await collect(model, asked(CHINESE.read_bytes(), png(page("Hello"))))
    assert answer.error is None
    assert [plain(p.text) for p in answer.percepts] == [*SAID, "Hello"]
    assert [p.source for p in answer.percepts] == [0, 0, 0, 1]
    assert model.card.accepts == {Modality.IMAGE}
    assert model.card.emits == {Modality.PERCEPT}
