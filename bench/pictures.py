"""Language models that take only text, asked about pictures, with and without perception.

    python bench/pictures.py [--each 8] [--members smollm2-135m qwen2.5-coder-1.5b]

Pictures are drawn here, with a fixed seed, so what stands in them is known. Each member answers
each question three times: without the picture (what guessing gets), through OCR as Bicameral does
it, and told the true text in the same form (what the member could get if reading were perfect).
Prints a table for docs/measurements.md; intervals are bootstraps over questions.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import random
import re
from collections.abc import Iterator, Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from PIL import Image as Canvas
from PIL import ImageDraw, ImageFilter, ImageFont

from bicameral import Brain, Config, collect
from bicameral.evals.metrics import interval
from bicameral.right.senses import Found
from bicameral.right.told import told
from bicameral.types import Image, Message, Part, Percept, Request, Sampling, Text

FONTS = "/usr/share/fonts/truetype/dejavu/"
SEED = 7


class Drawn(Struct, frozen=True):
    """A picture and the lines that stand in it."""

    lines: tuple[str, ...]
    image: Image


class Case(Struct, frozen=True):
    """Turns of a conversation, and what has to stand in the last answer."""

    kind: str
    turns: tuple[tuple[str, tuple[Drawn, ...]], ...]
    replies: tuple[str, ...]
    right: str


def draw(lines: Sequence[str], chance: random.Random) -> Drawn:
    """Dark on light or light on dark, a little turned, blurred and noisy, as from a phone."""
    size = chance.choice((22, 28, 36))
    face = chance.choice(("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf"))
    font = ImageFont.truetype(FONTS + face, size)
    ink, paper = chance.choice((((20, 20, 30), (235, 232, 220)), ((250, 250, 240), (30, 60, 110))))
    width = max(int(font.getlength(line)) for line in lines) + 80
    canvas = Canvas.new("RGB", (width, len(lines) * (size + 14) + 80), paper)
    for i, line in enumerate(lines):
        ImageDraw.Draw(canvas).text((40, 40 + i * (size + 14)), line, ink, font=font)
    canvas = canvas.rotate(chance.uniform(-2, 2), expand=True, fillcolor=paper)
    canvas = canvas.filter(ImageFilter.GaussianBlur(chance.uniform(0, 0.8)))
    noise = np.random.default_rng(chance.randrange(2**32)).normal(0, 8, (*canvas.size[::-1], 3))
    noisy = np.clip(np.asarray(canvas) + noise, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Canvas.fromarray(noisy).save(file, "JPEG", quality=85)
    return Drawn(tuple(lines), Image(data=file.getvalue(), media_type="image/jpeg"))


def cases(each: int) -> Iterator[Case]:
    """`each` of every kind."""
    chance = random.Random(SEED)
    for _ in range(each):
        room, hour = chance.randint(100, 999), f"{chance.randint(8, 17)}:{chance.choice((15, 30))}"
        sign = draw((f"ROOM {room}", f"Meeting until {hour}"), chance)
        yield Case("sign", (("Which room number is on the sign?", (sign,)),), (), str(room))

        prices = {
            name: f"{chance.randint(1, 19)}.{chance.choice(('20', '50', '90'))}"
            for name in chance.sample(("Tea", "Coffee", "Soup", "Salad", "Cake", "Juice"), 4)
        }
        menu = draw(("MENU", *(f"{name}   {price}" for name, price in prices.items())), chance)
        dish = chance.choice(list(prices))
        question = f"What does the {dish.lower()} cost according to the menu?"
        yield Case("price list", ((question, (menu,)),), (), prices[dish])

        total = f"{chance.randint(21, 99)}.{chance.randint(10, 99)}"
        slip = (f"Milk {chance.randint(1, 9)}.49", f"Bread {chance.randint(1, 9)}.20")
        receipt = draw(("CITY MARKET", *slip, f"TOTAL {total}", "CARD ****1234"), chance)
        yield Case("receipt", (("What is the total on the receipt?", (receipt,)),), (), total)

        low, high = sorted(chance.sample(range(10, 99), 2))
        tags = [draw((name, f"{price} EUR"), chance) for name, price in (("A", low), ("B", high))]
        first_is_cheaper = chance.random() < 0.5
        shown = tags if first_is_cheaper else tags[::-1]
        question = "Which picture shows the lower price, the first or the second? Say one word."
        right = "first" if first_is_cheaper else "second"
        yield Case("compare two", ((question, tuple(shown)),), (), right)

        one, two = (chance.randint(10, 999) for _ in range(2))
        doors = [draw(("HOUSE", str(n)), chance) for n in (one, two)]
        turns = (("What number is on the house?", (doors[0],)), ("And on this one?", (doors[1],)))
        yield Case("follow-up", turns, (f"The number is {one}.",), str(two))


def request(case: Case, how: str) -> Request:
    """The conversation as the member gets it: `how` is without, read or told."""
    messages, count = [], 0
    for i, (text, pictures) in enumerate(case.turns):
        parts: list[Part] = [Text(text)]
        for drawn in pictures:
            count += 1
            if how == "read":
                parts.append(drawn.image)
            elif how == "told":
                truth = tuple(Percept(kind="text", text=line) for line in drawn.lines)
                found = Found(percepts=truth, by=("ocr",))
                parts.append(Text(told(f"Picture {count}", found, limit=4000)))
        messages.append(Message("user", tuple(parts)))
        if i < len(case.replies):
            messages.append(Message("assistant", (Text(case.replies[i]),)))
    return Request(messages=tuple(messages), sampling=Sampling(temperature=0, max_tokens=60))


def is_right(case: Case, text: str) -> bool:
    """Whether what was asked for stands there, and of two words the other does not."""
    said = re.findall(r"[\d.:]*\d|\w+", text.lower())
    other = {"first": "second", "second": "first"}.get(case.right)
    return case.right in said and other not in said


async def main(each: int, members: Sequence[str]) -> None:
    """Ask, print."""
    models = {name: {"engine": "llama_cpp", "weights": name, "threads": 1} for name in members}
    all_cases = list(cases(each))
    kinds = list(dict.fromkeys(case.kind for case in all_cases))
    pictures = sum(len(shown) for case in all_cases for _, shown in case.turns)
    print(f"{len(all_cases)} questions about {pictures} pictures\n")
    print(f"| member | | right | {' | '.join(kinds)} | seconds |")
    print("|---|---|---|" + "---|" * (len(kinds) + 1))
    async with Brain.open(Config(models={**models, "ocr": {"engine": "ocr"}})) as brain:
        for name in members:
            for how, says in (
                ("without", "without the picture"),
                ("read", "the picture through OCR"),
                ("told", "told the true text"),
            ):
                rows = []
                for case in all_cases:
                    answer = await collect(brain.model(name), replace(request(case, how), id="b"))
                    if answer.error is not None:
                        raise answer.error
                    rows.append((case.kind, is_right(case, answer.text), answer.seconds))
                print(f"| {name} | {says} | {_line(kinds, rows)} |", flush=True)


def _line(kinds: Sequence[str], rows: Sequence[tuple[str, bool, float]]) -> str:
    scores = 100 * np.array([right for _, right, _ in rows], float)
    found = interval(scores)
    shares = [
        f"{100 * np.mean([right for kind, right, _ in rows if kind == wanted]):.0f} %"
        for wanted in kinds
    ]
    seconds = float(np.median([seconds for *_, seconds in rows]))
    right = f"{found.mean:.1f} % [{found.low:.0f}, {found.high:.0f}]"
    return f"{right} | {' | '.join(shares)} | {seconds:.1f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=8)
    parser.add_argument("--members", nargs="+", default=["smollm2-135m", "qwen2.5-coder-1.5b"])
    args = parser.parse_args()
    asyncio.run(main(args.each, args.members))
