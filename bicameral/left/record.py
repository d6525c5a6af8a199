"""Writes the decision record of one request while its mind decides."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from bicameral.decision import Asked, Considered, Decision, Turn
from bicameral.errors import BicameralError, Overloaded, Rejected, Timeout
from bicameral.left.policy import Case, Estimate, Policy, Step, Verdict
from bicameral.types import Answer, Done, total_cost

_LONGEST = 300


class Record:
    """What is known of a decision so far; `why` is the same in words."""

    def __init__(
        self,
        mind: str,
        policy: Policy,
        learned: str,
        case: Case,
        unfit: Mapping[str, BicameralError],
    ) -> None:
        self.unfit = unfit
        self.by = ""
        self._began = self._turned = time.monotonic()
        self._mind = mind
        self._policy = policy
        self._learned = learned
        self._case = case
        self._turns: list[Turn] = []
        self._asked: tuple[Asked, ...] = ()
        self._verdict = self._ended = ""
        self._quality: float | None = None

    def turn(self, step: Step) -> None:
        """Note whom the policy asks now."""
        names = tuple(model.card.name for model in step.models)
        self._turned = time.monotonic()
        self._turns.append(Turn(models=names, final=step.final, why=step.why))

    def end(self, why: str) -> None:
        """Note that there was no time or money for the next step."""
        self._ended = why

    def streamed(self, case: Case, step: Step, done: Done) -> Record:
        """A final member's stream was the answer."""
        name = step.models[0].card.name
        tokens = done.usage.completion_tokens
        seconds = time.monotonic() - self._turned
        last = Asked(model=name, tokens=tokens, cost=total_cost(done.calls), seconds=seconds)
        shares = (*step.shares, *[0.0] * (len(case.asked) - len(step.shares)))
        self._asked = _shared((*_quiet(case), last), (*shares, 1.0 - sum(shares)))
        self.by = name
        estimate = case.estimates.get(name)
        self._quality = estimate.quality if estimate and not case.asked else None
        return self

    def settled(self, case: Case, verdict: Verdict) -> Record:
        """The policy chose one of the answers."""
        alone = tuple(float(i == verdict.index) for i in range(len(case.asked)))
        self._asked = _shared(_quiet(case), verdict.shares or alone)
        self.by = case.asked[verdict.index].model
        self._verdict = verdict.why
        self._quality = verdict.quality
        return self

    @property
    def turns(self) -> int:
        """How many steps were taken."""
        return len(self._turns)

    @property
    def why(self) -> str:
        """How it went, for a person: left out, each step's reason, the verdict."""
        left_out = [f"{name} left out: {_brief(error)}" for name, error in self.unfit.items()]
        steps = [turn.why for turn in self._turns if turn.why]
        title = f"{self._policy.name} of {self._mind}"
        ends = [why for why in (self._ended, self._verdict) if why]
        return "; ".join([title, *left_out, *steps, *ends])

    def decision(self, cost: int | None) -> Decision:
        """The record, closed; `cost` is what all calls cost together."""
        return Decision(
            id=self._case.request.id,
            mind=self._mind,
            policy=self._policy.name,
            settings=dict(self._policy.settings),
            learned=self._learned,
            facts=facts(self._case),
            warm=self._case.warm,
            considered=tuple(self._considered()),
            turns=tuple(self._turns),
            ended=self._ended,
            asked=self._asked,
            by=self.by,
            why=self.why,
            quality=self._quality,
            cost=cost,
            seconds=time.monotonic() - self._began,
        )

    def _considered(self) -> Iterator[Considered]:
        """The members in the config's order, then combinations, then who was left out."""
        estimates = self._case.estimates
        members = [member.card.name for member in self._case.members]
        for name in members:
            yield _expected(name, estimates.get(name))
        for name, estimate in estimates.items():
            if name not in members:
                yield replace(_expected(name, estimate), arm=True)
        for name, error in self.unfit.items():
            yield Considered(model=name, refused=_brief(error))


def _expected(name: str, estimate: Estimate | None) -> Considered:
    if estimate is None:
        return Considered(model=name)
    return Considered(
        model=name,
        quality=estimate.quality,
        cost=estimate.cost,
        seconds=estimate.seconds,
        weight=estimate.weight,
        known=estimate.known,
    )


def facts(case: Case) -> Mapping[str, Any]:
    """What policies read of a request besides its text; `again` makes one from them."""
    request = case.request
    return {
        "max_tokens": request.sampling.max_tokens,
        "messages": len(request.messages),
        "tools": len(request.tools),
        "format": request.format is not None,
    }


def _quiet(case: Case) -> tuple[Asked, ...]:
    """Without what servers said of their failures."""
    return tuple(
        asked if asked.error is None else replace(asked, error=kind(answer))
        for asked, answer in zip(case.asked, case.answers, strict=True)
    )


def kind(answer: Answer) -> str:
    """What sort of failure ended an answer, without its message."""
    match answer.error:
        case Timeout() as error:
            return f"Timeout ({error.phase})"
        case Rejected() | Overloaded() as error:
            return f"{type(error).__name__} ({error.status})"
    return type(answer.error).__name__


def _brief(error: BicameralError) -> str:
    """Our own words; a field's name in them may be as long as its sender likes."""
    return str(error)[:_LONGEST]


def _shared(asked: Sequence[Asked], shares: Sequence[float]) -> tuple[Asked, ...]:
    return tuple(replace(a, share=s) if s else a for a, s in zip(asked, shares, strict=True))
