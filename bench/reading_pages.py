"""Pages to read: sentences drawn at a size and then spoiled in one way."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

ENGLISH = """The train to the coast leaves at noon from platform nine.
Please return the signed form before the end of the month.
Water boils at a lower temperature high in the mountains.
Our office will be closed for the public holiday.
She found an old map between the pages of a cookbook.
The committee approved the budget after a long debate.
Store this medicine in a cool and dry place.
Nobody could explain why the lights went out.
A quick brown fox jumps over the lazy dog.
The warranty does not cover damage by water.
Passengers must keep their seat belts fastened.
He bought two kilos of apples and half a melon.
The lecture was moved to the large hall on the left.
Turn off the engine before you open the hood.
Her third novel won a prize and was soon translated.
The bridge will be repaired between June and August.""".splitlines()
CHINESE = """北京是中国的首都，也是全国的文化中心。
请在本月底之前交回签好字的表格。
高山上水的沸点比平地低一些。
明天下午三点在二楼会议室开会。
这种药品应当存放在阴凉干燥的地方。
列车将于中午十二点从九号站台出发。
她在一本旧书里发现了一张地图。
委员会经过长时间讨论通过了预算。
谁也说不清楚昨晚为什么停电。
旅客请系好安全带，不要随意走动。
他买了两公斤苹果和半个西瓜。
大桥将在六月到八月之间进行维修。
保修范围不包括进水造成的损坏。
她的第三部小说获奖后很快被翻译出版。
打开机盖以前请先关闭发动机。
学校图书馆周末照常开放，欢迎借阅。""".splitlines()
LANGUAGES = {"English": ENGLISH, "Chinese": CHINESE}
LINES = 6


def code(rng: random.Random) -> str:
    """What no language model can guess: an order number, a date and a sum."""
    day = f"{rng.randint(2019, 2026)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
    letters = "".join(rng.choices("ABCDEFGHKLMNPQRSTUVWXYZ", k=3))
    return (
        f"{letters}-{rng.randint(1000, 99999)} {day} {rng.randint(1, 9999)}.{rng.randint(10, 99)}"
    )


def lines(language: str, rng: random.Random) -> list[str]:
    return [*rng.sample(LANGUAGES[language], LINES - 1), code(rng)]


def page(text: list[str], size: int, font: Path) -> Image.Image:
    """Black on white, `size` pixels to the em."""
    drawn = ImageFont.truetype(str(font), size)
    margin, step = 2 * size, round(1.7 * size)
    width = round(max(drawn.getlength(line) for line in text)) + 2 * margin
    image = Image.new("RGB", (width, 2 * margin + step * len(text)), "white")
    for row, line in enumerate(text):
        ImageDraw.Draw(image).text((margin, margin + step * row), line, font=drawn, fill="black")
    return image


def _noisy(image: Image.Image, rng: random.Random) -> Image.Image:
    noise = np.random.default_rng(rng.randrange(2**32)).normal(0, 40, np.shape(image))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def _jpeg(image: Image.Image, rng: random.Random) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=15)
    return Image.open(out).convert("RGB")


def _tilted(image: Image.Image, rng: random.Random) -> Image.Image:
    angle = rng.choice([-1, 1]) * rng.uniform(2, 5)
    bicubic = Image.Resampling.BICUBIC
    return image.rotate(angle, bicubic, expand=True, fillcolor="white")


def _faint(image: Image.Image, rng: random.Random) -> Image.Image:
    return image.point([170 + value * 40 // 255 for value in range(256)] * 3)


SPOILED: dict[str, Callable[[Image.Image, random.Random], Image.Image]] = {
    "clean": lambda image, rng: image,
    "noise (sigma 40)": _noisy,
    "JPEG quality 15": _jpeg,
    "blur (1 px)": lambda image, rng: image.filter(ImageFilter.GaussianBlur(1)),
    "tilted 2-5 degrees": _tilted,
    "faint (170 on 210)": _faint,
}
