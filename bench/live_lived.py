"""Minds, live: each asked the same test questions, and what became of each kept as a row."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from live_members import choir, config, digest, members, request
from live_minds import minds
from live_questions import GENERATORS, Question, checked, questions, said
from live_record import FOLDER
from live_report import Line
from msgspec import Struct
from msgspec.structs import replace
from rich.progress import Progress

from bicameral import Brain, collect
from bicameral.left.learned import Learned
from bicameral.model import Model
from bicameral.types import Feature


class Lived(Struct, frozen=True, kw_only=True):
    """One answer of one mind; `seconds` of one core, `asked` the members it asked, in order."""

    prompt_id: str
    mind: str
    learned: str
    score: float
    seconds: float
    waited: float
    asked: tuple[str, ...]
    by: str
    answer: str
    text: str
    why: str


def path(learned: Learned) -> Path:
    """Where the answers of the minds of one learned state are kept."""
    return FOLDER / f"lived-{digest(GENERATORS)}-{learned.digest}.jsonl"


def rows(learned: Learned) -> list[Lived]:
    """What has been lived through so far."""
    if not path(learned).exists():
        return []
    return msgspec.json.Decoder(Lived).decode_lines(path(learned).read_bytes())


def sample(each: int) -> list[Question]:
    """The first test questions of every kind."""
    return [question for kind in questions("test").values() for question in kind[:each]]


def live(learned: Learned, names: Sequence[str], each: int, threads: int) -> None:
    """Ask each of the named minds what it has not been asked; one mind after the other.

    Not question by question: what one mind had just asked would wait in the members' caches for
    the next.
    """
    asyncio.run(_live(learned, names, each, threads))


async def _live(learned: Learned, names: Sequence[str], each: int, threads: int) -> None:
    have = {(row.prompt_id, row.mind) for row in rows(learned)}
    todo = [(n, q) for n in names for q in sample(each) if (q.id, n) not in have]
    if not todo:
        return
    with path(learned).open("ab") as file, Progress() as progress:
        bar = progress.add_task("living", total=len(todo))
        async with Brain.open(config(_tables(), threads)) as brain:
            for member in brain.models.values():
                await collect(member, request("2 + 2 ="))  # the examples enter its cache
            found = minds(brain, learned)
            for name, question in todo:
                row = await _ask(name, found[name], question, learned)
                file.write(msgspec.json.encode(row) + b"\n")
                file.flush()
                progress.advance(bar)


def _tables() -> dict[str, dict[str, Any]]:
    return {**{name: table for name, (table, _) in choir().items()}, **members()}


async def _ask(name: str, mind: Model, question: Question, learned: Learned) -> Lived:
    worked = time.process_time()
    asked = request(question.prompt, id=question.id)
    if Feature.LOGPROBS not in mind.card.features:
        asked = asked.but(sampling=replace(asked.sampling, logprobs=False))
    answer = await collect(mind, asked)
    seconds = time.process_time() - worked
    if answer.error is not None:
        raise answer.error
    final = said(answer.text)
    return Lived(
        prompt_id=question.id,
        mind=name,
        learned=learned.digest,
        score=float(checked(question, final)),
        seconds=round(seconds, 4),
        waited=round(answer.seconds, 4),
        asked=tuple(call.model for call in answer.calls),
        by=answer.by,
        answer=final,
        text=answer.text,
        why=answer.why,
    )


def lines(found: Sequence[Lived], ids: Sequence[str]) -> Mapping[str, Line]:
    """A line for each mind that was asked all of `ids`, in their order."""
    by_mind: dict[str, dict[str, Lived]] = {}
    for row in found:
        by_mind.setdefault(row.mind, {})[row.prompt_id] = row
    return {
        name: Line(
            f"{name}, live",
            np.array([rows[id].score for id in ids]),
            np.array([rows[id].seconds for id in ids]),
        )
        for name, rows in by_mind.items()
        if all(id in rows for id in ids)
    }
