"""What each owner contributes to a mind: Shapley values over recorded outcomes, or ratings.

The players are owners, each with all its members of the mind, so nobody earns more by cutting
what it has in pieces; and a member that answers every prompt as an earlier one of the same owner
does is that one listed twice, and counts once. What a set of owners is worth is how many prompts
the mind gets right with their members alone: the mind's own policy, replayed.

Nothing here keeps an owner from earning more under two names (see bench/settlement.py): who owners
are is for the operator to know.

Ratings are of answers that were given. What the mind would have said without somebody was never
rated, so from ratings no Shapley value is computed, only whose answers were rated how.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from functools import cache
from hashlib import sha256
from importlib.metadata import version

import msgspec
import numpy as np
from msgspec.structs import replace

from bicameral import policies
from bicameral.config import Config, nearest
from bicameral.errors import ConfigError
from bicameral.evals.recorded import Tape
from bicameral.evals.replay import Floats, graded, replay
from bicameral.journal.store import Entry
from bicameral.ledger import shapley
from bicameral.ledger.entry import Weights
from bicameral.ledger.settle import month
from bicameral.left.outcomes import Outcomes
from bicameral.left.policy import Estimate, Estimator
from bicameral.types import Card, Request

EXACT = 10
ORDERS = 200
_UNIT = 10**6
_REPLAYED = ("route", "cascade", "vote", "auto")
Said = Callable[[str], None]


def owners(config: Config, mind: str) -> dict[str, str]:
    """The owner of each member of the mind, as the book names it: a member without one is its own.

    ConfigError if there is no such mind, or one of its members is a mind.
    """
    if mind not in config.minds:
        raise ConfigError(f"there is no mind '{mind}': {nearest(mind, tuple(config.minds))}")
    members = config.minds[mind].members
    for member in members:
        if member not in config.models:
            raise ConfigError(
                f"[minds.{mind}] {member} is itself a mind: contributions are found for minds "
                "whose members are models"
            )
    return {member: str(config.models[member].get("owner") or member) for member in members}


def from_table(
    config: Config,
    mind: str,
    outcomes: Outcomes,
    period: str,
    *,
    source: bytes = b"",
    orders: int = ORDERS,
    seed: int = 0,
    said: Said = lambda text: None,
) -> Weights:
    """Shapley weights by outcomes: exact up to 10 owners, above by `orders` random orders.

    Take outcomes that the mind did not learn from. `source` is the table's file, for the digest;
    `said` hears what is being done. ConfigError if the mind cannot be replayed.
    """
    month(period)
    belongs = owners(config, mind)
    game = _game(config, mind, outcomes, belongs, said)
    names = tuple(sorted(set(belongs.values())))
    found = Weights(
        id=f"weights/{period}/{mind}",
        period=period,
        mind=mind,
        scheme="shapley",
        weights=(),
        members=tuple(belongs.items()),
        prompts=len(outcomes.ids),
        unit=_UNIT,
        inputs=_digest(config, mind, belongs, source),
    )
    if len(names) <= EXACT:
        values = tuple(game(mask) for mask in range(1 << len(names)))
        worth = shapley.exact(values)
        found = replace(found, values=values, weights=_named(names, shapley.weights(worth)))
    else:
        worth, errors = shapley.sampled(len(names), game, orders, seed)
        floored = tuple(max(0, value) for value in worth)
        found = replace(found, weights=_named(names, floored), errors=errors)
        found = replace(found, orders=orders, seed=seed)
    return replace(found, negative=tuple(n for n, w in zip(names, worth, strict=True) if w < 0))


def from_ratings(config: Config, mind: str, entries: Iterable[Entry], period: str) -> Weights:
    """Weights by rated answers of the period: each score goes to whose answer it was, by shares.

    That is no Shapley value: it tells nothing of what would have been said without somebody.
    """
    begin, end = month(period)
    belongs = owners(config, mind)
    rated = [entry for entry in entries if _counts(entry, mind, begin, end)]
    credit = dict.fromkeys(sorted(set(belongs.values())), 0)
    for entry in rated:
        for asked in entry.decisions[0].asked:
            if asked.model in belongs:
                part = Fraction(entry.score or 0) * Fraction(asked.share) * _UNIT
                credit[belongs[asked.model]] += round(part)
    told = [(entry.id, entry.score, entry.decisions[0].asked) for entry in rated]
    return Weights(
        id=f"weights/{period}/{mind}",
        period=period,
        mind=mind,
        scheme="feedback",
        weights=_named(tuple(credit), shapley.weights(tuple(credit.values()))),
        members=tuple(belongs.items()),
        prompts=len(rated),
        inputs=_digest(config, mind, belongs, msgspec.json.encode(told)),
    )


def _counts(entry: Entry, mind: str, begin: int, end: int) -> bool:
    return (
        entry.score is not None
        and entry.decisions[0].mind == mind
        and begin <= round(entry.at * 1000) < end
    )


def _named(names: Sequence[str], weights: Sequence[int]) -> tuple[tuple[str, int], ...]:
    return tuple(zip(names, weights, strict=True))


def _digest(config: Config, mind: str, belongs: Mapping[str, str], source: bytes) -> str:
    """SHA-256 over all that the weights come from: outcomes, mind, what it learned, this code."""
    taught = policies.learned(config, mind)
    parts = (
        sha256(source).digest(),
        msgspec.json.encode(config.minds[mind], order="deterministic"),
        msgspec.json.encode(belongs),
        (taught.digest if taught else "").encode(),
        version("bicameral").encode(),
    )
    return sha256(b"\0".join(parts)).hexdigest()


# --- the game -----------------------------------------------------------------------------------


def _game(
    config: Config, mind: str, outcomes: Outcomes, belongs: Mapping[str, str], said: Said
) -> Callable[[int], int]:
    """What a set of owners, bit i for the i-th by name, gets right: millionths of answers."""
    options = config.minds[mind]
    if options.policy not in _REPLAYED:
        raise ConfigError(
            f"[minds.{mind}] policy {options.policy} cannot be replayed from a table, only "
            f"{', '.join(_REPLAYED)}: settle it by another --scheme"
        )
    table = outcomes.only(_different(outcomes.only(tuple(belongs)), belongs))
    taught = policies.learned(config, mind)
    policy = policies.policy(config, mind, None, taught)
    estimator = _Expected(policies.estimator(config, mind, taught), table)
    names = sorted(set(belongs.values()))

    @cache
    def worth(mask: int) -> int:
        here = [m for m in table.models if mask >> names.index(belongs[m]) & 1]
        if not here:
            return 0
        said(f"{mind} with {len(here)} of {len(table.models)} members")
        quality = replay(table, policy, estimator, here).quality
        return sum(round(Fraction(q) * _UNIT) for q in np.nan_to_num(quality).tolist())

    return worth


def _different(outcomes: Outcomes, belongs: Mapping[str, str]) -> list[str]:
    """The members but for those that answer everything as an earlier one of their owner does."""
    grades = np.nan_to_num(graded(outcomes), nan=-1.0)
    seen: set[tuple[str, bytes, tuple[str | None, ...]]] = set()
    kept = []
    for column, name in enumerate(outcomes.models):
        answers = tuple(outcomes.answer[:, column].tolist())
        told = belongs[name], grades[:, column].tobytes(), answers
        if told not in seen:
            seen.add(told)
            kept.append(name)
    return kept


class _Expected:
    """An Estimator that is asked once a prompt, about all members, for every set of them.

    What nobody tells of a member's cost and seconds is its mean in the table.
    """

    def __init__(self, estimator: Estimator, table: Outcomes) -> None:
        self._estimator = estimator
        self._cards = [member.card for member in Tape(table).members()]
        self._known: dict[str, Mapping[str, Estimate]] = {}
        self._costs = _means(table.models, table.cost * 1e9)
        self._seconds = _means(table.models, table.seconds)
        self.digest = estimator.digest

    def estimate(self, request: Request, cards: Sequence[Card]) -> Mapping[str, Estimate]:
        """By name: every card's, and every arm's."""
        if request.id not in self._known:
            every = self._estimator.estimate(request, self._cards)
            self._known[request.id] = {name: self._whole(name, e) for name, e in every.items()}
        absent = {card.name for card in self._cards} - {card.name for card in cards}
        known = self._known[request.id]
        return {name: estimate for name, estimate in known.items() if name not in absent}

    def _whole(self, name: str, estimate: Estimate) -> Estimate:
        cost, seconds = estimate.cost, estimate.seconds
        if cost is None and (mean := self._costs.get(name)) is not None:
            cost = round(mean)
        return replace(
            estimate, cost=cost, seconds=self._seconds.get(name) if seconds is None else seconds
        )


def _means(names: Sequence[str], grid: Floats) -> dict[str, float]:
    """By name, of those that have any."""
    found = {name: grid[:, i][~np.isnan(grid[:, i])] for i, name in enumerate(names)}
    return {name: float(values.mean()) for name, values in found.items() if len(values)}
