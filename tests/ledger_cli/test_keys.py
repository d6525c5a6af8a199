"""`bicameral keys` as its user reads it: the secret once, limits in dollars, errors by option."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from bicameral.brain import load_config
from bicameral.errors import BicameralError
from bicameral.ledger.engine import where
from bicameral.ledger.entry import today
from bicameral.ledger.keys import Key, digest
from bicameral.ledger.store import Store
from bicameral.ledger_cli.keys import _find, _named, keys
from tests.ledger.entries import booking, deposit, put

CONFIG = """
[ledger]
path = "{folder}/book.sqlite3"
[models.a]
engine = "scripted"
[minds.mind]
policy = "vote"
members = ["a"]
"""


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "bicameral.toml"
    path.write_text(CONFIG.format(folder=tmp_path), encoding="utf-8")
    return path


@pytest.fixture
def store(config):
    store = Store(where(load_config(config).ledger))
    yield store
    store.close()


def run(config: Path, *args: str):
    """What it printed, to stdout and to stderr; raises what the command raises."""
    got = CliRunner().invoke(keys, [*args, "-c", str(config)])
    if isinstance(got.exception, BicameralError):
        raise got.exception
    assert got.exit_code == 0, got.output
    return got


def only(store: Store) -> Key:
    (key,) = store.keys().values()
    return key


def test_the_secret_is_shown_once_and_alone(config, store):
    got = run(config, "new", "ann", "--day-money", "5")
    (secret,) = got.stdout.splitlines()
    assert digest(secret.encode()) == only(store).digest
    assert "shown only now" in got.stderr
    assert "$5.00 a day" in got.stderr
    assert secret not in got.stderr
    for told in (run(config, "list"), run(config, "set", "ann", "--day-money", "6")):
        assert secret not in told.output
        assert only(store).digest not in told.output
    assert all(secret not in written.body for written in store.entries())


def test_every_limit_is_taken_as_it_is_written(config, store):
    run(
        config, "new", "ann", "--minds", "mind, a", "--request-money", "0.05", "--day-money", "5",
        "--month-money", "50", "--ever-money", "500", "--request-tokens", "1", "--day-tokens", "2",
        "--month-tokens", "3", "--ever-tokens", "4", "--requests-per-minute", "60",
        "--tokens-per-minute", "7", "--prepaid", "--expires", "2999-01-31",
    )  # fmt: skip
    key = only(store)
    assert key.minds == ("mind", "a")
    assert key.expires == datetime(2999, 1, 31, tzinfo=UTC).timestamp()
    limits = key.limits
    assert [limits.of(w, "money") for w in ("request", "day", "month", "ever")] == [
        50_000_000, 5 * 10**9, 50 * 10**9, 500 * 10**9,
    ]  # fmt: skip
    assert [limits.of(w, "tokens") for w in ("request", "day", "month", "ever")] == [1, 2, 3, 4]
    assert (limits.requests_per_minute, limits.tokens_per_minute, limits.prepaid) == (60, 7, True)
    told = run(config, "list").stdout
    for part in ("$0.05 a request", "60 requests a minute", "minds mind, a", "until 2999-01-31"):
        assert part in told


def test_days_from_now_are_an_end_too(config, store):
    run(config, "new", "ann", "--expires", "30d")
    assert abs(only(store).expires - time.time() - 30 * 86_400) < 60


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--day-money", "5 dollars"], "--day-money"),
        (["--day-money", "-1"], "--day-money"),
        (["--month-money", "1e3"], "--month-money"),
        (["--day-tokens", "1.5"], "--day-tokens: '1.5' is no whole number"),
        (["--day-tokens", "٣"], "--day-tokens"),
        (["--requests-per-minute", "0"], "--requests-per-minute"),
        (["--expires", "soon"], "2027-01-31 or 30d"),
        (["--expires", "2020-01-31"], "has begun already"),
        (["--minds", "mnd"], "did you mean 'mind'"),
        (["--minds", ","], "--minds"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_made(config, store, args, says):
    with pytest.raises(BicameralError, match=says):
        run(config, "new", "ann", *args)
    assert not store.keys()


@pytest.mark.parametrize("name", ["", " ann", "a\nb", "\x1b[31m", "x" * 65])
def test_a_name_is_one_line_of_text(config, store, name):
    with pytest.raises(BicameralError, match="NAME"):
        run(config, "new", name)


def test_a_name_belongs_to_one_living_key(config, store):
    run(config, "new", "ann")
    first = only(store)
    with pytest.raises(BicameralError, match="already"):
        run(config, "new", "ann")
    run(config, "revoke", "ann")
    run(config, "new", "ann")
    assert [k.revoked for k in store.keys().values()].count(False) == 1
    assert _find(store, "ann").id != first.id


def test_two_that_take_a_name_at_once_are_not_both_made(config, store):
    class Blind:
        """A store that has not seen the other's key yet."""

        keys = staticmethod(dict)
        write = store.write

    one, two = (Key(id=f"key_{n}", name="ann", digest=str(n)) for n in range(2))
    assert _named(Blind(), one)
    assert not _named(Blind(), two)
    assert only(store) == one


def test_limits_are_changed_one_by_one_and_taken_away(config, store):
    run(config, "new", "ann", "--day-money", "5", "--minds", "a", "--prepaid")
    before = only(store)
    run(config, "set", before.id, "--day-tokens", "9")
    run(config, "set", "ann", "--day-money", "none", "--minds", "all", "--no-prepaid")
    after = only(store)
    assert (after.limits.day_money, after.limits.day_tokens) == (None, 9)
    assert (after.minds, after.limits.prepaid) == (None, False)
    assert (after.id, after.digest) == (before.id, before.digest)
    run(config, "set", "ann", "--expires", "30d")
    run(config, "set", "ann", "--expires", "none")
    assert only(store).expires is None
    with pytest.raises(BicameralError, match="nothing to change"):
        run(config, "set", "ann")


def test_what_is_revoked_stays_so_and_is_listed(config, store):
    run(config, "new", "ann")
    run(config, "revoke", only(store).id)
    assert only(store).revoked
    assert "revoked" in run(config, "list").stdout
    for args in (["revoke", "ann"], ["set", "ann", "--day-money", "5"]):
        with pytest.raises(BicameralError, match="there is no key 'ann'"):
            run(config, *args)


def test_the_list_says_what_was_spent_and_what_is_left(config, store):
    run(config, "new", "ann", "--prepaid")
    id = only(store).id
    put(store, deposit("d", 2 * 10**9, id))
    day = today(time.time_ns() // 1_000_000)
    put(store, replace(booking("b", paid=1_500_000_000, caller=id), day=day))
    told = run(config, "list").stdout
    assert "spent $1.50 and 10 tokens today, $1.50 and 10 tokens this month" in told
    assert "held $0.00 and 0 tokens; $0.50 paid in is left" in told


def test_without_a_ledger_it_says_what_to_add(tmp_path):
    path = tmp_path / "bicameral.toml"
    path.write_text('[models.a]\nengine = "scripted"\n', encoding="utf-8")
    with pytest.raises(BicameralError, match=r"\[ledger\]"):
        run(path, "new", "ann")
