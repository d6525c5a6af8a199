"""A Mind: a policy over members, itself a Model, so minds nest.

The loop asks the policy whom to ask next until it has enough; a member that cannot take the
request is left out with its reason, one that fails is recorded and does not end the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing

from msgspec.structs import replace

from bicameral.decision import Asked
from bicameral.errors import (
    AllFailed,
    BicameralError,
    BudgetError,
    ReachError,
    RequestError,
    Timeout,
    Unsupported,
)
from bicameral.left.evidence import Evidence
from bicameral.left.policy import Case, Estimator, Policy, Reader, Step
from bicameral.left.record import Record
from bicameral.left.score import Priors
from bicameral.left.sticky import Sticky, warmed
from bicameral.model import Model, admit, collect
from bicameral.types import (
    Answer,
    Call,
    Card,
    Delta,
    Done,
    Event,
    Modality,
    Reach,
    Reasoning,
    Request,
    Text,
    Usage,
    spent_at_most,
    total_cost,
)

Unfit = Mapping[str, BicameralError]


class Mind:
    """Members and a policy; `reach` is the furthest its members may be, whatever was asked.

    `estimator` says what to expect of each member, by default nothing but its price; `reader`
    reads answers as evidence; `sticky` remembers who holds which conversation, by default none.
    """

    def __init__(
        self,
        name: str,
        policy: Policy,
        members: Sequence[Model],
        *,
        reach: Reach = Reach.PUBLIC,
        estimator: Estimator | None = None,
        reader: Reader | None = None,
        sticky: Sticky | None = None,
    ) -> None:
        self._policy = policy
        self._members = tuple(members)
        self._reach = reach
        self._estimator = estimator or Priors()
        self._reader = reader or Evidence()
        self._sticky = sticky
        self._card = _card(name, policy, self._members)

    @property
    def card(self) -> Card:
        """What at least one member honours and the policy can carry through."""
        return self._card

    async def run(self, request: Request) -> AsyncGenerator[Event]:
        """Ask members as the policy says; Done carries all calls, their sum, and the decision."""
        request = request.within(reach=self._reach)
        admit(self._card, request)
        case, record = self._open(request)
        while step := self._next(request, case, record):
            record.turn(step)
            if not step.final:
                case = _heard(case, await self._ask_all(case, step))
                continue
            spoke = False
            try:
                async with aclosing(step.models[0].run(step.request)) as events:
                    async for event in events:
                        spoke = True
                        if isinstance(event, Done):
                            event = self._close(event, case, record.streamed(case, step, event))
                        yield event
                return
            except BicameralError as error:
                if spoke:
                    error.calls = (*_calls(case.answers), *error.calls)
                    raise
                failed = _failed(step.models[0], error)
                case = _heard(case, [(failed, await self._read(case, step, failed))])
        for event in self._settled(case, record):
            yield event

    def _open(self, request: Request) -> tuple[Case, Record]:
        """The case as it stands before anyone was asked, and the record that will tell of it."""
        members, unfit = self._fit(request)
        warm = self._sticky.warm(request) if self._sticky else ""
        if warm and Sticky.bound(request):
            members, unfit = _only(warm, members, unfit)
        estimates = self._estimator.estimate(request, [member.card for member in members])
        if holder := next((m for m in members if m.card.name == warm), None):
            estimates = warmed(estimates, holder.card, request)
        case = Case(request=request, members=members, estimates=estimates, warm=warm)
        return case, Record(self._card.name, self._policy, self._estimator.digest, case, unfit)

    def _next(self, request: Request, case: Case, record: Record) -> Step | None:
        """The policy's next step; none if there is no time or money left but an answer is there."""
        try:
            step = self._policy.next(self._paid(request, case))
            if step is not None:
                _in_time(self._card.name, step.request)
        except (BudgetError, Timeout) as error:
            if not case.good:
                raise
            record.end(str(error))
            return None
        return step

    def _paid(self, request: Request, case: Case) -> Case:
        """The case with what the answers so far have left of the request's budget."""
        if request.budget is None or not case.answers:
            return case
        spent = spent_at_most(_calls(case.answers))
        if spent is None:
            raise BudgetError(
                "a member's cost is unknown, so nothing more can be spent within a budget"
            )
        return replace(case, request=request.within(budget=max(0, request.budget - spent)))

    async def _ask_all(self, case: Case, step: Step) -> list[tuple[Answer, Asked]]:
        """The answers of the step's members, each read as soon as it is there."""
        share = step.request.budget
        request = step.request.within(budget=None if share is None else share // len(step.models))

        async def ask(model: Model) -> tuple[Answer, Asked]:
            answer = await collect(model, request)
            return answer, await self._read(case, step, answer)

        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(ask(model)) for model in step.models]
        return [task.result() for task in asked]

    async def _read(self, case: Case, step: Step, answer: Answer) -> Asked:
        seen = await self._reader.read(case.request, answer)
        limited = step.request.sampling.max_tokens != case.request.sampling.max_tokens
        return replace(seen, cut=True) if limited and answer.reason == "length" else seen

    def _fit(self, request: Request) -> tuple[tuple[Model, ...], Unfit]:
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

    def _settled(self, case: Case, record: Record) -> Iterator[Event]:
        if all(answer.error is not None for answer in case.answers):
            raise _all_failed(self._card.name, case.answers, record.unfit)
        verdict = self._policy.settle(case)
        answer = case.answers[verdict.index]
        for event in _as_events(answer, case.request):
            if isinstance(event, Done):
                event = self._close(event, case, record.settled(case, verdict))
            yield event

    def _close(self, done: Done, case: Case, record: Record) -> Done:
        """The inner Done with every call made for it; an unknown part makes the sum unknown."""
        calls = (*_calls(case.answers), *done.calls)
        usage = calls[0].usage if calls else done.usage
        for call in calls[1:]:
            usage += call.usage
        if self._sticky:
            self._sticky.note(case.request, record.by)
        inner = [d for answer in case.answers for d in answer.decisions]
        return Done(
            usage=usage,
            reason=done.reason,
            by=done.by,
            served=done.served,
            calls=calls,
            why="; ".join([record.why, done.why] if done.why else [record.why]),
            decisions=(record.decision(total_cost(calls)), *inner, *done.decisions),
        )


def _only(warm: str, members: tuple[Model, ...], unfit: Unfit) -> tuple[tuple[Model, ...], Unfit]:
    """Between a tool call and its result nobody else takes over, unless the caller cannot go on."""
    if all(member.card.name != warm for member in members):
        return members, unfit
    bound = BicameralError(f"{warm} made the tool call, so it gets the result")
    others = {m.card.name: bound for m in members if m.card.name != warm}
    return tuple(m for m in members if m.card.name == warm), {**unfit, **others}


def _heard(case: Case, heard: Sequence[tuple[Answer, Asked]]) -> Case:
    answers = (*case.answers, *(answer for answer, _ in heard))
    return replace(case, answers=answers, asked=(*case.asked, *(asked for _, asked in heard)))


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
    for percept in answer.percepts:
        yield Delta(percept, by=answer.by)
    for video in answer.videos:
        yield Delta(video, by=answer.by)
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
    makers = [card for card in cards if Modality.VIDEO in card.emits]
    return Card(
        name=name,
        engine=policy.name,
        accepts=frozenset().union(*(card.accepts for card in cards)),
        emits=frozenset().union(*(card.emits for card in cards)),
        features=frozenset().union(*(card.features for card in cards)) - policy.refuses,
        extra=extra,
        context=max(contexts, default=None),
        reach=min(card.reach for card in cards),
        clips=makers[0].clips if len(makers) == 1 else None,
        members=tuple(card.name for card in cards),
    )
