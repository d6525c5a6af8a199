"""Any order of requests, crashes, restarts and clocks that jump, beside a model of what is due."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bicameral.errors import LedgerError, LimitError
from bicameral.ledger.audit import audit
from bicameral.ledger.book import Book, Wanted, void
from bicameral.ledger.entry import Body, Held, today
from bicameral.ledger.store import Store
from tests.ledger.entries import NOON, booking, deposit, key, moved, put

HOUR = 3_600_000
HOLD_SECONDS = 600
EVER, DAY, TOKENS = 1000, 400, 200
KEYS = {
    "key_ann": key("ann", ever_money=EVER, day_money=DAY, ever_tokens=TOKENS),
    "key_bob": key("bob", prepaid=True),
}
AMOUNT = st.integers(0, 300)
CALLER = st.sampled_from(sorted(KEYS))
COST = st.none() | st.sampled_from([0, 1, 30, 90, 250])
ENDED = st.sampled_from(["finished", "failed", "abandoned"])


class Model:
    """What the book should say, in the fewest words: sums by name, and who holds what."""

    def __init__(self) -> None:
        self.sums: dict[str, int] = defaultdict(int)
        self.holds: dict[str, tuple[Held, int]] = {}

    def room(self, caller: str, day: str) -> tuple[int, int]:
        """Nano-dollars and tokens that `caller` may still have held."""
        held = self.sums[f"held/{caller}/money"]
        if caller == "key_bob":
            return self.sums["account/caller/key_bob"] - held, 10**9
        ever = EVER - self.sums[f"spent/{caller}/money/ever"]
        days = DAY - self.sums[f"spent/{caller}/money/{day}"]
        tokens = TOKENS - self.sums[f"spent/{caller}/tokens/ever"]
        return min(ever, days) - held, tokens - self.sums[f"held/{caller}/tokens"]

    def hold(self, held: Held, until: int) -> None:
        self.holds[held.id] = held, until
        self.sums[f"held/{held.caller}/money"] += held.money or 0
        self.sums[f"held/{held.caller}/tokens"] += held.tokens

    def release(self, id: str) -> Held:
        held, _ = self.holds.pop(id)
        self.sums[f"held/{held.caller}/money"] -= held.money or 0
        self.sums[f"held/{held.caller}/tokens"] -= held.tokens
        return held

    def spend(self, caller: str, day: str, money: int, tokens: int) -> None:
        for unit, amount in (("money", money), ("tokens", tokens)):
            for window in (day, day[:7], "ever"):
                self.sums[f"spent/{caller}/{unit}/{window}"] += amount

    def settle(self, id: str, cost: int | None, paid: int) -> None:
        held = self.release(id)
        charged = min(paid, held.money or 0)
        self.sums[f"account/caller/{held.caller}"] -= charged
        self.sums["account/overrun/operator"] += charged - paid
        self.sums["account/owner/smalls"] += cost or 0
        self.sums["account/margin/mind"] += paid - (cost or 0)
        self.spend(held.caller, held.day, charged, 10)

    def expire(self, now: int) -> None:
        for id in [id for id, (_, until) in self.holds.items() if until < now // 1000]:
            held = self.release(id)
            self.spend(held.caller, held.day, held.money or 0, held.tokens)

    def move(self, *postings: tuple[str, int]) -> None:
        for account, amount in postings:
            self.sums[f"account/{account}"] += amount


class Machine(RuleBasedStateMachine):
    def __init__(self, new: Callable[[], str]) -> None:
        super().__init__()
        self.url = new()
        self.now = NOON
        self.model = Model()
        self.numbers = count()
        self.done: list[Body] = []
        self.loop = asyncio.new_event_loop()
        self.open()
        self.other = Store(self.url)

    def open(self) -> None:
        self.book = Book(self.url, hold_seconds=HOLD_SECONDS, clock=lambda: self.now)
        self.model.expire(self.now)

    def teardown(self) -> None:
        self.book.close()
        self.other.close()
        self.loop.close()

    def settle(self, body: Body) -> bool:
        return self.loop.run_until_complete(self.book.settle(body))

    def one(self, pick: int) -> Held:
        return self.model.holds[sorted(self.model.holds)[pick % len(self.model.holds)]][0]

    # --- what requests do ---------------------------------------------------------------------

    @rule(caller=CALLER, least=AMOUNT, more=AMOUNT, tokens=st.integers(0, 60))
    def authorise(self, caller: str, least: int, more: int, tokens: int) -> None:
        id, most, day = f"r{next(self.numbers)}", least + more, today(self.now)
        room, left = self.model.room(caller, day)
        wanted = Wanted(id=id, caller=caller, mind="mind", least=least, most=most, tokens=tokens)
        try:
            held = self.loop.run_until_complete(self.book.authorise(wanted, KEYS[caller]))
        except LimitError:
            assert room < least or left < tokens
            return
        assert held.money == min(room, most) >= least
        assert tokens <= left
        self.model.hold(held, (self.now + HOLD_SECONDS * 1000) // 1000)

    @precondition(lambda self: self.model.holds)
    @rule(pick=st.integers(0, 9), cost=COST, more=st.sampled_from([0, 0, 7, 300]), ended=ENDED)
    def finish(self, pick: int, cost: int | None, more: int, ended: str) -> None:
        held, paid = self.one(pick), (cost or 0) + more
        body = booking(held.id, held=held, cost=cost, paid=paid, caller=held.caller, ended=ended)
        assert self.settle(body) is True
        self.model.settle(held.id, cost, paid)
        self.done.append(body)

    @precondition(lambda self: self.model.holds)
    @rule(pick=st.integers(0, 9))
    def give_back(self, pick: int) -> None:
        held = self.one(pick)
        assert self.settle(void(held)) is True
        self.model.release(held.id)
        self.done.append(void(held))

    @precondition(lambda self: self.done)
    @rule(pick=st.integers(0, 9), other=st.booleans())
    def finish_again(self, pick: int, other: bool) -> None:
        body = self.done[pick % len(self.done)]
        if other:
            body = booking(body.id.removesuffix("/end"), cost=5, paid=5)
        assert self.settle(body) is False

    # --- what people do, in another process ---------------------------------------------------

    @rule(amount=st.integers(1, 300), caller=CALLER)
    def pay_in(self, amount: int, caller: str) -> None:
        put(self.other, deposit(f"in{next(self.numbers)}", amount, caller), at=self.now)
        self.model.move((f"caller/{caller}", amount), ("cash/operator", -amount))

    @rule(amount=st.integers(1, 20), caller=CALLER)
    def refund(self, amount: int, caller: str) -> None:
        postings = (f"caller/{caller}", amount), ("overrun/operator", -amount)
        put(self.other, moved(f"back{next(self.numbers)}", "refund", *postings), at=self.now)
        self.model.move(*postings)

    @precondition(lambda self: self.model.sums["account/owner/smalls"] > 0)
    @rule()
    def pay_out(self) -> None:
        earned = self.model.sums["account/owner/smalls"]
        postings = ("owner/smalls", -earned), ("cash/operator", earned)
        put(self.other, moved(f"out{next(self.numbers)}", "payout", *postings), at=self.now)
        self.model.move(*postings)

    # --- what goes wrong ----------------------------------------------------------------------

    @rule(hours=st.sampled_from([-1, 1, 11]))
    def jump(self, hours: int) -> None:
        self.now += hours * HOUR

    @rule()
    def restart(self) -> None:
        self.book.close()
        self.open()

    @precondition(lambda self: self.model.holds)
    @rule(pick=st.integers(0, 9), committed=st.booleans())
    def crash(self, pick: int, committed: bool) -> None:
        """The process ends in a transaction, or after it and before anybody hears of it."""
        held, store = self.one(pick), self.book._writer._store
        body = booking(held.id, held=held, cost=20, paid=30, caller=held.caller)
        write = store.write

        def breaks(work: Callable[..., object]) -> None:
            if committed:
                write(work)
            raise SystemExit

        store.write = breaks
        with pytest.raises(LedgerError):
            self.settle(body)
        self.book.close()
        if committed:
            self.model.settle(held.id, 20, 30)
            self.done.append(body)
        self.open()

    # --- what always holds --------------------------------------------------------------------

    @invariant()
    def the_book_says_what_the_model_does(self) -> None:
        told = {name: amount for name, amount in self.other.tallies().items() if amount}
        assert told == {name: amount for name, amount in self.model.sums.items() if amount}
        assert sorted(hold.id for hold in self.other.open_holds()) == sorted(self.model.holds)

    @invariant()
    def nobody_has_more_than_is_due(self) -> None:
        sums = self.model.sums
        assert sum(amount for name, amount in sums.items() if name.startswith("account/")) == 0
        assert all(amount >= 0 for name, amount in sums.items() if name.startswith("held/"))
        ann = sums["held/key_ann/money"], sums["spent/key_ann/money/ever"]
        assert sum(ann) <= EVER
        days = [n for name, n in sums.items() if name.startswith("spent/key_ann/money/2026-09-")]
        assert max(days, default=0) <= DAY
        assert sums["account/caller/key_bob"] - sums["held/key_bob/money"] >= 0

    @invariant()
    def the_auditor_finds_nothing(self) -> None:
        assert audit(self.url).faults == ()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_whatever_happens_the_book_is_right(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    numbers = count()
    new = lambda: f"sqlite:///{tmp_path / str(next(numbers))}"  # noqa: E731
    if database == "postgresql":
        new = request.getfixturevalue("server").database
    run_state_machine_as_test(
        lambda: Machine(new),
        settings=settings(
            max_examples=120 if database == "sqlite" else 15,
            stateful_step_count=30,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
