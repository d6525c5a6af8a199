"""Runs a bake-off: everyone in turn, there and back, so that a machine that drifts drifts for all.

Each block opens the contestant anew and warms it up, so it begins with an empty cache, and nobody
takes memory or cores while another runs. Blocks of a rate stand side by side in time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime

from msgspec.structs import replace

from bicameral import build
from bicameral.asking import asking
from bicameral.chips.arrivals import open_loop, poisson
from bicameral.chips.bakeoff import Bakeoff, Block, Contestant, Found, Prompt, Row, Workload
from bicameral.chips.tasks import Task, prompts, tasks, text
from bicameral.chips_cli.machine import Energy, load, machine
from bicameral.errors import BicameralError, ChipError
from bicameral.ledger.meter import Meter
from bicameral.model import Fold, Model
from bicameral.types import Call, Delta, Request, Sampling

Said = Callable[[str], None]
Slot = tuple[int, float | None]
"""A repeat, and a rate or None for the tasks."""


async def contest(workload: Workload, source: str, said: Said = lambda text: None) -> Bakeoff:
    """Run the whole of it. Raises ConfigError if a member's table is wrong, ChipError
    if nobody can be reached."""
    for each in workload.contestants:  # a wrong table is told before anything runs
        build.member(each.name, each.member, source)
    here = machine()
    found = {each.name: await _found(each, workload, source) for each in workload.contestants}
    if all(each.left_out for each in found.values()):
        why = "; ".join(f"{each.name}: {each.left_out}" for each in found.values())
        raise ChipError(f"no contestant can be measured: {why}")
    blocks: list[Block] = []
    rows: list[Row] = []
    asked = tasks(workload.tasks, workload.repeats, workload.seed) if workload.tasks else ()
    for slot, each in _order(workload):
        if not found[each.name].left_out:
            said(f"repeat {slot[0] + 1} of {workload.repeats}, {_rate(slot)}: {each.name}")
            run = _Run(each, workload, slot, source)
            block, own = await run.block(asked[slot[0]] if slot[1] is None else ())
            blocks.append(block)
            rows += own
            found[each.name] = _seen(found[each.name], each, run.calls)
    return Bakeoff(
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        workload=workload,
        machine=replace(here, load_after=load()),
        found=tuple(found.values()),
        blocks=tuple(blocks),
        rows=tuple(rows),
    )


def _rate(slot: Slot) -> str:
    return "tasks" if slot[1] is None else f"{slot[1]:g}/s"


def _order(workload: Workload) -> Iterator[tuple[Slot, Contestant]]:
    """ABC, then CBA: who came first at a rate comes last at it in the next repeat."""
    slots: list[float | None] = [*workload.load.rates, *([None] if workload.tasks else [])]
    for repeat in range(workload.repeats):
        for place, rate in enumerate(slots):
            back = (repeat + place) % 2
            for each in reversed(workload.contestants) if back else workload.contestants:
                yield (repeat, rate), each


async def _found(each: Contestant, workload: Workload, source: str) -> Found:
    """Open it once and ask the least: what it is, or why it cannot take part."""
    run = _Run(each, workload, (-1, None), source)
    threads = each.member.get("threads")
    known = Found(
        name=each.name,
        settings=each.settings,
        engine=str(each.member.get("engine", "")),
        chip=each.chip,
        threads=threads if isinstance(threads, int) else None,
    )
    try:
        async with run.opened() as model:
            await run.warmed(model, 1)
            card = model.card
    except BicameralError as error:
        return replace(known, left_out=f"it cannot be asked: {error}")
    known = replace(known, chip=each.chip or card.chip or "not said", serves=card.serves)
    return _seen(known, each, run.calls)


def _seen(known: Found, each: Contestant, calls: Sequence[Call]) -> Found:
    """With what it says it served; left out if that is another model."""
    for call in calls:
        if call.served and not known.served:
            known = replace(known, served=call.served)
        if call.mismatch and not each.any_model:
            why = (
                f"it was asked for {known.serves} and served {call.served} "
                "(any_model = true lets it take part)"
            )
            return replace(known, served=call.served or "", left_out=why)
    return known


class _Run:
    """One contestant in one slot."""

    def __init__(self, each: Contestant, workload: Workload, slot: Slot, source: str) -> None:
        self.each = each
        self.workload = workload
        self.repeat, self.rate = slot
        self.calls: list[Call] = []
        self._source = source
        self._began = 0.0

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Model]:
        """The member, metered, while the block lasts."""
        async with build.member(self.each.name, self.each.member, self._source) as model:
            yield Meter(model, lambda call, booking: self.calls.append(call))

    async def block(self, asked: Sequence[Task]) -> tuple[Block, list[Row]]:
        """Warm up, then the requests of the slot; one that cannot be opened failed all of them."""
        busy = load()[:1]
        began = time.monotonic()
        block = Block(
            contestant=self.each.name,
            repeat=self.repeat,
            rate=self.rate,
            busy=busy[0] if busy else None,
        )
        try:
            async with self.opened() as model:
                await self.warmed(model, self.workload.load.warmup)
                self.calls.clear()
                energy, began = Energy(), time.monotonic()
                rows = await (self._tasks(model, asked) if self.rate is None else self._load(model))
                joules = energy.joules()
        except BicameralError as error:
            kind = type(error).__name__
            return replace(block, aborted=f"{kind}: {error}"), self._failed(asked, kind)
        seconds = round(time.monotonic() - began, 6)
        joules, meter = self._energy(joules, energy.meter, model, seconds)
        return replace(block, seconds=seconds, joules=joules, meter=meter), rows

    def _energy(
        self, joules: float | None, meter: str, model: Model, seconds: float
    ) -> tuple[float | None, str]:
        """Read if it runs here and can be; else what its config declares; else unknown."""
        if joules is not None and model.card.chip:
            return round(joules, 3), meter
        if model.card.watts is None:
            return None, ""
        busy = sum(call.chip_seconds or 0.0 for call in self.calls)
        return round(min(busy, seconds) * model.card.watts, 3), "declared watts, not read"

    async def warmed(self, model: Model, count: int) -> None:
        """Ask `count` questions that do not count."""
        shortest = min(self.workload.load.prompts, key=lambda prompt: prompt.tokens)
        for number in range(count):
            request = self._request(replace(shortest, images=(), audio=()), f"warm {number}")
            await self._folded(model, request)

    def _seed(self, number: int | str, *, own: bool = True) -> str:
        """Of a prompt: another for each contestant, as two of them may share a server's cache."""
        parts = (self.workload.seed, self.repeat, self.rate, number)
        return " ".join(map(str, (*parts, self.each.name) if own else parts))

    def _request(self, prompt: Prompt, number: int | str) -> Request:
        load = self.workload.load
        sampling = Sampling(max_tokens=load.max_tokens, temperature=0.0)
        asked = text(prompt, self._seed(number))
        return asking(asked, prompt.images, prompt.audio, sampling=sampling)

    def _kinds(self) -> tuple[Prompt, ...]:
        load = self.workload.load
        return prompts(load.prompts, load.count, self._seed("kinds", own=False))

    def _moments(self) -> tuple[float, ...]:
        assert self.rate is not None
        return poisson(self.rate, self.workload.load.count, self._seed("due", own=False))

    async def _load(self, model: Model) -> list[Row]:
        kinds = self._kinds()
        requests = [self._request(kind, number) for number, kind in enumerate(kinds)]
        self._began = asyncio.get_running_loop().time()

        async def send(number: int, due: float) -> Row:
            row = self._row(number, kinds[number].name, due - self._began)
            return (await self._asked(model, requests[number], row))[0]

        return await open_loop(self._moments(), send)

    async def _tasks(self, model: Model, asked: Sequence[Task]) -> list[Row]:
        """One after the other: this is about being right."""
        options = self.workload.tasks
        assert options is not None
        self._began = asyncio.get_running_loop().time()
        rows = []
        for number, task in enumerate(asked):
            sampling = Sampling(max_tokens=options.max_tokens, temperature=0.0)
            request = asking(task.question, sampling=sampling)
            row = self._row(number, task.kind, asyncio.get_running_loop().time() - self._began)
            row, said = await self._asked(model, request, replace(row, task=task.id))
            rows.append(replace(row, passed=not row.error and task.right(said)))
        return rows

    def _row(self, number: int, kind: str, planned: float) -> Row:
        return Row(
            contestant=self.each.name,
            repeat=self.repeat,
            rate=self.rate,
            number=number,
            kind=kind,
            planned=round(planned, 6),
        )

    async def _asked(self, model: Model, request: Request, row: Row) -> tuple[Row, str]:
        """Ask, and note when; what fails is a row too."""
        clock = asyncio.get_running_loop().time
        row = replace(row, sent=self._since(clock()))
        late = (row.sent or 0.0) - row.planned
        left = max(0.001, self.workload.load.give_up - late)
        request = request.but(deadline=time.monotonic() + left)
        fold, first = Fold(self.each.name), None
        try:
            async with asyncio.timeout(left), aclosing(model.run(request)) as events:
                async for event in events:
                    first = first or (clock() if isinstance(event, Delta) else None)
                    fold.add(event)
        except TimeoutError:
            return replace(row, ended=self._since(clock()), error="Timeout"), ""
        except BicameralError as error:
            return replace(row, ended=self._since(clock()), error=type(error).__name__), ""
        ended, answer = clock(), fold.answer()
        return (
            replace(
                row,
                first=self._since(first or ended),
                ended=self._since(ended),
                tokens_in=answer.usage.prompt_tokens,
                tokens_out=answer.usage.completion_tokens,
            ),
            answer.text,
        )

    def _since(self, moment: float) -> float:
        return round(moment - self._began, 6)

    async def _folded(self, model: Model, request: Request) -> None:
        left = self.workload.load.give_up
        request = request.but(deadline=time.monotonic() + left)
        try:
            async with asyncio.timeout(left), aclosing(model.run(request)) as events:
                async for _ in events:
                    pass
        except TimeoutError as error:
            raise ChipError(f"{self.each.name} did not answer in {left:g} s") from error

    def _failed(self, asked: Sequence[Task], kind: str) -> list[Row]:
        """Every request of a block that was broken off: none of it was answered."""
        if self.rate is None:
            rows = [(n, task.kind, 0.0, task.id) for n, task in enumerate(asked)]
        else:
            both = zip(self._kinds(), self._moments(), strict=True)
            rows = [(n, prompt.name, due, "") for n, (prompt, due) in enumerate(both)]
        return [
            replace(
                self._row(number, name, due),
                error=kind,
                task=task,
                passed=None if self.rate is not None else False,
            )
            for number, name, due, task in rows
        ]
