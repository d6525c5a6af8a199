"""Keys: only a digest is kept, and what they say of themselves."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from bicameral.ledger.keys import Key, Keyring, Limits, digest, make


def test_of_a_secret_only_the_digest_and_a_hint_are_kept():
    secret, key = make("ann")
    assert key.digest == digest(secret.encode()) == hashlib.sha256(secret.encode()).hexdigest()
    assert secret not in repr(key)
    assert secret.startswith(key.hint)
    assert len(key.hint) < 10
    assert len(secret) >= 32 + 4  # 24 random bytes, so no one can try them all


def test_no_two_are_alike():
    made = [make("ann") for _ in range(100)]
    assert len({secret for secret, _ in made}) == len({key.id for _, key in made}) == 100


def test_it_may_ask_its_minds_or_all():
    assert make("a")[1].may_ask("anything")
    some = make("a", minds=("x", "y"))[1]
    assert [name for name in ("w", "x", "y") if some.may_ask(name)] == ["x", "y"]
    assert not make("a", minds=())[1].may_ask("x")


def test_it_is_good_until_it_expires_or_is_revoked():
    key = Key(id="k", name="a", digest="d", expires=100)
    assert key.standing(99.9) == "good"
    assert key.standing(100) == "expired"
    assert Key(id="k", name="a", digest="d", expires=100, revoked=True).standing(0) == "revoked"
    assert Key(id="k", name="a", digest="d").standing(1e12) == "good"


@pytest.mark.parametrize(
    ("limits", "money", "tokens", "paced"),
    [
        ({}, False, False, False),
        ({"day_money": 0}, True, False, False),
        ({"prepaid": True}, True, False, False),
        ({"month_tokens": 5}, False, True, False),
        ({"request_tokens": 5, "ever_money": 1}, True, True, False),
        ({"tokens_per_minute": 5}, False, False, True),
        ({"requests_per_minute": 5}, False, False, True),
    ],
)
def test_what_is_limited_has_to_be_held_or_counted(limits, money, tokens, paced):
    limits = Limits(**limits)
    assert (limits.bounds("money"), limits.bounds("tokens"), limits.paced) == (money, tokens, paced)


def test_a_key_reads_back_as_it_was_written():
    key = make("ann", minds=("a",), limits=Limits(day_money=5, prepaid=True), expires=9)[1]
    assert msgspec.json.decode(msgspec.json.encode(key), type=Key) == key
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"day_money": -1}', type=Limits)


def test_a_ring_finds_keys_by_digest_and_by_id():
    key = make("ann")[1]
    ring = Keyring.of({key.digest: key})
    assert ring.by_digest[key.digest] is ring.by_id[key.id] is key
