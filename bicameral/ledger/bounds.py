"""The least and the most that a request may cost and consume, over the tree of a mind's members.

`least` is what has to be free for anyone to answer, `most` what all members together may cost.
What is set aside between them is the request's budget, which minds and members never exceed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from bicameral.config import Config, MindOptions
from bicameral.ledger.tariff import Tariff
from bicameral.model import Model, bound, worst_cost
from bicameral.types import Card, Request
from bicameral.usage import Usage

_TRIES = 5  # answers of a member that samples, where its mind does not say how many
_BYTES = 4  # of an answer's token, in the prompt of whoever reads it


class Bounds(Struct, frozen=True, kw_only=True):
    """Nano-dollars that the caller may have to pay, and tokens."""

    least: int
    most: int
    tokens: int


def bounds(
    request: Request, model: Model, models: Mapping[str, Model], config: Config, rates: Tariff
) -> Bounds | None:
    """The bounds of `request` to `model`; None if nothing bounds what any of its members takes."""
    least: list[int] = []
    most = tokens = 0
    said: Usage | None = None
    for card, times, reads in _leaves(model.card, models, config):
        asked = bound(card, request)
        cost = worst_cost(card, request)
        if cost is None or asked is None or asked.total_tokens is None:
            continue
        said = asked if said is None or asked.total_tokens > (said.total_tokens or 0) else said
        least.append(cost)
        most += times * cost + _reading(card, asked, reads)
        tokens += times * asked.total_tokens + reads * _BYTES * (asked.completion_tokens or 0)
    if not least:
        return None
    low, high = rates.most(min(least), said), rates.most(most, said)
    return None if low is None or high is None else Bounds(least=low, most=high, tokens=tokens)


def _reading(card: Card, asked: Usage, answers: int) -> int:
    """What it costs `card` to read so many answers of others beside the question."""
    if card.price is None or not answers:
        return 0
    read = answers * _BYTES * (asked.completion_tokens or 0)
    return card.price.most(replace(asked, prompt_tokens=read, completion_tokens=0)) or 0


def _leaves(
    card: Card, models: Mapping[str, Model], config: Config
) -> Iterator[tuple[Card, int, int]]:
    """Each leaf under `card`, how often it may be asked, how many answers it may have to read."""
    mind = config.minds.get(card.name)
    if mind is None:
        yield card, 1, 0
        return
    times = mind.samples or (_TRIES if mind.policy == "samples" else 1)
    for name in mind.members:
        for leaf, often, reads in _leaves(models[name].card, models, config):
            yield leaf, often * times, reads
    if judge := _judge(mind):
        for leaf, often, reads in _leaves(models[judge].card, models, config):
            yield leaf, 2 * often, reads + 2 * times * len(mind.members)


def _judge(mind: MindOptions) -> str | None:
    """Who reads the answers of the others, if anyone does."""
    if mind.policy in ("fuse", "select", "verify"):
        return mind.judge or mind.members[-1]
    return None
