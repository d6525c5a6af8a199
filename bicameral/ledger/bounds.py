"""The least and the most that a request may cost and consume, over the tree of a mind's members.

`least` is what has to be free for anyone to answer, `most` what is enough for all that the policy
may do, as minds divide a budget among those they ask together. What is set aside between them is
the request's budget, which minds and members never exceed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from bicameral.config import Config, MindOptions
from bicameral.ledger.tariff import Tariff
from bicameral.model import Model, bound, worst_cost
from bicameral.types import NO_USAGE, Card, Request

_TRIES = 5  # answers of a member that samples, where its mind does not say how many
_BYTES = 4  # of an answer's token, in the prompt of whoever reads it
_BRIEF = 2000  # bytes of what a mind tells a judge beside the answers, and of the form it wants


class Bounds(Struct, frozen=True, kw_only=True):
    """Nano-dollars that the caller may have to pay, and tokens; None: nothing bounds them."""

    least: int
    most: int
    tokens: int | None


class _Need(Struct, frozen=True, kw_only=True):
    """What one member needs, a mind or a leaf; `least` None: it cannot be asked.

    `prompt` and `said` are the most tokens of one answer.
    """

    least: int | None = None
    most: int = 0
    tokens: int | None = 0
    prompt: int = 0
    said: int = 0


class _Plan(Struct, frozen=True, kw_only=True):
    """How a policy asks its members: `together` so many times each, or one after the other.

    They get a part of the budget, of `steps`; then judges are asked `judged` times.
    """

    together: int = 0
    times: int = 1
    steps: int = 1
    judged: int = 0


def bounds(
    request: Request,
    model: Model,
    models: Mapping[str, Model],
    config: Config,
    rates: Tariff,
    *,
    priced: bool = True,
) -> Bounds | None:
    """The bounds of `request` to `model`; None if nothing bounds what any of its members costs.

    `priced` false: no budget will keep members of unknown price from being asked, so they count
    too, as if they were free.
    """
    need = _Reckoning(request, models, config, priced).of(model.card, 0)
    if need.least is None:
        return None
    said = replace(NO_USAGE, prompt_tokens=need.prompt, completion_tokens=need.said)
    low, high = rates.most(need.least, said), rates.most(need.most, said)
    if low is None or high is None:
        return None
    return Bounds(least=low, most=high, tokens=need.tokens)


class _Reckoning:
    """Adds up what members need for one request."""

    def __init__(
        self, request: Request, models: Mapping[str, Model], config: Config, priced: bool
    ) -> None:
        self._request = request
        self._models = models
        self._config = config
        self._priced = priced

    def of(self, card: Card, read: int) -> _Need:
        """What `card` needs if so many bytes are put before it beside the question."""
        mind = self._config.minds.get(card.name)
        return self._leaf(card, read) if mind is None else self._mind(mind, read)

    def _leaf(self, card: Card, read: int) -> _Need:
        cost = worst_cost(card, self._request)
        if cost is None and self._priced:
            return _Need()
        asked = bound(card, self._request)
        if asked is None or asked.prompt_tokens is None or asked.completion_tokens is None:
            return _Need(least=cost or 0, most=cost or 0, tokens=None)
        asked = replace(asked, prompt_tokens=asked.prompt_tokens + read)
        if read and card.price is not None:
            cost = card.price.most(asked)
        prompt, said = asked.prompt_tokens or 0, asked.completion_tokens or 0
        cost = cost or 0
        return _Need(least=cost, most=cost, tokens=prompt + said, prompt=prompt, said=said)

    def _mind(self, mind: MindOptions, read: int) -> _Need:
        names = mind.members[:1] if mind.policy == "samples" else mind.members
        needs = [self.of(self._models[name].card, read) for name in names]
        able = [need for need in needs if need.least is not None]
        if not able:
            return _Need()
        plan = _plan(mind)
        asked = _asked(plan, able)
        if not plan.judged:
            return asked
        answers = len(able) * plan.times
        judges = [self._judge(name, read, answers * asked.said) for name in _judges(mind)]
        return _judged(asked, judges, plan.judged)

    def _judge(self, name: str, read: int, said: int) -> _Need:
        """What it takes to read so many tokens of answers; more than its context nobody can."""
        card = self._models[name].card
        tokens = said if card.context is None else min(said, card.context)
        return self.of(card, read + tokens * _BYTES + _BRIEF)


def _plan(mind: MindOptions) -> _Plan:
    match mind.policy:
        case "vote" | "auto":
            return _Plan(together=1)
        case "select":
            judged = mind.judge is not None
            return _Plan(together=1, steps=1 + judged, judged=int(judged))
        case "verify":
            return _Plan(steps=2, judged=1)
        case "samples":
            count = mind.samples or _TRIES
            return _Plan(together=count // 2 + 1, times=count, steps=2)
        case "fuse":
            times = mind.samples or 1
            steps = 3 if mind.analysis else 2
            return _Plan(together=times, times=times, steps=steps, judged=steps)
    return _Plan()


def _asked(plan: _Plan, needs: Sequence[_Need]) -> _Need:
    """What those who answer need: asked together, each gets the same part of the budget."""
    at_once = len(needs) * plan.together
    most = at_once * max(n.most for n in needs) if at_once else sum(n.most for n in needs)
    return _Need(
        least=plan.steps * max(1, at_once) * min(n.least for n in needs if n.least is not None),
        most=plan.steps * most,
        tokens=_times(plan.times, _sum(n.tokens for n in needs)),
        prompt=max(n.prompt for n in needs),
        said=max(n.said for n in needs),
    )


def _judged(asked: _Need, judges: Sequence[_Need], times: int) -> _Need:
    """With the dearest of `judges` asked so often; one that cannot be asked is done without."""
    able = [judge for judge in judges if judge.least is not None]
    if not able:
        return asked
    read = None if any(judge.tokens is None for judge in able) else max(j.tokens or 0 for j in able)
    return _Need(
        least=asked.least,
        most=asked.most + times * max(judge.most for judge in able),
        tokens=_sum((asked.tokens, _times(times, read))),
        prompt=max(asked.prompt, *(judge.prompt for judge in able)),
        said=max(asked.said, *(judge.said for judge in able)),
    )


def _judges(mind: MindOptions) -> tuple[str, ...]:
    """Who may have to read the answers: of a fuse also the best of those that answered."""
    named = () if mind.judge is None else (mind.judge,)
    return named if named and mind.policy != "fuse" else (*named, *mind.members)


def _sum(amounts: Iterable[int | None]) -> int | None:
    total = 0
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total


def _times(times: int, amount: int | None) -> int | None:
    return None if amount is None else times * amount
