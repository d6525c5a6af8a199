"""A Mind: a policy over members, itself a Model, so minds nest.

The loop asks the policy whom to ask next until it has enough; a member that cannot take the
request is left out with its reason, one that fails is recorded and does not end the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Protocol

from msgspec import Struct

from bicameral.errors import (
    AllFailed,
    BicameralError,
    BudgetError,
    ReachError,
    RequestError,
    Timeout,
    Unsupported,
)
from bicameral.model import Model, admit, collect
from bicameral.types import (
    Answer,
    Call,
    Card,
    Delta,
    Done,
    Event,
    Feature,
    Reach,
    Reasoning,
    Request,
    Text,
    Usage,
    total_cost,
)


class Step(Struct, frozen=True, kw_only=True):
    """Whom to ask now. `final`: the one model's stream is the answer, passed straight through."""

    models: tuple[Model, ...]
    request: Request
    final: bool = False
    why: str = ""


class Policy(Protocol):
    """Decides whom to ask and whose answer counts; it keeps nothing between requests.

    `members` are those that can take the request, in the config's order; `answers` what came back
    so far, failures included, in the order asked. `refuses`: features it cannot carry through.
    """

    name: str
    refuses: frozenset[Feature]

    def next(
        self, request: Request, members: Sequence[Model], answers: Sequence[Answer]
    ) -> Step | None:
        """The next step; None: enough."""
        ...

    def settle(self, request: Request, answers: Sequence[Answer]) -> Answer:
        """Which of the answers counts; at least one is without an error."""
        ...


class Mind:
    """Members and a policy; `reach` is the furthest its members may be, whatever was asked."""

    def __init__(
        self, name: str, policy: Policy, members: Sequence[Model], *, reach: Reach = Reach.PUBLIC
    ) -> None:
        self._policy = policy
        self._members = tuple(members)
        self._reach = reach
        self._card = _card(name, policy, self._members)
        self._title = f"{policy.name} of {name}"

    @property
    def card(self) -> Card:
        """What at least one member honours and the policy can carry through."""
        return self._card

    async def run(self, request: Request) -> AsyncGenerator[Event]:
        """Ask members as the policy says; Done carries the sum of all calls."""
        request = request.within(reach=self._reach)
        admit(self._card, request)
        members, unfit = self._fit(request)
        answers: list[Answer] = []
        whys = [self._title, *(f"{name} left out: {error}" for name, error in unfit.items())]
        while step := self._policy.next(_left(request, answers), members, answers):
            _in_time(self._card.name, step.request)
            if step.why:
                whys.append(step.why)
            if not step.final:
                answers += await _ask_all(step)
                continue
            spoke = False
            try:
                async with aclosing(step.models[0].run(step.request)) as events:
                    async for event in events:
                        spoke = True
                        yield (
                            self._close(event, answers, whys) if isinstance(event, Done) else event
                        )
                return
            except BicameralError as error:
                if spoke:
                    error.calls = (*_calls(answers), *error.calls)
                    raise
                answers.append(_failed(step.models[0], error))
        for event in self._settled(request, answers, unfit):
            yield self._close(event, answers, whys) if isinstance(event, Done) else event

    def _fit(self, request: Request) -> tuple[tuple[Model, ...], Mapping[str, BicameralError]]:
        """The members that can take the request, and why the others cannot."""
        unfit: dict[str, BicameralError] = {}
        for member in self._members:
            try:
                admit(member.card, request)
            except (RequestError, ReachError, BudgetError) as error:
                unfit[member.card.name] = error
        if not unfit:
            return self._members, unfit
        if len(unfit) == len(self._members):
            raise _none_fit(self._card.name, list(unfit.values()))
        return tuple(m for m in self._members if m.card.name not in unfit), unfit

    def _settled(
        self, request: Request, answers: Sequence[Answer], unfit: Mapping[str, BicameralError]
    ) -> Iterator[Event]:
        if all(answer.error is not None for answer in answers):
            raise _all_failed(self._card.name, answers, unfit)
        yield from _as_events(self._policy.settle(request, answers), request)

    def _close(self, done: Done, answers: Sequence[Answer], whys: list[str]) -> Done:
        """The inner Done with every call made for it; an unknown part makes the sum unknown."""
        calls = (*_calls(answers), *done.calls)
        usage = calls[0].usage if calls else done.usage
        for call in calls[1:]:
            usage += call.usage
        return Done(
            usage=usage,
            reason=done.reason,
            by=done.by,
            served=done.served,
            calls=calls,
            why="; ".join([*whys, done.why] if done.why else whys),
        )


async def _ask_all(step: Step) -> list[Answer]:
    share = step.request.budget
    request = step.request.within(budget=None if share is None else share // len(step.models))
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(collect(model, request)) for model in step.models]
    return [task.result() for task in asked]


def _left(request: Request, answers: Sequence[Answer]) -> Request:
    """The request with what the answers so far have left of its budget."""
    if request.budget is None or not answers:
        return request
    spent = total_cost(_calls(answers))
    if spent is None:
        raise BudgetError(
            "a member's cost is unknown, so nothing more can be spent within a budget"
        )
    return request.within(budget=max(0, request.budget - spent))


def _in_time(name: str, request: Request) -> None:
    if request.deadline is not None and not request.remaining():
        raise Timeout(name, "total", 0)


def _calls(answers: Sequence[Answer]) -> tuple[Call, ...]:
    return tuple(call for answer in answers for call in answer.calls)


def _failed(model: Model, error: BicameralError) -> Answer:
    calls = error.calls or (Call(model=model.card.name, usage=Usage(), error=str(error)),)
    return Answer(model=model.card.name, error=error, calls=calls)


def _as_events(answer: Answer, request: Request) -> Iterator[Event]:
    """An answer as the stream that folds to it, but for its calls, which are the mind's to add."""
    if answer.reasoning:
        yield Delta(Reasoning(answer.reasoning), by=answer.by)
    if answer.text:
        logprobs = answer.logprobs if request.sampling.logprobs else ()
        yield Delta(Text(answer.text), by=answer.by, logprobs=logprobs)
    for call in answer.tool_calls:
        yield Delta(call, by=answer.by)
    for vector in answer.embeddings:
        yield Delta(vector, by=answer.by)
    yield Done(reason=answer.reason or "stop", by=answer.by, why=answer.why)


def _none_fit(name: str, errors: Sequence[BicameralError]) -> BicameralError:
    """One error for all reasons; a field nobody honours is named as OpenAI would."""
    if len(errors) == 1:
        return errors[0]
    text = f"no member of {name} can take this request: " + "; ".join(str(e) for e in errors)
    for error in errors:
        if isinstance(error, RequestError):
            return Unsupported(text, param=error.param, code="unsupported")
    reach = any(isinstance(error, ReachError) for error in errors)
    return ReachError(text) if reach else BudgetError(text)


def _all_failed(
    name: str, answers: Sequence[Answer], unfit: Mapping[str, BicameralError]
) -> BicameralError:
    """The members' common failure itself, or AllFailed with each one's.

    A member that the reach ruled out is named too: with it, the answer might have come.
    """
    failures = {a.model: a.error for a in answers if isinstance(a.error, BicameralError)}
    barred = {member: e for member, e in unfit.items() if isinstance(e, ReachError)}
    kinds = {type(error) for error in failures.values()}
    alone = len(kinds) == 1 and not barred
    error = next(iter(failures.values())) if alone else AllFailed(name, failures | barred)
    error.calls = _calls(answers)
    return error


def _card(name: str, policy: Policy, members: Sequence[Model]) -> Card:
    cards = [member.card for member in members]
    extra: frozenset[str] | None = frozenset()
    for card in cards:
        extra = None if extra is None or card.extra is None else extra | card.extra
    contexts = [card.context for card in cards if card.context is not None]
    return Card(
        name=name,
        engine=policy.name,
        accepts=frozenset().union(*(card.accepts for card in cards)),
        emits=frozenset().union(*(card.emits for card in cards)),
        features=frozenset().union(*(card.features for card in cards)) - policy.refuses,
        extra=extra,
        context=max(contexts, default=None),
        reach=min(card.reach for card in cards),
        members=tuple(card.name for card in cards),
    )
