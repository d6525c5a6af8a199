"""Asks every member every question, live, and keeps a row of each answer.

Rows are appended as they come, so a recording that was stopped goes on where it was. Members take
turns on each question, so that a machine that slows down slows all alike; questions of one kind
follow one another, so that what they have in common stays in every member's prompt cache.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
from live_members import config, digest, members, request
from live_questions import EACH, GENERATORS, Question, checked, questions, said
from msgspec import Struct
from rich.progress import Progress

from bicameral import Brain, collect
from bicameral.left.evidence import Evidence
from bicameral.left.outcomes import Outcomes
from bicameral.left.table import COLUMNS, tabulate
from bicameral.types import Answer, TokenLogprob

FOLDER = Path(".bench/live")
_BLOCK = 2  # questions of one kind in a row


class Row(Struct, frozen=True, kw_only=True):
    """One answer of one member: the columns of an outcome table, and what was really said.

    `seconds` are those of one core, which is how long it takes on a machine that has one free;
    `waited` is what the clock on the wall said, whoever else used the machine. `tokens` come with
    their log probabilities, so that how sure the answer is can be read from them later.
    """

    prompt_id: str
    split: str
    category: str
    prompt: str
    model: str
    score: float
    seconds: float
    waited: float
    tokens_in: int | None
    tokens_out: int | None
    answer: str
    text: str
    tokens: tuple[tuple[str, float], ...]


def path() -> Path:
    """Where the answers of these members to these questions are kept."""
    return FOLDER / f"answers-{digest(GENERATORS)}.jsonl"


def rows() -> list[Row]:
    """What has been recorded so far."""
    if not path().exists():
        return []
    return msgspec.json.Decoder(Row).decode_lines(path().read_bytes())


def record(threads: int) -> None:
    """Ask whatever has no row yet: all of fit, then test."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    asyncio.run(_record(threads))


async def _record(threads: int) -> None:
    have = {(row.prompt_id, row.model) for row in rows()}
    todo = [(q, name) for q in _order() for name in members() if (q.id, name) not in have]
    if not todo:
        return
    with path().open("ab") as file, Progress() as progress:
        bar = progress.add_task("asking", total=len(todo))
        async with Brain.open(config(members(), threads)) as brain:
            for name in members():
                await collect(brain.model(name), request("2 + 2 ="))  # the examples enter its cache
            for question, name in todo:
                file.write(msgspec.json.encode(await _ask(brain, question, name)) + b"\n")
                file.flush()
                progress.advance(bar)


def _order() -> Iterator[Question]:
    for split, each in EACH.items():
        by_kind = questions(split)
        for start in range(0, each, _BLOCK):
            for asked in by_kind.values():
                yield from asked[start : start + _BLOCK]


async def _ask(brain: Brain, question: Question, name: str) -> Row:
    worked = time.process_time()
    answer = await collect(brain.model(name), request(question.prompt))
    if answer.error is not None:
        raise answer.error
    return row(question, answer, time.process_time() - worked)


def row(question: Question, answer: Answer, seconds: float) -> Row:
    """The row of an answer that took `seconds` of a core, checked by reasoning-gym."""
    final = said(answer.text)
    return Row(
        prompt_id=question.id,
        split=question.split,
        category=question.category,
        prompt=question.prompt,
        model=answer.model,
        score=float(checked(question, final)),
        seconds=round(seconds, 4),
        waited=round(answer.seconds, 4),
        tokens_in=answer.usage.prompt_tokens,
        tokens_out=answer.usage.completion_tokens,
        answer=final,
        text=answer.text,
        tokens=tuple((token.token, round(token.logprob, 5)) for token in answer.logprobs),
    )


def outcomes() -> Outcomes:
    """The recorded answers as a table, of the questions that every member has answered."""
    found = rows()
    sure = asyncio.run(_sure(found))
    names = [name for name in Row.__struct_fields__ if name in COLUMNS]
    columns: dict[str, list[Any]] = {n: [getattr(row, n) for row in found] for n in names}
    frame = pl.DataFrame({**columns, "confidence": sure})
    table = tabulate(frame, tuple(members()), source=str(path()))
    return table.rows(~np.isnan(table.score).any(axis=1))


async def _sure(found: Sequence[Row]) -> list[float | None]:
    """How sure a mind takes each answer to be."""
    reader = Evidence()
    return [(await reader.read(request(row.prompt), _answer(row))).confidence for row in found]


def _answer(row: Row) -> Answer:
    logprobs = tuple(TokenLogprob(*token) for token in row.tokens)
    return Answer(model=row.model, text=row.text, logprobs=logprobs, reason="stop")
