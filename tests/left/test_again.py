"""Whatever a mind decided, its record alone leads any policy to the same turns and verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bicameral.decision import Decision
from bicameral.engines.scripted import Options, Scripted
from bicameral.ledger.meter import Meter
from bicameral.left.again import again, differences
from bicameral.left.auto import Auto
from bicameral.left.ballot import Ballot, Heard
from bicameral.left.cascade import Cascade
from bicameral.left.fuse import Fuse
from bicameral.left.mind import Mind
from bicameral.left.policy import Estimate, Policy
from bicameral.left.route import Route
from bicameral.left.select import Select
from bicameral.left.sticky import Sticky
from bicameral.left.vote import Vote
from bicameral.left.worth import Worth
from bicameral.model import Model, collect
from bicameral.types import Feature, JsonFormat, Message, Request, Sampling, Text, Tool

NAMES = ("a", "b", "c", "d")
UNITS = st.floats(0, 1)
WORTHS = st.builds(
    Worth,
    worth=st.none() | st.integers(0, 10**7),
    most=st.none() | st.integers(0, 10**5),
) | st.builds(Worth, least=UNITS)
BALLOTS = st.builds(
    Ballot,
    heard=st.dictionaries(
        st.sampled_from(NAMES), st.builds(Heard, tokens=UNITS, confidence=UNITS), max_size=3
    ),
    exclusive=st.booleans(),
)
CASCADES = st.builds(Cascade, UNITS, st.none() | st.just(1), worth=st.none() | WORTHS, tells=UNITS)
VOTES = st.builds(
    Vote,
    BALLOTS,
    st.none() | st.permutations(NAMES),
    st.lists(UNITS, max_size=3),
    st.none() | st.integers(1, 2),
)


def member(name: str, **options: Any) -> Model:
    priced = {"price_input": "1", "price_output": "2", **options}
    return Meter(Scripted(name, Options(engine="scripted", **priced)), lambda call, booking: None)


FEATURES = (Feature.TOOLS, Feature.LOGPROBS, Feature.JSON_OBJECT, Feature.SEED)
SCRIPTS = st.fixed_dictionaries(
    {
        "reply": st.sampled_from(["42", "42.", "17", '{"consensus": ["x"]}', "1", " "]),
        "confidence": st.floats(0.05, 1),
        "fail": st.none() | st.none() | st.sampled_from(["overloaded", "rejected", "timeout"]),
        "die_after": st.none() | st.none() | st.just(1),
        "usage": st.booleans(),
        "features": st.sets(st.sampled_from(FEATURES)).map(tuple),
    }
)
MEMBERS = st.tuples(*(SCRIPTS.map(lambda s, n=name: member(n, **s)) for name in NAMES))
JUDGES = st.none() | SCRIPTS.map(lambda s: member("judge", **s))
PLAIN = (
    st.builds(Route, WORTHS)
    | CASCADES
    | VOTES
    | st.builds(Fuse, JUDGES, samples=st.integers(1, 2), analysis=st.booleans())
    | st.builds(Select, JUDGES)
)
ARMS = st.dictionaries(
    st.sampled_from(["both", "all"]),
    st.tuples(PLAIN, st.sets(st.sampled_from(NAMES), min_size=2).map(frozenset)),
)
POLICIES = PLAIN | st.builds(Auto, ARMS, WORTHS)
ESTIMATES = st.builds(
    Estimate,
    quality=UNITS,
    cost=st.none() | st.integers(0, 10**6),
    seconds=st.none() | st.floats(0, 60),
    weight=st.none() | st.floats(-3, 3),
    known=UNITS,
)
REQUESTS = st.builds(
    Request,
    messages=st.lists(
        st.sampled_from(["user", "assistant"]).map(lambda r: Message(r, (Text("so"),))), max_size=3
    ).map(lambda turns: (*turns, Message("user", (Text("what?"),)))),
    sampling=st.builds(Sampling, max_tokens=st.none() | st.integers(1, 3)),
    tools=st.just(()) | st.just(()) | st.just((Tool("f"),)),
    format=st.none() | st.none() | st.just(JsonFormat()),
    id=st.just("req_1"),
    budget=st.none() | st.none() | st.integers(500, 200_000),
)


class Fixed:
    """An Estimator that was told."""

    digest = "fixed"

    def __init__(self, estimates: Mapping[str, Estimate]) -> None:
        self._estimates = estimates

    def estimate(self, request: Request, cards: Any) -> Mapping[str, Estimate]:
        arms = {"both", "all"} & set(self._estimates)
        return {n: self._estimates[n] for n in (*(card.name for card in cards), *sorted(arms))}


def decided(mind: Mind, request: Request) -> Decision | None:
    """What the mind put on record, as it comes back from a file."""
    answer = asyncio.run(collect(mind, request))
    if answer.error is not None:
        return None
    return msgspec.json.decode(msgspec.json.encode(answer.decisions[0]), type=Decision)


@settings(max_examples=150, deadline=None)
@given(
    policy=POLICIES,
    members=MEMBERS,
    estimates=st.fixed_dictionaries(
        dict.fromkeys((*NAMES, "nested"), ESTIMATES),
        optional={"both": ESTIMATES, "all": ESTIMATES},
    ),
    nested=st.booleans(),
    warm=st.sampled_from(["", *NAMES]),
    request=REQUESTS,
)
def test_the_record_leads_to_the_same_decision(
    policy: Policy,
    members: tuple[Model, ...],
    estimates: Mapping[str, Estimate],
    nested: bool,
    warm: str,
    request: Request,
) -> None:
    if nested:
        members = (Mind("nested", Vote(), members[:2]), *members[1:])
    sticky = Sticky()
    if warm and any(m.role == "assistant" for m in request.messages):
        turns = [i for i, m in enumerate(request.messages) if m.role == "assistant"]
        sticky.note(replace(request, messages=request.messages[: turns[-1]]), warm)
    mind = Mind("m", policy, members, estimator=Fixed(estimates), sticky=sticky)
    was = decided(mind, request)
    event(f"{policy.name}: {'failed' if was is None else len(was.asked)}")
    if was is None:
        return
    event(f"ended early: {bool(was.ended)}")
    now = again(was, policy)
    assert list(differences(was, now)) == []
    assert now == replace(was, settings=now.settings)


def record(policy: Policy, *members: Model) -> Decision:
    was = decided(Mind("m", policy, members), Request.ask("what?", id="req_1"))
    assert was is not None
    return was


def test_another_policy_decides_otherwise() -> None:
    a, b = member("a", reply="1", confidence=0.6), member("b", reply="2", confidence=0.9)
    was = record(Cascade(0.5), a, b)
    assert was.by == "a"
    told = list(differences(was, again(was, Cascade(0.7))))
    assert told[0] == "1 steps, now 2"
    assert "now somebody the record has no answer of" in told[1]
    was = record(Cascade(0.7), a, b)
    now = again(was, Cascade(0.5))
    assert (was.by, now.by) == ("b", "a")
    assert any("steps" in line for line in differences(was, now))


def test_changed_evidence_is_noticed() -> None:
    a, b = member("a", reply="1"), member("b", reply="1")
    was = record(Vote(), a, b)
    assert not list(differences(was, again(was, Vote())))
    forged = replace(was, asked=(replace(was.asked[0], key="other"), was.asked[1]))
    assert list(differences(forged, again(forged, Vote())))


def test_it_asks_nobody() -> None:
    a, b = member("a", fail="overloaded"), member("b")
    was = record(Route(), a, b)
    runs = (a._model.runs, b._model.runs)
    assert not list(differences(was, again(was, Route())))
    assert (a._model.runs, b._model.runs) == runs


@pytest.mark.parametrize("empty", [Decision(id="x", mind="m", policy="vote")])
def test_a_record_of_nothing_leads_to_nothing(empty: Decision) -> None:
    assert again(empty, Vote()).by == ""
