"""Money moved by hand: once, within what there is, and always balanced."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest
import typer
from typer.testing import CliRunner

from bicameral.errors import RequestError
from bicameral.ledger import transfer
from bicameral.ledger.entry import Booking, Held, Hold, KeySet, Transfer, effects, read
from bicameral.ledger.keys import make
from bicameral.ledger.store import Store
from bicameral.ledger_cli import transfer as commands
from bicameral.usage import Call

DAY = "2026-11-22"
DOLLAR = 10**9
CENT = DOLLAR // 100
_, KEY = make("team")


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'book.sqlite3'}"


@pytest.fixture
def store(url):
    with closing(Store(url)) as opened:
        put(opened, KeySet(id="key/1", key=KEY))
        yield opened


def put(store, *bodies):
    store.write(lambda draft: [draft.put(body, 1) for body in bodies])


def booked(store, *, paid=10 * CENT, cost=8 * CENT, held=None, mind="default", **fields):
    """A request that cost its members' owner `cost`; its id."""
    due = paid if held is None else min(paid, held)
    moved = {
        f"caller/{KEY.id}": -due,
        "overrun/operator": due - paid,
        "owner/ada": cost,
        f"margin/{mind}": paid - cost,
    }
    hold = held and Held(id="r1", caller=KEY.id, money=held, tokens=0, day=DAY)
    if hold:
        put(
            store, Hold(**{k: getattr(hold, k) for k in Held.__struct_fields__}, mind=mind, until=9)
        )
    body = Booking(
        id="r1/end",
        postings=tuple((account, n) for account, n in moved.items() if n),
        caller=KEY.id,
        mind=mind,
        day=DAY,
        held=hold,
        ended="finished",
        calls=(Call(model="m", owner="ada", cost=cost), Call(model="unpriced")),
        paid=paid,
        **fields,
    )
    put(store, body)
    return body.id


def balance(store, account):
    return store.tally(f"account/{account}")


def replayed(store):
    """What the entries add up to, which must be what is kept."""
    total = {}
    for entry in store.entries():
        body = read(entry.body)
        assert sum(amount for _, amount in body.postings) == 0
        for name, amount in effects(body):
            total[name] = total.get(name, 0) + amount
    assert {n: a for n, a in total.items() if a} == {n: a for n, a in store.tallies().items() if a}
    return total


def test_a_deposit_is_the_callers(store):
    moved = transfer.deposit(store, KEY.id, 5 * DOLLAR, id="a", at=1, note="cheque 7")
    assert moved.new
    assert store.find("transfer/a") == moved.entry
    assert balance(store, f"caller/{KEY.id}") == 5 * DOLLAR == -balance(store, "cash/operator")
    replayed(store)


def test_the_same_id_moves_money_once(store):
    first = transfer.deposit(store, KEY.id, DOLLAR, id="a", at=1)
    again = transfer.deposit(store, KEY.id, DOLLAR, id="a", at=2, note="worded anew")
    assert (first.new, again.new) == (True, False)
    assert again.entry == first.entry
    assert balance(store, f"caller/{KEY.id}") == DOLLAR


def test_the_same_id_for_something_else_is_refused(store):
    booking = booked(store)
    transfer.deposit(store, KEY.id, DOLLAR, id="a", at=1)
    seq = store.head()[0]
    for other in (
        lambda: transfer.deposit(store, KEY.id, 2 * DOLLAR, id="a", at=1),
        lambda: transfer.payout(store, "ada", CENT, id="a", at=1),
        lambda: transfer.refund(store, booking, None, id="a", at=1),
    ):
        with pytest.raises(RequestError, match="--id a: something else"):
            other()
    assert store.head()[0] == seq


def test_what_is_unknown_is_refused(store):
    with pytest.raises(RequestError, match=rf"no key with the id 'x'.*{KEY.id}"):
        transfer.deposit(store, "x", DOLLAR, id="a", at=1)
    with pytest.raises(RequestError, match="nobody has earned anything yet"):
        transfer.payout(store, "ada", DOLLAR, id="a", at=1)
    booked(store)
    with pytest.raises(RequestError, match="no owner 'adda'; did you mean 'ada'"):
        transfer.payout(store, "adda", CENT, id="a", at=1)
    with pytest.raises(RequestError, match="no entry 'r9/end'"):
        transfer.refund(store, "r9/end", CENT, id="a", at=1)
    with pytest.raises(RequestError, match="no request's booking"):
        transfer.refund(store, "key/1", CENT, id="a", at=1)
    with pytest.raises(RequestError, match="no entry 'r9/end'"):
        transfer.adjust(store, "ada", 1, of="r9/end", id="a", at=1, note="why")


@pytest.mark.parametrize("amount", [0, -1])
def test_an_amount_is_more_than_nothing(store, amount):
    booking = booked(store)
    for move in (
        lambda: transfer.deposit(store, KEY.id, amount, id="a", at=1),
        lambda: transfer.payout(store, "ada", amount, id="a", at=1),
        lambda: transfer.refund(store, booking, amount, id="a", at=1),
    ):
        with pytest.raises(RequestError, match="more than 0"):
            move()


@pytest.mark.parametrize("id", ["", "x" * 151, "a\nb"])
def test_an_id_is_short_and_printable(store, id):
    with pytest.raises(RequestError, match="--id"):
        transfer.deposit(store, KEY.id, 1, id=id, at=1)


def test_an_owner_is_paid_no_more_than_it_has_earned(store):
    booked(store)
    transfer.payout(store, "ada", 5 * CENT, id="a", at=1)
    with pytest.raises(RequestError, match=r"is owed \$0.03, which is less than \$0.030000001"):
        transfer.payout(store, "ada", 3 * CENT + 1, id="b", at=1)
    transfer.payout(store, "ada", 3 * CENT, id="b", at=1)
    assert (balance(store, "owner/ada"), balance(store, "cash/operator")) == (0, 8 * CENT)
    replayed(store)


def test_two_who_pay_out_at_once_pay_out_once(store, url):
    booked(store)
    refused = []

    def pay(id):
        with closing(Store(url)) as own:
            try:
                transfer.payout(own, "ada", 8 * CENT, id=id, at=1)
            except RequestError:
                refused.append(id)

    threads = [threading.Thread(target=pay, args=(id,)) for id in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 2
    assert balance(store, "owner/ada") == 0


def test_a_refund_comes_from_the_margin_first(store):
    booking = booked(store)  # of 10 cents, 2 are margin
    moved = transfer.refund(store, booking, 3 * CENT, id="a", at=1)
    assert moved.entry.of == booking
    assert balance(store, f"caller/{KEY.id}") == -7 * CENT
    assert (balance(store, "margin/default"), balance(store, "overrun/operator")) == (0, -CENT)
    assert balance(store, "owner/ada") == 8 * CENT
    rest = transfer.refund(store, booking, None, id="b", at=1)
    assert rest.amount(f"caller/{KEY.id}") == 7 * CENT
    assert balance(store, f"caller/{KEY.id}") == 0
    with pytest.raises(RequestError, match=r"\$0 of r1/end is left"):
        transfer.refund(store, booking, 1, id="c", at=1)
    assert not transfer.refund(store, booking, None, id="b", at=1).new
    replayed(store)


def test_no_more_is_given_back_than_was_paid(store):
    booking = booked(store, held=6 * CENT)  # of 10 cents, its caller paid the 6 that were held
    with pytest.raises(RequestError, match=r"\$0.06 of r1/end is left"):
        transfer.refund(store, booking, 6 * CENT + 1, id="a", at=1)
    assert (
        transfer.refund(store, booking, None, id="a", at=1).amount(f"caller/{KEY.id}") == 6 * CENT
    )


def test_a_margin_below_zero_bears_nothing(store):
    booking = booked(store, paid=5 * CENT)  # a fixed price below cost
    transfer.refund(store, booking, None, id="a", at=1)
    assert balance(store, "margin/default") == -3 * CENT
    assert balance(store, "overrun/operator") == -5 * CENT


def test_an_invoice_that_differs_is_the_operators(store):
    booking = booked(store)
    transfer.adjust(store, "ada", CENT, of=booking, id="a", at=1, note="invoice 7")
    transfer.adjust(store, "ada", -9 * CENT, of=booking, id="b", at=1, note="invoice 8")
    assert (balance(store, "owner/ada"), balance(store, "overrun/operator")) == (0, 8 * CENT)
    with pytest.raises(RequestError, match="has been paid out already"):
        transfer.adjust(store, "ada", -1, of=booking, id="c", at=1, note="invoice 9")
    for fields in ({"note": " "}, {"note": "why", "amount": 0}):
        with pytest.raises(RequestError):
            transfer.adjust(store, "ada", **{"amount": 1, **fields}, of=booking, id="c", at=1)
    replayed(store)


def test_who_was_called_at_an_unknown_cost_can_be_put_right(store):
    booking = booked(store)
    with pytest.raises(RequestError, match="no owner"):
        transfer.payout(store, "unpriced", CENT, id="a", at=1)
    transfer.adjust(store, "unpriced", CENT, of=booking, id="a", at=1, note="invoice 7")
    assert balance(store, "owner/unpriced") == CENT


def test_an_open_hold_is_released_once(store):
    put(store, Hold(id="h", caller=KEY.id, mind="m", money=CENT, tokens=9, day=DAY, until=99))
    assert transfer.release(store, "h", at=1).money == CENT
    assert store.open_holds() == []
    assert store.tally(f"held/{KEY.id}/money") == store.tally(f"spent/{KEY.id}/money/ever") == 0
    with pytest.raises(RequestError, match="resolved already"):
        transfer.release(store, "h", at=1)
    with pytest.raises(RequestError, match="does not exist"):
        transfer.release(store, "g", at=1)


@pytest.mark.parametrize("text", ["$5", "5€", "¥5", "5 USD", "1,5", "-1", "1e3", "nan", "", "０.5"])
def test_an_amount_is_decimal_dollars(text):
    with pytest.raises(RequestError, match="write dollars as"):
        transfer.dollars(text)


def test_amounts_are_exact():
    assert transfer.dollars("0.000000001") == 1
    assert transfer.dollars("-0.5", signed=True) == -DOLLAR // 2


# --- the commands -------------------------------------------------------------------------------


@pytest.fixture
def run(store, url, config_file):
    app = typer.Typer()
    for command in (commands.deposit, commands.payout, commands.refund):
        app.command()(command)
    app.command(context_settings=commands.SIGNED)(commands.adjust)
    app.command()(commands.holds)
    app.command()(commands.release)
    path = config_file(f'[ledger]\npath = "{url.removeprefix("sqlite:///")}"\n')

    def invoke(*words):
        result = CliRunner().invoke(app, [*words, "--config", str(path)])
        if result.exception is not None:
            raise result.exception
        return " ".join(result.output.split())

    return invoke


def test_the_commands_move_money(run, store):
    booking = booked(store)
    put(store, Hold(id="h", caller=KEY.id, mind="m", money=CENT, tokens=9, day=DAY, until=99))
    assert "now has $4.9" in run("deposit", KEY.id, "5", "--id", "d")
    assert "(written when it was asked for before)" in run("deposit", KEY.id, "5", "--id", "d")
    assert "still owed $0.05" in run("payout", "ada", "0.03")
    assert "$0.1 of r1/end given back" in run("refund", booking, "--note", "wrong answer")
    assert "by $-0.01, is now owed $0.04" in run(
        "adjust", "ada", "-0.01", "--of", booking, "--note", "invoice 7"
    )
    assert "h " in run("holds")
    assert "$0.01 given back" in run("release", "h")
    assert run("holds") == "no hold is open"
    with pytest.raises(RequestError, match="currency's sign"):
        run("deposit", KEY.id, "$5")
    replayed(store)


def test_an_id_is_made_and_told(run, store):
    told = run("deposit", KEY.id, "1")
    assert isinstance(store.find(told.partition(": ")[0]), Transfer)
