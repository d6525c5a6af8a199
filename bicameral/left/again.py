"""Takes a decision again, from its record alone: nobody is asked and no text is needed."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Iterator, Sequence

from msgspec.structs import replace

from bicameral.decision import Asked, Decision, Turn
from bicameral.errors import BicameralError
from bicameral.left.policy import Case, Estimate, Policy, Step
from bicameral.left.record import Record
from bicameral.types import (
    Answer,
    Call,
    Card,
    Done,
    Event,
    Feature,
    JsonFormat,
    Message,
    Modality,
    Request,
    Sampling,
    Text,
    Tool,
    Usage,
)


def again(decision: Decision, policy: Policy) -> Decision:
    """What `policy` decides on the evidence that `decision` holds.

    `by` is "" if it asks for an answer that the record does not hold; its turns tell which.
    """
    case = _case(decision)
    unfit = {
        c.model: BicameralError(c.refused) for c in decision.considered if c.refused is not None
    }
    record = Record(decision.mind, policy, decision.learned, case, unfit)
    asked = decision.asked
    while step := _next(policy, case, decision, record):
        record.turn(step)
        heard = asked[len(case.asked) :][: len(step.models)]
        if [a.model for a in heard] != [model.card.name for model in step.models]:
            return record.decision(decision.cost)
        if step.final and heard[0].error is None:
            record.streamed(case, step, _done(heard[0]))
            break
        case = _heard(case, heard)
    else:
        if not case.good:
            return record.decision(decision.cost)
        record.settled(case, policy.settle(case))
    made = record.decision(decision.cost)
    shares = tuple(replace(a, share=m.share) for a, m in zip(asked, made.asked, strict=False))
    return replace(made, asked=shares, seconds=decision.seconds)


def _next(policy: Policy, case: Case, decision: Decision, record: Record) -> Step | None:
    """The policy's next step, unless time or money ended it here."""
    if decision.ended and record.turns == len(decision.turns):
        record.end(decision.ended)
        return None
    return policy.next(case)


def differences(was: Decision, now: Decision) -> Iterator[str]:
    """What came out otherwise the second time, in words; nothing if it was the same decision."""
    for number, (old, new) in enumerate(zip(was.turns, now.turns, strict=False), start=1):
        if old != new:
            yield f"step {number}: {_told(old)}; now {_told(new)}"
    if len(was.turns) != len(now.turns):
        yield f"{len(was.turns)} steps, now {len(now.turns)}"
    if was.by != now.by:
        yield f"{was.by} spoke, now {now.by or 'somebody the record has no answer of'}"
    if not _close(was.quality, now.quality):
        yield f"it was {was.quality} likely right, now {now.quality}"
    old_shares, new_shares = ([a.share for a in d.asked] for d in (was, now))
    if len(old_shares) != len(new_shares) or not all(map(_close, old_shares, new_shares)):
        yield f"shares {old_shares}, now {new_shares}"
    if was.why != now.why:
        yield f"because {was.why!r}, now because {now.why!r}"


class Absent:
    """A member's name without the member."""

    def __init__(self, name: str) -> None:
        self.card = Card(
            name=name,
            engine="absent",
            accepts=frozenset(Modality),
            emits=frozenset(Modality),
            features=frozenset(Feature),
            extra=None,
        )

    def run(self, request: Request) -> AsyncGenerator[Event]:
        """Never called: taking a decision again asks nobody."""
        raise NotImplementedError(self.card.name)


def _case(decision: Decision) -> Case:
    here = [c for c in decision.considered if c.refused is None]
    return Case(
        request=_request(decision),
        members=tuple(Absent(c.model) for c in here if not c.arm),
        estimates={
            c.model: Estimate(
                quality=c.quality,
                cost=c.cost,
                seconds=c.seconds,
                weight=c.weight,
                known=c.known or 0.0,
            )
            for c in here
            if c.quality is not None
        },
        warm=decision.warm,
    )


def _request(decision: Decision) -> Request:
    """A request of which the same facts are true."""
    facts = decision.facts
    return Request(
        messages=(Message("user", (Text(""),)),) * max(1, facts.get("messages", 1)),
        sampling=Sampling(max_tokens=facts.get("max_tokens")),
        tools=(Tool("tool"),) * facts.get("tools", 0),
        format=JsonFormat() if facts.get("format") else None,
        id=decision.id,
    )


def _heard(case: Case, heard: Sequence[Asked]) -> Case:
    bare = tuple(replace(asked, share=0.0) for asked in heard)
    answers = tuple(
        Answer(model=a.model, by=a.model, error=BicameralError(a.error) if a.error else None)
        for a in heard
    )
    return replace(case, asked=(*case.asked, *bare), answers=(*case.answers, *answers))


def _done(asked: Asked) -> Done:
    return Done(
        usage=Usage(completion_tokens=asked.tokens),
        calls=(Call(model=asked.model, cost=asked.cost),),
    )


def _told(turn: Turn) -> str:
    final = " for the answer itself" if turn.final else ""
    return f"asked {' + '.join(turn.models)}{final}{f' ({turn.why})' if turn.why else ''}"


def _close(a: float | None, b: float | None) -> bool:
    """Equal but for the last digits, in which machines may differ."""
    return a == b if a is None or b is None else math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
