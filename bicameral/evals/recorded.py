"""Recorded members: models that say again what an outcome table has of them.

A request is a row of the table by its id. Seconds pass on the running loop's clock, which a
replay makes virtual (`bicameral.evals.clock`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Mapping

from bicameral.decision import Asked
from bicameral.errors import Rejected
from bicameral.left.evidence import digest
from bicameral.left.outcomes import Outcomes
from bicameral.model import admit
from bicameral.types import (
    NO_USAGE,
    Answer,
    Call,
    Card,
    Delta,
    Done,
    Event,
    Reach,
    Request,
    Text,
    Usage,
)


class NotRecorded(Exception):
    """A policy asked what no table can answer. Not a member's failure: no policy recovers."""


class Unrecorded(Rejected):
    """The table has no outcome of this member on this prompt; asking cost nothing."""


class Tape:
    """The rows of a table by prompt id."""

    def __init__(self, outcomes: Outcomes) -> None:
        self.outcomes = outcomes
        self.rows: Mapping[str, int] = {id: row for row, id in enumerate(outcomes.ids)}
        self.columns: Mapping[str, int] = {name: i for i, name in enumerate(outcomes.models)}
        self.answered = any(answer is not None for answer in outcomes.answer.flat)

    def members(self) -> tuple[Recorded, ...]:
        """Every member of the table, in its order."""
        return tuple(Recorded(self, name) for name in self.outcomes.models)

    def request(self, row: int) -> Request:
        """The prompt of a row, as a request."""
        return Request.ask(self.outcomes.prompts[row], id=self.outcomes.ids[row])


class Recorded:
    """A Model that says what is recorded of one member; its text is the recorded answer."""

    def __init__(self, tape: Tape, name: str) -> None:
        self._tape = tape
        self._column = tape.columns[name]
        self._card = Card(name=name, engine="recorded", reach=Reach.DEVICE, extra=None)

    @property
    def card(self) -> Card:
        """A name; a table says nothing of prices or features."""
        return self._card

    async def run(self, request: Request) -> AsyncGenerator[Event]:
        """The recorded answer, after the recorded seconds, at the recorded cost."""
        admit(self._card, request)
        row = self._row(request)
        call = self._call(row, request)
        await asyncio.sleep(call.seconds or 0.0)
        yield Delta(Text(self._tape.outcomes.answer[row, self._column] or ""), by=call.model)
        yield Done(usage=call.usage, by=call.model, calls=(call,))

    def _row(self, request: Request) -> int:
        name, rows = self._card.name, self._tape.rows
        row = rows.get(request.id)
        if row is not None and request.question != self._tape.outcomes.prompts[row]:
            raise NotRecorded(f"{name} was asked another question than the recorded one")
        if row is None or math.isnan(self._tape.outcomes.score[row, self._column]):
            why = f"no outcome is recorded for the prompt '{request.id}'"
            error = Unrecorded(name, why)
            error.calls = (Call(model=name, usage=NO_USAGE, cost=0, seconds=0.0, error=why),)
            raise error
        return row

    def _call(self, row: int, request: Request) -> Call:
        outcomes, cell = self._tape.outcomes, (row, self._column)
        said = whole(outcomes.tokens_out[cell])
        most = request.sampling.max_tokens
        if most is not None and (said is None or said > most):
            raise NotRecorded(f"{self._card.name} was cut at {most} tokens, a table has no halves")
        return Call(
            model=self._card.name,
            usage=Usage(prompt_tokens=whole(outcomes.tokens_in[cell]), completion_tokens=said),
            seconds=known(outcomes.seconds[cell]),
            cost=whole(outcomes.cost[cell] * 1e9),
        )


class Playback:
    """The Reader of recorded answers: what it sees comes from the table, not from the text.

    Without any recorded answers in the table, each member's answer is taken to be its own.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape

    async def read(self, request: Request, answer: Answer) -> Asked:
        """Key None: no answer is recorded, or the member failed."""
        if answer.error is not None:
            error = str(answer.error)
            return Asked(model=answer.model, error=error, cost=answer.cost, seconds=0.0)
        tape, outcomes = self._tape, self._tape.outcomes
        cell = tape.rows[request.id], tape.columns[answer.by]
        said = outcomes.answer[cell] if tape.answered else answer.by
        checked = known(outcomes.checked[cell])
        return Asked(
            model=answer.model,
            key=None if said is None else digest(said, request.id),
            confidence=known(outcomes.confidence[cell]),
            tokens=whole(outcomes.tokens_out[cell]),
            checked=None if checked is None else checked >= 0.5,
            cost=answer.cost,
            seconds=known(outcomes.seconds[cell]),
        )


def known(value: float) -> float | None:
    """What is recorded; None for the NaN that marks what is not."""
    return None if math.isnan(value) else float(value)


def whole(value: float) -> int | None:
    """`known`, as the nearest integer."""
    return None if math.isnan(value) else round(value)
