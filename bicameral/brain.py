"""Brain: the one obvious object. The library, the CLI and the HTTP server all ask through it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from bicameral import build
from bicameral.asking import asking
from bicameral.config import Config, load, nearest
from bicameral.errors import BicameralError, ConfigError, JournalError, NotFound, RequestError
from bicameral.journal.watch import Tell, Watch
from bicameral.journal.watch import tell as tell_log
from bicameral.journal.writer import Journal
from bicameral.ledger.meter import Meter, Note
from bicameral.ledger.spans import Traces
from bicameral.ledger.till import Tab, Till, opened
from bicameral.model import Fold, Model
from bicameral.right.senses import Fetcher
from bicameral.right.stream.settings import options as watch_options
from bicameral.types import (
    Answer,
    Call,
    Done,
    Event,
    Request,
)

log = logging.getLogger("bicameral.brain")


class _Member:
    """An opened leaf model; it is closed when the last tree that uses it has gone."""

    def __init__(self, table: Mapping[str, Any], model: Model, stack: AsyncExitStack) -> None:
        self.table = table
        self.model = model
        self.stack = stack
        self.trees = 0


class _Tree:
    """All models of one config; `streams` counts those still running on it.

    `stack` holds what is its own: not the members, which it may share with the next tree.
    """

    def __init__(
        self,
        config: Config,
        members: Mapping[str, _Member],
        fetcher: Fetcher | None,
        stack: AsyncExitStack,
    ) -> None:
        self.config = config
        self.members = members
        self.stack = stack
        opened = {name: member.model for name, member in members.items()}
        leaves = build.perceiving(config, opened, fetcher)
        self.models: Mapping[str, Model] = {**build.minds(config, leaves), **leaves}
        self.streams = 0
        self.retired = False
        for member in members.values():
            member.trees += 1


class Brain:
    """Minds and members of a config, open and ready to answer."""

    def __init__(
        self, tree: _Tree, note: Note, till: Till | None, tell: Tell, traces: Traces | None
    ) -> None:
        self.traces = traces
        self._tree = tree
        self._note = note
        self._till = till
        self._tell = tell
        self._journal = _journal(tree.config)
        self._reloading = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        config: str | Path | Config | None = None,
        *,
        note: Note | None = None,
        tell: Tell = tell_log,
        traces: Traces | None = None,
    ) -> AsyncIterator[Brain]:
        """Open every member of `config`, by default what `load_config` finds.

        `note` gets each leaf call when it ends, booked or not; `tell` each decision of a mind, by
        default for the log; `traces` makes spans of requests and calls. Raises ConfigError,
        WeightsError or LedgerError.
        """
        if not isinstance(config, Config):
            config = load_config(config)
        async with opened(config) as till:
            notes = till.note if till else None, traces.note if traces else None, note
            noting = _all(*notes)
            brain = cls(await _grow(config, {}, noting), noting, till, tell, traces)
            try:
                yield brain
            finally:
                await brain._retire(brain._tree, now=True)
                await _closed(brain._journal)

    @property
    def config(self) -> Config:
        """The config in force."""
        return self._tree.config

    @property
    def models(self) -> Mapping[str, Model]:
        """By name, minds first, then members."""
        return self._tree.models

    @property
    def default(self) -> str:
        """Asked when nobody is named: `default`, else the first mind, else the first model."""
        return build.DEFAULT if build.DEFAULT in self.models else next(iter(self.models))

    @property
    def journal(self) -> Journal | None:
        """Where decisions of minds are kept; None if the config switches it off."""
        return self._journal

    @property
    def till(self) -> Till | None:
        """Where requests are booked; None if the config has no ledger."""
        return self._till

    def model(self, name: str | None = None) -> Model:
        """The mind or member called `name`; NotFound with the nearest name."""
        return _find(self._tree, self.default if name is None else name)

    def run(
        self, request: Request, name: str | None = None, *, caller: str = ""
    ) -> AsyncGenerator[Event]:
        """The events of one answer; a reload lets it finish on the models it began with.

        A request without an id gets one. What a mind decided is kept in the journal as
        `caller`'s: only who gives the same may rate the answer. With a ledger its calls are booked
        for `caller`, before the Done comes, and within that key's limits: else LimitError.
        """
        name = self.default if name is None else name
        if self.traces is None:
            return self._run(request, name, caller)
        run = partial(self._run, name=name, caller=caller)
        return self.traces.follow(run, request, name, self.models)

    async def _run(self, request: Request, name: str, caller: str) -> AsyncGenerator[Event]:
        tree = self._tree
        model = _find(tree, name)
        if not request.id:
            request = replace(request, id=f"req_{os.urandom(12).hex()}")
        watch = Watch(self._journal, request, caller, self._tell) if model.card.members else None
        tree.streams += 1
        try:
            async with (
                self._booked(request, model, tree, caller) as tab,
                aclosing(model.run(tab.request if tab else request)) as events,
            ):
                async for event in events:
                    if tab is not None and isinstance(event, Done):
                        await tab.close("finished", event)
                    if watch is not None:
                        watch(event)
                    yield event
        finally:
            tree.streams -= 1
            await self._retire(tree)

    @asynccontextmanager
    async def _booked(
        self, request: Request, model: Model, tree: _Tree, caller: str
    ) -> AsyncIterator[Tab | None]:
        """The request's tab, if there is a ledger: however the block ends, it is booked."""
        if self._till is None:
            yield None
            return
        tab = await self._till.open(request, model, tree.models, tree.config, caller)
        try:
            yield tab
        except BicameralError:
            if tab.open:
                await tab.close("failed")
            raise
        finally:
            tab.abandon()

    def stream(
        self,
        question: str,
        *,
        mind: str | None = None,
        images: Iterable[str | Path] = (),
        audio: Iterable[str | Path] = (),
        video: Iterable[str | Path] = (),
        **fields: Any,
    ) -> AsyncGenerator[Event]:
        """The events of an answer to one question; `fields` are Request's and Sampling's own."""
        return self.run(asking(question, images, audio, video, **fields), mind)

    async def ask(self, question: str, *, mind: str | None = None, **fields: Any) -> Answer:
        """The whole answer to one question; `fields` are those of `stream`. Raises what it does."""
        fold = Fold(mind or self.default)
        async with aclosing(self.stream(question, mind=mind, **fields)) as events:
            async for event in events:
                fold.add(event)
        return fold.answer()

    async def rate(self, answer_id: str, score: float, *, caller: str = "") -> bool:
        """Score an answer of a mind, 0 to 1, by the `id` of its decision; the last score counts.

        False if `caller` was given no such answer. JournalError if there is no journal to write.
        """
        if not 0 <= score <= 1:
            raise RequestError("score: must lie between 0 and 1", param="score")
        if self._journal is None:
            raise JournalError("no answer can be rated: [journal] enabled is false")
        return await asyncio.wrap_future(self._journal.rate(answer_id, score, caller))

    async def reload(self, config: Config) -> None:
        """Take `config` from now on; members whose table is the same stay open.

        If it cannot be opened the old one stays and the error is raised.
        """
        async with self._reloading:
            old = self._tree
            self._tree = await _grow(config, old.members, self._note)
            old.retired = True
            await self._retire(old)
            if config.journal != old.config.journal:
                before, self._journal = self._journal, _journal(config)
                await _closed(before)

    async def _retire(self, tree: _Tree, *, now: bool = False) -> None:
        """Close what only this tree used, once nothing runs on it any more."""
        if not now and (not tree.retired or tree.streams):
            return
        for name, member in tree.members.items():
            member.trees -= 1
            if member.trees == 0:
                log.info("closing %s", name)
                await member.stack.aclose()
        await tree.stack.aclose()


def _journal(config: Config) -> Journal | None:
    return Journal(config.journal) if config.journal.enabled else None


async def _closed(journal: Journal | None) -> None:
    """Written to the end; in a thread, as a disk may keep us waiting."""
    if journal is not None and journal.started:
        await asyncio.to_thread(journal.close)


def ask(question: str, *, config: str | Path | Config | None = None, **fields: Any) -> Answer:
    """The one synchronous door: open a Brain, ask once, close it."""

    async def once() -> Answer:
        async with Brain.open(config) as brain:
            return await brain.ask(question, **fields)

    return asyncio.run(once())


def load_config(path: str | Path | None = None) -> Config:
    """The file's, else $BICAMERAL_CONFIG's, else ./bicameral.toml's, else the embedded config."""
    found = found_config(path)
    return build.embedded() if found is None else load(found)


def found_config(path: str | Path | None = None) -> Path | None:
    """The config file that `load_config` would read; None if there is none."""
    found = path or os.environ.get("BICAMERAL_CONFIG") or _here()
    return Path(found) if found else None


async def _grow(config: Config, kept: Mapping[str, _Member], note: Note) -> _Tree:
    """Open the members of `config`, taking over those of `kept` whose table is unchanged."""
    watch_options(config)
    members: dict[str, _Member] = {}
    async with AsyncExitStack() as undo:
        for name, table in config.models.items():
            old = kept.get(name)
            if old is not None and old.table == table:
                members[name] = old
                continue
            members[name] = await _open(name, table, config, note)
            undo.push_async_callback(members[name].stack.aclose)
        own = await undo.enter_async_context(AsyncExitStack())
        tree = _Tree(config, members, await _fetcher(config, own), own)
        if not tree.models:
            raise ConfigError(f"{config.source}: there is no model; add a [models.NAME] table")
        undo.pop_all()
    return tree


async def _fetcher(config: Config, stack: AsyncExitStack) -> Fetcher | None:
    if not config.right.fetch:
        return None
    from bicameral.right import fetch

    return await stack.enter_async_context(fetch.open(config.right))


async def _open(name: str, table: Mapping[str, Any], config: Config, note: Note) -> _Member:
    stack = AsyncExitStack()
    opening = build.member(name, table, config.source, config.cluster)
    model = await stack.enter_async_context(opening)
    return _Member(table, Meter(model, note), stack)


def _find(tree: _Tree, name: str) -> Model:
    if name not in tree.models:
        near = nearest(name, tuple(tree.models))
        raise NotFound(f"there is no model '{name}'; {near}", param="model", code="model_not_found")
    return tree.models[name]


def _here() -> str | None:
    return "bicameral.toml" if Path("bicameral.toml").exists() else None


def _all(*notes: Note | None) -> Note:
    """Tells each of them, in that order."""
    those = [note for note in notes if note is not None]

    def told(call: Call, booking: str) -> None:
        for note in those:
            note(call, booking)

    return told
