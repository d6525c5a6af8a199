"""Tokens: local members write one answer together, by the byte, where the first one is unsure.

Members cut text into tokens differently, but all of them can tell the next byte (spelling.py). The
first member writes alone while it is more than `sure` of the next byte; where it is not, the
others are asked and the weighted mean decides: joining few places is cheaper and, in long answers,
better than joining all (SAFE, arXiv 2510.15346). Members must be able to show their next tokens,
which the local ones of this process can.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Self

from msgspec.structs import replace

from bicameral.decision import Asked, Considered, Decision
from bicameral.engines.llama.voice import Open, Voice, opener
from bicameral.errors import (
    AllFailed,
    BicameralError,
    Broken,
    BudgetError,
    ConfigError,
    ModelError,
    ReachError,
    RequestError,
    TooLong,
)
from bicameral.left.spelling import END, Shares, Spelled, Speller, drawn, likeliest, mixed
from bicameral.model import Model, admit, worst_cost
from bicameral.types import (
    Call,
    Card,
    Delta,
    Done,
    Event,
    Feature,
    Finish,
    Reach,
    Request,
    Sampling,
    Text,
    total_cost,
)

Unfit = Mapping[str, BicameralError]


class Tokens:
    """A Model of local members that write one answer together; the first one leads.

    `weights` go with `members`, by default all equal. The leading member says a byte alone if it
    is more than `sure` of it; with 1 all are always asked. On 20 easy questions, too few to tell
    quality, SmolLM2-135M asked Gemma-3-270M for 7 % of the bytes with 0.5 and for 25 % with 0.9,
    at 1.7 times the compute. `rare`: of the ways to cut a text into tokens, those of this share of
    a member's probability or less are left out.

    Without a temperature the likeliest byte is taken. `max_tokens` counts the leader's tokens. If
    the leader fails the next one leads. A member without a voice is a ConfigError.
    """

    def __init__(
        self,
        name: str,
        members: Sequence[Model],
        *,
        weights: Sequence[float] | None = None,
        sure: float = 0.5,
        rare: float = 0.02,
        reach: Reach = Reach.PUBLIC,
    ) -> None:
        if not 0 < sure <= 1:
            raise ConfigError(f"[minds.{name}] sure: must be above 0 and at most 1")
        self._members = tuple(members)
        self._opens = _openers(name, members)
        self._weights = _weighed(name, members, weights)
        self._sure = sure
        self._rare = rare
        self._reach = reach
        contexts = [member.card.context for member in members if member.card.context is not None]
        self._card = Card(
            name=name,
            engine="tokens",
            features=frozenset({Feature.SEED, Feature.STOP}),
            context=max(contexts, default=None),
            reach=min(member.card.reach for member in members),
            members=tuple(member.card.name for member in members),
        )

    @property
    def card(self) -> Card:
        """Text in, text out, with seed and stop; tools, formats and logprobs are refused."""
        return self._card

    async def run(self, request: Request) -> AsyncGenerator[Event]:
        """Write the answer; Done carries one call for each member, their sum, and the decision."""
        request = request.within(reach=self._reach)
        admit(self._card, request)
        members, unfit = self._fit(request)
        panel = _Panel(self._card.name, members, self._sure)
        writing = _Writing(panel, request.sampling)
        try:
            async with panel:
                await panel.open(request)
                async with aclosing(writing.pieces()) as pieces:
                    async for piece in pieces:
                        yield Delta(Text(piece), by=writing.by)
        except BicameralError as error:
            error.calls = panel.calls
            raise
        yield self._done(request, panel, unfit, writing)

    def _fit(self, request: Request) -> tuple[list[_Member], Unfit]:
        """The members that may read the request, and why the others may not."""
        fit: list[_Member] = []
        unfit: dict[str, BicameralError] = {}
        for model, opens, weight in zip(self._members, self._opens, self._weights, strict=True):
            try:
                admit(model.card, request)
                _bounded(model.card, request)
                fit.append(_Member(model.card.name, opens, weight, self._rare))
            except (RequestError, ReachError, BudgetError) as error:
                unfit[model.card.name] = error
        if not fit:
            raise _none_fit(self._card.name, list(unfit.values()))
        return fit, unfit

    def _done(self, request: Request, panel: _Panel, unfit: Unfit, writing: _Writing) -> Done:
        calls = panel.calls
        usage = calls[0].usage
        for call in calls[1:]:
            usage += call.usage
        whys = [f"tokens of {self._card.name}"]
        whys += [f"{name} left out: {error}" for name, error in unfit.items()]
        whys += [f"{name} failed" for name in panel.failures]
        whys += [f"{writing.by} led, all were asked for {panel.asked} of {writing.size} bytes"]
        why = "; ".join([*whys, f"they differed in {panel.split}"])
        decision = Decision(
            id=request.id,
            mind=self._card.name,
            policy="tokens",
            settings={"sure": self._sure, "weights": self._weights},
            considered=tuple(Considered(model=n, refused=str(e)) for n, e in unfit.items()),
            asked=tuple(member.asked(writing.size) for member in panel.all),
            by=writing.by,
            why=why,
            cost=total_cost(calls),
            seconds=writing.seconds,
        )
        return Done(
            usage=usage,
            reason=writing.reason,
            by=writing.by,
            calls=calls,
            why=why,
            decisions=(decision,),
        )


def _openers(name: str, members: Sequence[Model]) -> tuple[Open, ...]:
    """How to open each member's voice; a ConfigError names those that have none."""
    found = [(member.card.name, opener(member)) for member in members]
    mute = ", ".join(member for member, opens in found if opens is None)
    if mute or not members:
        raise ConfigError(
            f"[minds.{name}] members: {mute or 'none'}: the policy 'tokens' reads next tokens "
            'inside this process, so every member must be a [models.NAME] with engine = "llama_cpp"'
            "; take out the others, or choose another policy"
        )
    return tuple(opens for _, opens in found if opens is not None)


def _weighed(
    name: str, members: Sequence[Model], weights: Sequence[float] | None
) -> tuple[float, ...]:
    if weights is None:
        return (1.0,) * len(members)
    if len(weights) != len(members) or not all(0 < weight < math.inf for weight in weights):
        raise ConfigError(f"[minds.{name}] weights: give one number above 0 for each member")
    return tuple(weights)


def _bounded(card: Card, request: Request) -> None:
    """Fail closed: how much a member reads of what was said is not known beforehand."""
    if request.budget is not None and worst_cost(card, request) != 0:
        raise BudgetError(
            f"{card.name} is not free, and what it costs to write with others has no upper bound"
        )


def _none_fit(name: str, errors: Sequence[BicameralError]) -> BicameralError:
    wrong = [error for error in errors if isinstance(error, RequestError)]
    if wrong or len(errors) == 1:
        return (wrong or errors)[0]
    kind = ReachError if any(isinstance(error, ReachError) for error in errors) else BudgetError
    reasons = "; ".join(str(error) for error in errors)
    return kind(f"no member of {name} can take this request: {reasons}")


class _Member:
    """A member during one answer; `part` counts the bytes that it chose, or its part in them."""

    def __init__(self, name: str, opens: Open, weight: float, rare: float) -> None:
        self.name = name
        self.weight = weight
        self.part = 0.0
        self.calls: tuple[Call, ...] = ()
        self._opens = opens
        self._rare = rare
        self._stack = AsyncExitStack()
        self._voice: Voice | None = None

    async def open(self, request: Request) -> None:
        """Read the request."""
        self._voice = await self._stack.enter_async_context(self._opens(request))
        self.speller = Speller(self._voice, self._rare)

    async def close(self, error: BaseException | None = None) -> None:
        """Say no more; `calls` is what it took."""
        if self.calls:
            return
        await self._stack.__aexit__(type(error) if error else None, error, None)
        voice = self._voice
        self.calls = voice.calls if voice else getattr(error, "calls", ())
        if not self.calls:
            call = Call(model=self.name, error=None if error is None else str(error))
            if voice:
                call = replace(call, usage=voice.usage, seconds=voice.seconds)
            self.calls = (call,)

    def asked(self, size: int) -> Asked:
        """What it did, for the record of an answer of `size` bytes."""
        (call,) = self.calls
        return Asked(
            model=self.name,
            tokens=call.usage.completion_tokens,
            error=call.error,
            cost=call.cost,
            seconds=call.seconds,
            share=self.part / size if size else 0.0,
        )


View = tuple[_Member, Shares]


class _Panel:
    """The members of one answer, the one that leads first; one that fails is left out from then."""

    def __init__(self, name: str, members: Sequence[_Member], sure: float) -> None:
        self._name = name
        self._sure = sure
        self.all = tuple(members)
        self.left = list(members)
        self.failures: dict[str, BicameralError] = {}
        self.asked = self.split = 0  # bytes for which all were asked, and that they differed in

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for member in self.all:
            await member.close(error)

    @property
    def calls(self) -> tuple[Call, ...]:
        """What each member took."""
        return tuple(call for member in self.all for call in member.calls)

    async def open(self, request: Request) -> None:
        """Have every member read the request."""
        async with asyncio.TaskGroup() as group:
            for member in self.all:
                group.create_task(self._opened(member, request))
        self._stand()

    async def _opened(self, member: _Member, request: Request) -> None:
        try:
            await member.open(request)
        except BicameralError as error:
            await self._drop(member, error)

    async def views(self, said: bytearray) -> list[View]:
        """What comes next to the leader, and to all others unless it is sure."""
        leader, *others = self.left
        views = [await self._view(leader, said)]
        if others and max(views[0][1].values(), default=0.0) <= self._sure:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._view(member, said)) for member in others]
            views += [task.result() for task in tasks]
            self.asked += 1
            self.split += len({likeliest(shares) for _, shares in views if shares}) > 1
        self._stand()
        return [view for view in views if view[1]]

    async def _view(self, member: _Member, said: bytearray) -> View:
        try:
            return member, await member.speller.next(said)
        except ModelError as error:
            await self._drop(member, error)
            return member, {}

    async def _drop(self, member: _Member, error: BicameralError) -> None:
        self.left.remove(member)
        self.failures[member.name] = error
        await member.close(error)

    def _stand(self) -> None:
        """Raise the members' common failure, or AllFailed, if none is left."""
        if not self.left:
            kinds = {type(error) for error in self.failures.values()}
            common = next(iter(self.failures.values())) if len(kinds) == 1 else None
            raise common or AllFailed(self._name, self.failures)


class _Writing:
    """The answer while it is written; `by` leads, `reason` says why it ended."""

    def __init__(self, panel: _Panel, sampling: Sampling) -> None:
        self._panel = panel
        self._sampling = sampling
        self._dice = random.Random(sampling.seed)  # noqa: S311 - it draws words, not secrets
        self._began = time.monotonic()
        self._said = bytearray()
        self._text = Spelled(sampling.stop)
        self._tokens = self._last = 0
        self.by = panel.all[0].name
        self.reason: Finish = "stop"

    @property
    def size(self) -> int:
        """Bytes chosen so far."""
        return len(self._said)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._began

    async def pieces(self) -> AsyncGenerator[str]:
        """The text, about a token at a time."""
        while not self._text.stopped and not self._full():
            if self._leader.ended and (piece := self._text.take()):
                yield piece
            byte = await self._next()
            if byte == END:
                break
            self._say(byte)
        if piece := self._text.take(last=True):
            yield piece

    def _full(self) -> bool:
        most = self._sampling.max_tokens
        if most is None or not self._leader.ended or self._tokens < most:
            return False
        self.reason = "length"
        return True

    async def _next(self) -> int:
        try:
            views = await self._panel.views(self._said)
        except TooLong:
            if not self._said:
                raise
            self.reason = "length"  # it fills the context of the last member
            return END
        self.by = self._panel.left[0].name
        shares = mixed([(member.weight, view) for member, view in views])
        shares = {byte: p for byte, p in shares.items() if self._text.goes_on(byte)}
        if not shares:
            raise Broken(self.by, "none of the likeliest tokens goes on as text")
        byte = drawn(shares, self._sampling, self._dice)
        if byte != END:
            _credit(views, byte)
        return byte

    def _say(self, byte: int) -> None:
        self._said.append(byte)
        self._text.add(byte)
        self._leader.hear(self._said)
        ended = self._leader.tokens
        self._tokens += max(0, ended - self._last)  # it is less after the leader caught up
        self._last = ended

    @property
    def _leader(self) -> Speller:
        return self._panel.left[0].speller


def _credit(views: Sequence[View], byte: int) -> None:
    """Note which part each member had in choosing `byte`."""
    parts = [member.weight * view.get(byte, 0.0) for member, view in views]
    for (member, _), part in zip(views, parts, strict=True):
        member.part += part / sum(parts)
