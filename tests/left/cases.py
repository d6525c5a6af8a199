"""Cases as a policy sees them, without a model behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bicameral.decision import Asked
from bicameral.left.policy import Case, Estimate
from bicameral.types import (
    NO_USAGE,
    Answer,
    Call,
    Card,
    Delta,
    Done,
    Feature,
    Message,
    Price,
    Request,
    Text,
)

HELLO = Request.ask("hello there", id="request-1")


class Named:
    """A member that has a card and is never run."""

    def __init__(self, name: str, **card):
        self.card = Card(name=name, engine="none", features=frozenset(Feature), **card)


class Saying:
    """A member whose answer follows from the request; `seen` keeps the requests."""

    def __init__(self, name: str, says: Callable[[Request], str]):
        self.card = Card(name=name, engine="none", features=frozenset(Feature) - {Feature.MANY})
        self.says = says
        self.seen: list[Request] = []

    async def run(self, request: Request):
        self.seen.append(request)
        yield Delta(Text(self.says(request)), by=self.card.name)
        call = Call(model=self.card.name, usage=NO_USAGE, cost=0)
        yield Done(usage=NO_USAGE, by=self.card.name, calls=(call,))


def case(estimates: Mapping[str, Estimate], *asked: Asked, texts=(), request=HELLO, warm=""):
    """A case whose members are those of `estimates`, after `asked` (and what they said)."""
    texts = (*texts, *[""] * (len(asked) - len(texts)))
    answers = [
        Answer(model=a.model, text=t, error=ValueError(a.error) if a.error else None)
        for a, t in zip(asked, texts, strict=True)
    ]
    return Case(
        request=request,
        members=tuple(Named(name) for name in estimates),
        estimates=estimates,
        answers=tuple(answers),
        asked=asked,
        warm=warm,
    )


def expect(quality: float, cost: int | None = None, seconds: float | None = None) -> Estimate:
    return Estimate(quality=quality, cost=cost, seconds=seconds)


def names(step) -> list[str] | None:
    """Whom a step asks; None if it asks nobody."""
    return None if step is None else [model.card.name for model in step.models]


def talk(*turns: str, extra: Mapping[str, object] | None = None) -> Request:
    """A conversation, the user's turn first."""
    roles = ("user", "assistant")
    messages = [Message(roles[i % 2], (Text(turn),)) for i, turn in enumerate(turns)]
    return Request(messages=tuple(messages), extra=extra or {})


def priced(name: str, input: int, cached: int | None) -> Card:
    price = Price(input=input, output=0, cached_input=cached)
    return Card(name=name, engine="none", price=price)
