"""Writes the decision record of one request while its mind decides."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from bicameral.decision import Asked, Considered, Decision, Turn
from bicameral.errors import BicameralError
from bicameral.left.policy import Case, Policy, Step, Verdict
from bicameral.types import Done, total_cost


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
        self._verdict = ""
        self._quality: float | None = None

    def turn(self, step: Step) -> None:
        """Note whom the policy asks now."""
        names = tuple(model.card.name for model in step.models)
        self._turned = time.monotonic()
        self._turns.append(Turn(models=names, final=step.final, why=step.why))

    def streamed(self, case: Case, step: Step, done: Done) -> Record:
        """A final member's stream was the answer."""
        name = step.models[0].card.name
        tokens = done.usage.completion_tokens
        seconds = time.monotonic() - self._turned
        last = Asked(model=name, tokens=tokens, cost=total_cost(done.calls), seconds=seconds)
        shares = (*step.shares, *[0.0] * (len(case.asked) - len(step.shares)))
        self._asked = _shared((*case.asked, last), (*shares, 1.0 - sum(shares)))
        self.by = name
        estimate = case.estimates.get(name)
        self._quality = estimate.quality if estimate and not case.asked else None
        return self

    def settled(self, case: Case, verdict: Verdict) -> Record:
        """The policy chose one of the answers."""
        alone = tuple(float(i == verdict.index) for i in range(len(case.asked)))
        self._asked = _shared(case.asked, verdict.shares or alone)
        self.by = case.asked[verdict.index].model
        self._verdict = verdict.why
        self._quality = verdict.quality
        return self

    @property
    def why(self) -> str:
        """How it went, for a person: left out, each step's reason, the verdict."""
        left_out = [f"{name} left out: {error}" for name, error in self.unfit.items()]
        steps = [turn.why for turn in self._turns if turn.why]
        title = f"{self._policy.name} of {self._mind}"
        return "; ".join([title, *left_out, *steps, *([self._verdict] if self._verdict else [])])

    def decision(self, cost: int | None) -> Decision:
        """The record, closed; `cost` is what all calls cost together."""
        return Decision(
            id=self._case.request.id,
            mind=self._mind,
            policy=self._policy.name,
            settings=self._policy.settings,
            learned=self._learned,
            facts=facts(self._case),
            warm=self._case.warm,
            considered=tuple(self._considered()),
            turns=tuple(self._turns),
            asked=self._asked,
            by=self.by,
            why=self.why,
            quality=self._quality,
            cost=cost,
            seconds=time.monotonic() - self._began,
        )

    def _considered(self) -> Sequence[Considered]:
        members = {member.card.name for member in self._case.members}
        fit = [
            Considered(
                model=name,
                quality=estimate.quality,
                cost=estimate.cost,
                seconds=estimate.seconds,
                weight=estimate.weight,
                known=estimate.known,
            )
            for name, estimate in self._case.estimates.items()
        ]
        plain = members - set(self._case.estimates)
        fit += [Considered(model=name) for name in sorted(plain)]
        return [*fit, *(Considered(model=n, refused=str(e)) for n, e in self.unfit.items())]


def facts(case: Case) -> Mapping[str, int | None]:
    """What policies read of a request besides its text."""
    sampling = case.request.sampling
    return {"max_tokens": sampling.max_tokens, "messages": len(case.request.messages)}


def _shared(asked: Sequence[Asked], shares: Sequence[float]) -> tuple[Asked, ...]:
    return tuple(replace(a, share=s) if s else a for a, s in zip(asked, shares, strict=True))
