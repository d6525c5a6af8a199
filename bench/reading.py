"""What the perceivers of pictures find, and what it costs them, as markdown.

Reading: character errors over characters, on pages drawn here (English in DejaVu Sans, Chinese in
WenQuanYi Micro Hei), at several sizes and spoiled in several ways; spaces and the width of
punctuation do not count. Intervals are 95 %, by resampling pages. Seconds are CPU of one thread.
Tags and faces: the photographs that come with scikit-image, whose contents are known.

    apt-get install fonts-wqy-microhei fonts-dejavu-core     # or --chinese and --english
    pip download --no-deps scikit-image && unzip scikit_image*.whl -d skimage
    bicameral pull efficientnet-lite0 && bicameral pull blazeface-back
    python bench/reading.py --pictures skimage/skimage/data [--pages 10]
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import io
import os
import random
import statistics
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL.Image import Image as Picture
from reading_pages import LANGUAGES, SPOILED, lines, page
from reading_pictures import faces_table, tags_table

from bicameral.engines import ocr
from bicameral.model import collect
from bicameral.types import Image, Message, Modality, Request

SIZES = (8, 12, 20, 40)
FONTS = {
    "English": "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    "Chinese": "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
}
Read = Callable[[np.ndarray], list[str]]


def errors(said: str, true: str) -> int:
    """Characters to insert, delete or replace (Levenshtein)."""
    row = list(range(len(said) + 1))
    for at, wanted in enumerate(true, 1):
        before, row[0] = row[0], at
        for to, got in enumerate(said, 1):
            best = min(row[to] + 1, row[to - 1] + 1, before + (got != wanted))
            before, row[to] = row[to], best
    return row[-1]


def plain(text: list[str]) -> str:
    return "".join(unicodedata.normalize("NFKC", "".join(text)).split())


class Tally:
    """Errors and characters of pages, and the seconds they took."""

    def __init__(self) -> None:
        self.wrong: list[int] = []
        self.length: list[int] = []
        self.seconds: list[float] = []

    def add(self, read: Read, image: Picture, text: list[str]) -> None:
        pixels = np.asarray(image)
        began = time.process_time()
        said = read(pixels)
        self.seconds.append(time.process_time() - began)
        self.wrong.append(errors(plain(said), plain(text)))
        self.length.append(len(plain(text)))

    def rate(self) -> str:
        """Character error rate in percent with its interval."""
        rng = np.random.default_rng(0)
        picks = rng.integers(0, len(self.wrong), (2000, len(self.wrong)))
        wrong, length = np.array(self.wrong)[picks].sum(1), np.array(self.length)[picks].sum(1)
        low, high = np.percentile(100 * wrong / length, [2.5, 97.5])
        return f"{100 * sum(self.wrong) / sum(self.length):.1f} ({low:.1f}-{high:.1f})"

    def cost(self) -> str:
        return f"{statistics.median(self.seconds):.2f}"


def reading(read: Read, fonts: dict[str, Path], pages: int) -> None:
    print("| CER % | " + " | ".join(f"{size} px" for size in SIZES) + " |")
    print("|---|" + "---|" * len(SIZES))
    seconds: dict[int, list[float]] = {size: [] for size in SIZES}
    for language in LANGUAGES:
        for name, spoil in SPOILED.items():
            cells = []
            for size in SIZES:
                tally, rng = Tally(), random.Random(f"{language}{name}{size}")
                for _ in range(pages):
                    text = lines(language, rng)
                    tally.add(read, spoil(page(text, size, fonts[language]), rng), text)
                seconds[size] += tally.seconds
                cells.append(tally.rate())
            print(f"| {language}, {name} | " + " | ".join(cells) + " |", flush=True)
    median = [f"{statistics.median(each):.2f}" for each in seconds.values()]
    print("| CPU s a page | " + " | ".join(median) + " |\n")


def against(fonts: dict[str, Path], pages: int) -> None:
    """The engine beside rapidocr as it comes, on the same pages, by turns."""
    from rapidocr import RapidOCR

    keys = ("intra_op_num_threads", "inter_op_num_threads")
    params = {f"EngineConfig.onnxruntime.{key}": 1 for key in keys}
    library = RapidOCR(params={**params, "Global.log_level": "critical"})
    ours = engine()
    print("| clean pages | engine CER % | CPU s | rapidocr as it comes CER % | CPU s |")
    print("|---|---|---|---|---|")
    for language in LANGUAGES:
        for size in (8, 14, 32):
            both, rng = (Tally(), Tally()), random.Random(f"against{language}{size}")
            for _ in range(pages):
                text = lines(language, rng)
                image = page(text, size, fonts[language])
                both[0].add(ours, image, text)
                both[1].add(lambda a: list(library(a[:, :, ::-1].copy()).txts or ()), image, text)
            cells = " | ".join(f"{tally.rate()} | {tally.cost()}" for tally in both)
            print(f"| {language} {size} px | {cells} |", flush=True)
    print()


def engine(**keys: float) -> Read:
    reader = ocr.Reader("reader", ocr.Options(engine="ocr", **keys))
    return lambda pixels: [line.text for line in reader.look(pixels)]


async def at_once(count: int, font: Path) -> None:
    """So many pages at one time: are all answered, and in how much memory?"""
    rng, pictures, wanted = random.Random("at once"), [], []
    for _ in range(count):
        text, out = lines("English", rng), io.BytesIO()
        page(text, 32, font).save(out, "PNG")
        pictures.append(out.getvalue())
        wanted.append(plain(text))
    async with ocr.open("reader", ocr.Options(engine="ocr")) as model:

        async def one(data: bytes) -> list[str]:
            message = Message("user", (Image(data=data),))
            answer = await collect(model, Request(messages=(message,), output=Modality.PERCEPT))
            if answer.error:
                raise answer.error
            return [percept.text for percept in answer.percepts]

        await one(pictures[0])
        alone = peak()
        began = time.perf_counter()
        said = await asyncio.gather(*map(one, pictures))
        seconds = time.perf_counter() - began
    right = sum(errors(plain(s), w) <= len(w) // 50 for s, w in zip(said, wanted, strict=True))
    print(
        f"{count} pages of 32 px at once: {len(said)} answered, {right} with at most 2 % of "
        f"the characters wrong, {seconds:.0f} s on the clock; peak memory {alone:.0f} MiB after "
        f"one page, {peak():.0f} MiB after all\n"
    )


def peak() -> float:
    """The process's largest resident set so far, in MiB."""
    said = Path("/proc/self/status").read_text()
    return int(said.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--pages", type=int, default=10)
    options.add_argument("--pictures", type=Path, help="the folder skimage/data")
    options.add_argument("--at-once", type=int, default=40)
    options.add_argument("--english", type=Path, default=Path(FONTS["English"]))
    options.add_argument("--chinese", type=Path, default=Path(FONTS["Chinese"]))
    given = options.parse_args()
    fonts = {"English": given.english, "Chinese": given.chinese}
    versions = [
        f"{name} {importlib.metadata.version(name)}" for name in ("rapidocr", "onnxruntime")
    ]
    print(
        f"{', '.join(versions)}; {os.cpu_count()} cores, one thread; {given.pages} pages a cell\n"
    )
    asyncio.run(at_once(given.at_once, fonts["English"]))
    if given.pictures:
        tags_table(given.pictures)
        faces_table(given.pictures)
    against(fonts, given.pages)
    reading(engine(), fonts, given.pages)


if __name__ == "__main__":
    main()
