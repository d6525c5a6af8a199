"""What a bake-off asks: prompts of a wanted length, and questions whose answers can be checked.

All of it comes from seeds, so that every machine asks the same. No prompt begins like another:
what an engine remembers of earlier ones is of no use to it.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence

from msgspec import Struct

from bicameral.chips.bakeoff import Prompt, TaskKind, Tasks
from bicameral.errors import ConfigError

_TOKENS_A_WORD = 1.1  # of the words below, in the vocabularies of Llama, Qwen and SmolLM: about
_STORY = """
    the river runs under old stone bridge and down to sea where small boats wait for wind while
    people on shore mend nets sell fish bread salt talk about rain price of wood long way home a
    child counts birds over water until evening comes lamps are lit one after other along street
"""
_WORDS = tuple(_STORY.split())
_FACTS = {
    "What is the capital of France?": "Paris",
    "What is the capital of Italy?": "Rome",
    "What is the capital of Japan?": "Tokyo",
    "What is the capital of Germany?": "Berlin",
    "What is the capital of Spain?": "Madrid",
    "What is the capital of Egypt?": "Cairo",
    "What is the capital of Russia?": "Moscow",
    "What is the capital of Greece?": "Athens",
    "What is the capital of China?": "Beijing",
    "What is the capital of the United Kingdom?": "London",
    "What is the chemical symbol of gold?": "Au",
    "What is the chemical symbol of iron?": "Fe",
    "What gas do plants take in from the air?": "carbon dioxide|CO2",
    "Which planet is closest to the Sun?": "Mercury",
    "Which planet is the largest of the solar system?": "Jupiter",
    "How many days are in a week?": "7|seven",
    "How many minutes are in an hour?": "60|sixty",
    "How many legs has a spider?": "8|eight",
    "How many sides has a triangle?": "3|three",
    "Who wrote Romeo and Juliet?": "Shakespeare",
    "What is frozen water called?": "ice",
    "What is the opposite of hot?": "cold",
    "Which day comes after Monday?": "Tuesday",
    "Which month comes after March?": "April",
}


class Task(Struct, frozen=True, kw_only=True):
    """A question; right is an answer that holds one of `answers` as words of their own.

    With `last` the last number of the answer must be it: calculations name other numbers on the
    way.
    """

    id: str
    kind: str
    question: str
    answers: tuple[str, ...]
    last: bool = False

    def right(self, said: str) -> bool:
        """Whether `said` answers it."""
        if self.last:
            numbers = re.findall(r"-?\d+", re.sub(r"(?<=\d)[,_](?=\d{3})", "", said))
            return bool(numbers) and numbers[-1] in self.answers
        return any(_holds(said, answer) for answer in self.answers)


def _holds(said: str, answer: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", said, re.IGNORECASE) is not None


def text(prompt: Prompt, seed: str) -> str:
    """About `prompt.tokens` tokens: a number that no other prompt begins with, then words."""
    drawn = random.Random(seed)  # noqa: S311 - a load, no secret
    opening = f"Note {drawn.randrange(10**8):08d}."
    words = max(1, round(prompt.tokens / _TOKENS_A_WORD) - 12)
    if prompt.file is not None:
        return f"{opening} {' '.join(_read(prompt.file).split()[:words])}"
    body = " ".join(drawn.choice(_WORDS) for _ in range(words))
    return f"{opening} {body}. Go on with this story."


def prompts(kinds: Sequence[Prompt], count: int, seed: str) -> tuple[Prompt, ...]:
    """The kinds of `count` requests by their shares, as even as can be, in a drawn order."""
    whole = sum(kind.share for kind in kinds)
    ideal = [kind.share / whole * count for kind in kinds]
    parts = [int(amount) for amount in ideal]
    rest = sorted(range(len(kinds)), key=lambda i: parts[i] - ideal[i])[: count - sum(parts)]
    parts = [part + (i in rest) for i, part in enumerate(parts)]
    row = [kind for kind, part in zip(kinds, parts, strict=True) for _ in range(part)]
    random.Random(seed).shuffle(row)  # noqa: S311 - a load, no secret
    return tuple(row)


def tasks(options: Tasks, repeats: int, seed: int) -> tuple[tuple[Task, ...], ...]:
    """For each repeat its tasks; none is asked twice while there are others."""
    if options.file is not None:
        known = list(_filed(options.file))
        random.Random(seed).shuffle(known)  # noqa: S311 - a load, no secret
        parts = (known[n * options.count : (n + 1) * options.count] for n in range(repeats))
        return tuple(tuple(part) for part in parts)
    drawn = random.Random(seed)  # noqa: S311 - a load, no secret
    facts = list(_FACTS.items())
    drawn.shuffle(facts)
    made: list[tuple[Task, ...]] = []
    for repeat in range(repeats):
        kinds = [options.kinds[n % len(options.kinds)] for n in range(options.count)]
        made.append(
            tuple(_made(kind, f"{repeat}.{n}", drawn, facts) for n, kind in enumerate(kinds))
        )
    return tuple(made)


def _made(kind: TaskKind, id_: str, drawn: random.Random, facts: list[tuple[str, str]]) -> Task:
    if kind == "facts" and facts:
        question, answers = facts.pop()
        asked = f"{question} Answer in a few words."
        return Task(id=id_, kind=kind, question=asked, answers=tuple(answers.split("|")))
    if kind == "copy":
        code = f"{drawn.choice(_WORDS)}-{drawn.randrange(1000, 10_000)}-{drawn.choice(_WORDS)}"
        asked = f"Repeat exactly this and nothing else: {code}"
        return Task(id=id_, kind=kind, question=asked, answers=(code,))
    one, other = drawn.randrange(2, 50), drawn.randrange(2, 50)
    asked = f"What is {one} + {other}? Answer with the number only."
    return Task(id=id_, kind="arithmetic", question=asked, answers=(str(one + other),), last=True)


def _filed(path: str) -> Iterator[Task]:
    for number, line in enumerate(_read(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            answers = tuple(str(answer) for answer in row["answers"])
            named, asked = str(row.get("id", number)), str(row["question"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f'{path}, line {number}: must be like {{"id": "1", "question": "…", '
                '"answers": ["…"]}'
            ) from error
        yield Task(id=named, kind="file", question=asked, answers=answers)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text") from error
