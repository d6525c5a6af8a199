"""The till: opens a tab for each request, takes down every call made for it, and books it.

Who has a key with budgets gets money set aside first, and its request that much and no more.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count

from msgspec.structs import replace

from bicameral.config import Config
from bicameral.errors import BudgetError, LimitError, NotFound
from bicameral.ledger.book import Book, Wanted, ending
from bicameral.ledger.bounds import Bounds, bounds
from bicameral.ledger.engine import where
from bicameral.ledger.entry import (
    CALLER,
    LOCAL,
    MARGIN,
    OVERRUN,
    OWNER,
    Booking,
    Held,
    Posting,
    charged,
    today,
)
from bicameral.ledger.keys import Key
from bicameral.ledger.pace import Pace, Ticket
from bicameral.ledger.tariff import Tariff, tariff
from bicameral.model import Model
from bicameral.types import Done, Request
from bicameral.usage import Call, Ended, Usage

log = logging.getLogger("bicameral.ledger")


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[Till | None]:
    """The till of a config's ledger; None if it has none. LedgerError if it cannot be opened."""
    options = config.ledger
    if options is None or not options.enabled:
        yield None
        return
    book = await asyncio.to_thread(Book, where(options), hold_seconds=options.hold_seconds)
    try:
        yield Till(book)
    finally:
        await asyncio.to_thread(book.close)


class Till:
    """Books what a brain does."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.pace = Pace()
        self._tabs: dict[str, Tab] = {}
        self._prefix = os.urandom(12).hex()  # no two tills share it
        self._numbers = count(1)
        self._config: Config | None = None
        self._tariffs: dict[str, Tariff] = {}

    async def open(
        self,
        request: Request,
        model: Model,
        models: Mapping[str, Model],
        config: Config,
        caller: str,
    ) -> Tab:
        """A tab for `request` to `model`; its `request` is the one to run, within what was held.

        Its budget is the request's own or what was held for it, whichever is less. Raises NotFound
        if the key may not ask that model, LimitError, BudgetError if nothing bounds what it may
        cost, or LedgerError.
        """
        self.book.check()
        name, caller = model.card.name, caller or LOCAL
        rates = self._tariff(config, name)
        id = request.booking or f"{self._prefix}{next(self._numbers):x}"
        key = self.key(caller)
        held, ticket = None, None
        if key is not None:
            self._admitted(key, name)
            limit = _bounds(key, request, model, models, config, rates)
            ticket = self.pace.admit(key, limit.tokens if limit else None)
            held = await self._hold(key, _wanted(id, key, name, limit), ticket)
            if held is not None and held.money is not None:
                request = _within(request, rates.budget(held.money))
        request = replace(request, booking=id)
        tab = Tab(self, request, name, caller, rates, held, ticket)
        self._tabs[id] = tab
        return tab

    def _tariff(self, config: Config, name: str) -> Tariff:
        """Made once for each name of the config that is in force."""
        if config is not self._config:
            self._config, self._tariffs = config, {}
        found = self._tariffs.get(name)
        if found is None:
            found = self._tariffs[name] = tariff(config.minds.get(name))
        return found

    def key(self, caller: str) -> Key | None:
        """The key of that id, as it stood a moment ago."""
        return self.book.keyring.by_id.get(caller)

    def permit(self, caller: str, name: str) -> None:
        """Raise NotFound if `caller` has a key that may not ask `name`, whether it is there or not.

        So a key learns nothing of the minds of others.
        """
        key = self.key(caller)
        if key is not None and not key.may_ask(name):
            raise NotFound(
                f"there is no model '{name}' for this key", param="model", code="model_not_found"
            )

    def _admitted(self, key: Key, name: str) -> None:
        self.permit(key.id, name)
        standing = key.standing(self.book.now() / 1000)
        if standing != "good":
            raise LimitError(f"the key {key.name} is {standing}: ask for a new one", limit="key")

    async def _hold(self, key: Key, wanted: Wanted | None, ticket: Ticket | None) -> Held | None:
        """What was set aside; a request that gets nothing takes no tokens of the minute either."""
        if wanted is None:
            return None
        held = None
        try:
            held = await self.book.authorise(wanted, key)
            return held
        finally:
            if held is None and ticket is not None:
                self.pace.settle(ticket, 0)

    def note(self, call: Call, booking: str) -> None:
        """Take down a call that has ended; one whose request is booked, or that has none, apart."""
        tab = self._tabs.get(booking)
        if tab is not None:
            tab.calls.append(call)
            return
        # It may be too late for the caller's budget, or a probe: the operator pays, and sees it.
        if booking:
            log.warning("%s ended after its request: it is booked apart", call.model)
        owed = () if not call.cost else ((OVERRUN, -call.cost), (_owner(call), call.cost))
        body = Booking(
            id=f"{booking or 'none'}/late/{self._prefix}{next(self._numbers):x}",
            postings=owed,
            caller=LOCAL,
            mind=call.model,
            day=today(self.book.now()),
            ended=call.ended,
            late=True,
            calls=_kept([call]),
            unpriced=_unpriced([call]),
        )
        self.book.settle_soon(body)

    def close(self, tab: Tab) -> None:
        """Forget `tab`."""
        self._tabs.pop(tab.request.booking, None)


class Tab:
    """What one request has come to so far."""

    def __init__(
        self,
        till: Till,
        request: Request,
        mind: str,
        caller: str,
        rates: Tariff,
        held: Held | None,
        ticket: Ticket | None,
    ) -> None:
        self._till = till
        self.request = request
        self.calls: list[Call] = []
        self.open = True
        self._mind = mind
        self._caller = caller
        self._tariff = rates
        self._held = held
        self._ticket = ticket

    async def close(self, ended: Ended, done: Done | None = None) -> None:
        """Book it; returns when that is on disk. LedgerError if it cannot be written now."""
        body = self._close(ended, done)
        if body is not None:
            await self._till.book.settle(body)

    def abandon(self) -> None:
        """Book it without waiting: the caller has gone."""
        body = self._close("abandoned", None) if self.open else None
        if body is not None:
            self._till.book.settle_soon(body)

    def _close(self, ended: Ended, done: Done | None) -> Booking | None:
        """Its entry; None if nobody was asked and nothing was held: there is nothing to book."""
        self.open = False
        self._till.close(self)
        if self._ticket is not None:
            self._till.pace.settle(self._ticket, _tokens(self.calls))
        if not self.calls and self._held is None:
            return None
        by = done.by if done else ""
        decision = done.decisions[0] if done and done.decisions else None
        cost = sum(call.cost or 0 for call in self.calls)
        said = _said(self.calls, by) if self._tariff.price else None
        paid = self._tariff.charge(cost, said, ended)
        return Booking(
            id=ending(self.request.booking),
            postings=_postings(self._caller, self._mind, self.calls, paid, self._held),
            caller=self._caller,
            mind=self._mind,
            request=self.request.id,
            day=today(self._till.book.now()),
            held=self._held,
            ended=ended,
            calls=_kept(self.calls),
            paid=paid,
            unpriced=_unpriced(self.calls),
            by=by,
            shares=tuple((a.model, a.share) for a in decision.asked if a.share) if decision else (),
        )


def _bounds(
    key: Key,
    request: Request,
    model: Model,
    models: Mapping[str, Model],
    config: Config,
    rates: Tariff,
) -> Bounds | None:
    """What the request may take; None if no limit of the key asks for that."""
    limits = key.limits
    money, tokens = limits.bounds("money"), limits.bounds("tokens")
    if not money and not tokens and limits.tokens_per_minute is None:
        return None
    limit = bounds(request, model, models, config, rates, priced=money)
    if money and limit is None:
        raise BudgetError(
            f"the key {key.name} has a budget, and nothing bounds what {model.card.name} may cost "
            "for this request: set max_tokens; it is for the operator to set prices and the "
            "context of its members"
        )
    if tokens and (limit is None or limit.tokens is None):
        raise BudgetError(
            f"the key {key.name} has a limit of tokens, and nothing bounds how many "
            f"{model.card.name} may take for this request: set max_tokens, and send text alone"
        )
    return limit


def _wanted(id: str, key: Key, mind: str, limit: Bounds | None) -> Wanted | None:
    """What has to be held; None if the key has no budget."""
    money, tokens = key.limits.bounds("money"), key.limits.bounds("tokens")
    if limit is None or not (money or tokens):
        return None
    return Wanted(
        id=id,
        caller=key.id,
        mind=mind,
        least=limit.least if money else 0,
        most=limit.most if money else None,
        tokens=(limit.tokens or 0) if tokens else 0,
    )


def _within(request: Request, budget: int) -> Request:
    own = request.budget
    return request.within(budget=budget if own is None else min(budget, own))


def _tokens(calls: Iterable[Call]) -> int | None:
    """What the calls took in all; None if that is not known of one."""
    total = 0
    for call in calls:
        known = (call.estimate or call.usage).total_tokens
        if known is None:
            return None
        total += known
    return total


def _kept(calls: Iterable[Call]) -> tuple[Call, ...]:
    """As they are booked: a server's own words on a failure may quote the prompt, so not those."""
    return tuple([call if call.error is None else replace(call, error=None) for call in calls])


def _unpriced(calls: Iterable[Call]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([call.model for call in calls if call.cost is None]))


def _owner(call: Call) -> str:
    """The account of who is paid for it; a member without an owner is its own."""
    return f"{OWNER}/{call.owner or call.model}"


def _said(calls: Sequence[Call], by: str) -> Usage | None:
    """What was asked, and what was said by the member that spoke, or last, if none is known to.

    What was asked is the shortest prompt: who reads the answers of others has them in its own.
    """
    spoke = next(
        (call for call in reversed(calls) if call.model == by), calls[-1] if calls else None
    )
    if spoke is None:
        return None
    usage = spoke.estimate or spoke.usage
    if len(calls) == 1:
        return usage
    asked = [u.prompt_tokens for call in calls if (u := call.estimate or call.usage).prompt_tokens]
    return Usage(
        prompt_tokens=min(asked, default=usage.prompt_tokens),
        completion_tokens=usage.completion_tokens,
    )


def _postings(
    caller: str, mind: str, calls: Sequence[Call], paid: int, held: Held | None
) -> tuple[Posting, ...]:
    """The caller pays, each owner gets what its members cost, the rest is the mind's margin.

    A caller never pays more than was held for it; what is missing is the operator's loss.
    """
    due = charged(paid, held)
    postings = {f"{CALLER}/{caller}": -due, OVERRUN: due - paid}
    cost = 0
    for call in calls:
        if call.cost:
            postings[_owner(call)] = postings.get(_owner(call), 0) + call.cost
            cost += call.cost
    postings[f"{MARGIN}/{mind}"] = paid - cost
    return tuple((account, amount) for account, amount in postings.items() if amount)
