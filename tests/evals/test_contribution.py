"""What owners contribute to a mind, by outcomes replayed and by ratings."""

from __future__ import annotations

import time
from dataclasses import replace as but
from math import factorial

import numpy as np
import pytest

from bicameral.config import parse
from bicameral.decision import Asked, Decision
from bicameral.errors import ConfigError
from bicameral.evals.contribution import from_ratings, from_table
from bicameral.journal.store import Entry
from bicameral.ledger import shapley
from tests.evals.tables import table

PERIOD = "2026-11"


def config(policy="vote", more="", **owners):
    """Members in that order, each with its owner."""
    models = "".join(
        f'[models.{name}]\nengine = "scripted"\nowner = "{owner}"\n'
        for name, owner in owners.items()
    )
    names = ", ".join(f'"{name}"' for name in owners)
    return parse(f'{models}[minds.m]\npolicy = "{policy}"\nmembers = [{names}]\n{more}', "test")


def shares(weights):
    total = sum(weight for _, weight in weights.weights)
    return {name: weight / total for name, weight in weights.weights}


# a and b are right three times in four, c answers but never the same as anybody: it has no say.
ROWS = ("x: x x z1", "x: x x z2", "x: x y z3", "x: y x z4")


def test_who_never_changes_an_answer_gets_exactly_nothing():
    found = from_table(config(a="ann", b="bob", c="cy"), "m", table(*ROWS, *ROWS), PERIOD)
    assert dict(found.weights)["cy"] == 0
    # Of a tie the first is taken, so together they are right as often as each alone.
    assert found.values == tuple(8 * value * 10**6 // 4 for value in (0, 3, 3, 3, 0, 3, 3, 3))
    assert shares(found) == {"ann": 0.5, "bob": 0.5, "cy": 0.0}


def test_anyone_computes_the_weights_again_from_the_values():
    found = from_table(config(a="ann", b="bob", c="cy"), "m", table(*ROWS), PERIOD)
    assert found.negative == ()
    again = shapley.weights(shapley.exact(found.values))
    assert tuple(weight for _, weight in found.weights) == again
    assert found.members == (("a", "ann"), ("b", "bob"), ("c", "cy"))
    assert (found.id, found.scheme, found.prompts) == ("weights/2026-11/m", "shapley", 4)


def test_the_same_model_listed_twice_by_one_owner_changes_nobodys_share():
    """With two votes ann's b would outvote bob's a, which is right more often."""
    rows = (*ROWS, "x: x y z5")
    once = from_table(config(a="bob", b="ann", c="cy"), "m", table(*rows), PERIOD)
    rows = tuple(f"{row} {row.split()[2]}" for row in rows)
    twice = from_table(config(a="bob", b="ann", c="cy", d="ann"), "m", table(*rows), PERIOD)
    assert twice.weights == once.weights
    other = from_table(config(a="bob", b="ann", c="cy", d="dee"), "m", table(*rows), PERIOD)
    assert shares(other)["ann"] + shares(other)["dee"] > shares(once)["ann"]


def test_without_an_owner_a_member_is_its_own_and_one_owner_gets_it_all():
    plain = parse(
        '[models.a]\nengine = "scripted"\n[models.b]\nengine = "scripted"\nowner = "bob"\n'
        '[minds.m]\npolicy = "vote"\nmembers = ["a", "b"]\n',
        "test",
    )
    assert [name for name, _ in from_table(plain, "m", table("x: x y"), PERIOD).weights] == [
        "a",
        "bob",
    ]
    one = from_table(config(a="ann", b="ann"), "m", table("x: x y"), PERIOD)
    assert one.weights == (("ann", 1),)


def test_who_makes_it_worse_counts_as_nothing_and_is_named():
    """The mind believes what is declared of bad, which is asked instead of good."""
    mind = parse(
        '[models.a]\nengine = "scripted"\nowner = "good"\nquality = 0.5\n'
        '[models.b]\nengine = "scripted"\nowner = "bad"\nquality = 0.9\n'
        '[minds.m]\npolicy = "route"\nmembers = ["a", "b"]\n',
        "test",
    )
    found = from_table(mind, "m", table("x: x y", "x: x y", "x: x y"), PERIOD)
    assert dict(found.weights) == {"bad": 0, "good": 1}
    assert found.negative == ("bad",)


def test_above_ten_owners_orders_are_drawn_and_the_error_is_stated():
    names = [chr(ord("a") + i) for i in range(11)]
    rows = ["x: " + " ".join("x" if i in (k, 5) else "-" for i in range(11)) for k in range(11)]
    mind = config(**{name: f"o-{name}" for name in names})
    said: list[str] = []
    found = from_table(mind, "m", table(*rows), PERIOD, orders=12, seed=3, said=said.append)
    assert (found.orders, found.seed, found.values) == (12, 3, ())
    assert len(found.errors) == 11
    assert sum(weight for _, weight in found.weights) == 12 * 11 * 10**6
    assert max(shares(found), key=shares(found).get) == "o-f"
    assert any(found.errors)
    assert len(said) <= 12 * 10 + 1  # a set is replayed once
    again = from_table(mind, "m", table(*rows), PERIOD, orders=12, seed=3)
    assert again == found


def test_ten_owners_are_exact():
    names = [chr(ord("a") + i) for i in range(10)]
    row = "x: " + " ".join("x" if i < 2 else "-" for i in range(10))
    mind = config("route", **{name: f"o-{name}" for name in names})
    found = from_table(mind, "m", table(row), PERIOD)
    assert len(found.values) == 2**10
    assert sum(shapley.exact(found.values)) == factorial(10) * 10**6
    assert found.errors == ()


def test_scores_between_right_and_wrong_count_as_they_are():
    outcomes = table("x: x", "x: x", gold=False)
    outcomes = but(outcomes, score=np.array([[0.25], [1.0]]))
    assert from_table(config(a="ann"), "m", outcomes, PERIOD).values == (0, 1_250_000)


def test_the_digest_is_of_the_table_and_the_mind():
    first = from_table(config(a="ann"), "m", table("x: x"), PERIOD, source=b"1")
    assert (
        first.inputs == from_table(config(a="ann"), "m", table("x: x"), PERIOD, source=b"1").inputs
    )
    others = [
        from_table(config(a="ann"), "m", table("x: x"), PERIOD, source=b"2"),
        from_table(config(a="bob"), "m", table("x: x"), PERIOD, source=b"1"),
        from_table(config("route", a="ann"), "m", table("x: x"), PERIOD, source=b"1"),
    ]
    assert len({first.inputs, *(other.inputs for other in others)}) == 4


@pytest.mark.parametrize(
    ("policy", "mind", "said"),
    [
        ("vote", "n", "there is no mind 'n'"),
        ("fuse", "m", "policy fuse cannot be replayed from a table"),
        ("vote", "outer", "m is itself a mind"),
        ("vote", "missing", "no outcomes of 'z'"),
    ],
)
def test_minds_that_cannot_be_replayed_are_refused(policy, mind, said):
    more = (
        '[minds.outer]\npolicy = "vote"\nmembers = ["a", "m"]\n'
        '[minds.missing]\npolicy = "vote"\nmembers = ["a", "z"]\n[models.z]\nengine = "scripted"\n'
    )
    with pytest.raises(ConfigError, match=said):
        from_table(config(policy, more, a="ann", b="bob"), mind, table("x: x y"), PERIOD)


def rated(number, score, *asked, at=1_794_000_000.0, mind="m"):
    said = tuple(Asked(model=model, share=share) for model, share in asked)
    decision = Decision(id=f"r{number}", mind=mind, policy="vote", asked=said)
    return Entry(id=f"r{number}", decisions=(decision,), at=at, score=score)


def test_ratings_go_to_whose_answer_it_was():
    assert time.strftime("%Y-%m", time.gmtime(1_794_000_000)) == PERIOD
    entries = [
        rated(1, 1.0, ("a", 0.5), ("b", 0.5), ("c", 0.0)),
        rated(2, 0.5, ("a", 1.0)),
        rated(3, 0.0, ("c", 1.0)),
        rated(4, 1.0, ("c", 1.0), mind="other"),
        rated(5, 1.0, ("c", 1.0), at=1_700_000_000.0),
        rated(6, None, ("c", 1.0)),
    ]
    found = from_ratings(config(a="ann", b="bob", c="cy"), "m", entries, PERIOD)
    assert found.weights == (("ann", 2), ("bob", 1), ("cy", 0))
    assert (found.scheme, found.prompts) == ("feedback", 3)
