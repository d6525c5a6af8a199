"""What a policy sees and says: the interface that all ways of combining members share.

Estimating and deciding are separate: an Estimator says who will be right, at what cost, how long;
a Reader says what an answer shows; a policy decides, from those and nothing else. So a decision
can be taken again from its record, without the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct

from bicameral.decision import Asked
from bicameral.model import Model
from bicameral.types import Answer, Card, Feature, Request


class Estimate(Struct, frozen=True, kw_only=True):
    """What is expected of a member on a request, before it is asked.

    `quality`: probability that its answer is right. `cost`: nano-dollars, `seconds`: of the whole
    answer. `weight`: what its vote counts for, in log-odds. `known`: how far `quality` rests on
    outcomes of prompts like this one, 0 (only a declared prior or base rate) to 1.
    """

    quality: float
    cost: int | None = None
    seconds: float | None = None
    weight: float | None = None
    known: float = 0.0


class Estimator(Protocol):
    """Gives an Estimate for each name; `digest` names the learned state it speaks from."""

    digest: str

    def estimate(self, request: Request, cards: Sequence[Card]) -> Mapping[str, Estimate]:
        """By name; every card's name is there. It may add arms that are no member's name."""
        ...


class Reader(Protocol):
    """Reads an answer as evidence."""

    async def read(self, request: Request, answer: Answer) -> Asked:
        """What `answer` shows: its key, confidence, and what a checker says. Never its text."""
        ...


class Case(Struct, frozen=True, kw_only=True):
    """A request in hand: who can take it, what is expected of them, what they have said so far.

    `members` are those that can take the request, in the config's order. `answers` and `asked`
    run in parallel, failures included, in the order asked. `warm` names the member whose prefix
    cache holds this conversation, "" if none.
    """

    request: Request
    members: tuple[Model, ...]
    estimates: Mapping[str, Estimate]
    answers: tuple[Answer, ...] = ()
    asked: tuple[Asked, ...] = ()
    warm: str = ""

    @property
    def left(self) -> tuple[Model, ...]:
        """The members that have not been asked yet."""
        done = {asked.model for asked in self.asked}
        return tuple(member for member in self.members if member.card.name not in done)

    @property
    def good(self) -> tuple[int, ...]:
        """Indices of the answers that did not fail."""
        return tuple(i for i, asked in enumerate(self.asked) if asked.error is None)


class Step(Struct, frozen=True, kw_only=True):
    """Whom to ask now. `final`: the one model's stream is the answer, passed straight through.

    `shares`: what the answers before a final one contribute to it; the rest is the final one's.
    """

    models: tuple[Model, ...]
    request: Request
    final: bool = False
    why: str = ""
    shares: tuple[float, ...] = ()


class Verdict(Struct, frozen=True, kw_only=True):
    """The answer that counts, by its index in the case.

    `shares`: per answer, its part in it, summing to 1 (None: all to `index`). `quality`: the
    probability that it is right, if that was estimated.
    """

    index: int
    why: str = ""
    shares: tuple[float, ...] | None = None
    quality: float | None = None


class Policy(Protocol):
    """Decides whom to ask and whose answer counts; it keeps nothing between requests.

    It decides from `members` (names and cards), `estimates`, `asked` and `warm`, never from texts;
    only the requests it sends out may carry them. `refuses`: features it cannot carry through.
    """

    name: str
    refuses: frozenset[Feature]

    @property
    def settings(self) -> Mapping[str, Any]:
        """Its parameters, as JSON values, for the decision record."""
        ...

    def next(self, case: Case) -> Step | None:
        """The next step; None: enough."""
        ...

    def settle(self, case: Case) -> Verdict:
        """Which of the answers counts; at least one is without an error."""
        ...
