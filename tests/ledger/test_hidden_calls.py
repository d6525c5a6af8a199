"""Calls that a caller does not see: each is in the book once, under the request it was made for."""

from __future__ import annotations

import pytest

from bicameral.brain import Brain
from bicameral.config import parse
from bicameral.errors import Broken
from bicameral.ledger.meter import Meter
from bicameral.left.tokens import Tokens
from bicameral.model import collect
from bicameral.types import Image, Message, Request, Sampling, Text
from tests.ledger.booked import HEAD, bookings
from tests.left.tiny import Sayer

MEMBER = """
[models.{name}]
engine = "scripted"
owner = "{name}s"
price_input = "1"
price_output = "2"
{keys}
"""
MIND = '[minds.default]\npolicy = "{policy}"\nmembers = {members}\n{keys}\n'
HELLO = Request.ask("hello you")


def configured(path, policy, keys="", **members):
    tables = "".join(MEMBER.format(name=name, keys=more) for name, more in members.items())
    asked = [name for name in members if name != "eyes"]
    mind = MIND.format(policy=policy, members=asked, keys=keys)
    return parse(HEAD.format(path=path) + tables + mind, "test")


async def booked(path, config, request=HELLO):
    """The one booking of a request, and its answer; the owners get what their members cost."""
    async with Brain.open(config) as brain:
        answer = await collect(Whole(brain), request)
    (booking,) = bookings(path)
    owed = {name: amount for name, amount in booking.postings if name.startswith("owner/")}
    paid = {}
    for call in booking.calls:
        if call.cost:
            paid[f"owner/{call.owner}"] = paid.get(f"owner/{call.owner}", 0) + call.cost
    assert owed == paid
    assert booking.paid == sum(paid.values())
    return booking, answer


class Whole:
    """A brain as a model."""

    def __init__(self, brain):
        self.run = brain.run
        self.card = brain.model().card


@pytest.mark.parametrize(
    ("policy", "keys", "asked"),
    [
        ("vote", "", ["a", "b", "c"]),
        ("cascade", "threshold = 0.99", ["a", "b", "c"]),
        ("fuse", 'judge = "c"', ["a", "b", "c", "c"]),
        ("route", "", ["a"]),
    ],
)
async def test_every_member_that_was_asked_is_booked_once(tmp_path, policy, keys, asked):
    path = tmp_path / "book.sqlite3"
    members = {name: f'reply = "{name} says {name}"' for name in "abc"}
    booking, answer = await booked(path, configured(path, policy, keys, **members))
    assert answer.error is None
    assert sorted(call.model for call in booking.calls) == asked
    assert sorted(call.model for call in answer.calls) == asked
    assert all(call.state == "reported" and call.cost for call in booking.calls)


@pytest.mark.parametrize(("fail", "cost"), [("broken", 7000), ("unreachable", 0)])
async def test_who_failed_is_booked_beside_who_took_over(tmp_path, fail, cost):
    path = tmp_path / "book.sqlite3"
    config = configured(path, "route", bad=f'fail = "{fail}"', good="")
    booking, answer = await booked(path, config)
    assert answer.text == "hello you"
    assert [(c.model, c.ended) for c in booking.calls] == [("bad", "failed"), ("good", "finished")]
    assert booking.calls[0].cost == cost
    assert booking.ended == "finished"


async def test_a_vote_whose_members_all_fail_is_booked(tmp_path):
    path = tmp_path / "book.sqlite3"
    config = configured(path, "vote", a='reply = "x y"\ndie_after = 1', b='fail = "timeout"')
    booking, answer = await booked(path, config)
    assert answer.error is not None
    assert (booking.ended, len(booking.calls)) == ("failed", 2)
    assert {call.state for call in booking.calls} == {"estimated"}


async def test_who_looked_at_the_picture_is_booked(tmp_path):
    path = tmp_path / "book.sqlite3"
    eyes = """
accepts = ["image"]
emits = ["percept"]
percepts = [{kind = "tag", text = "cat"}]
price_image = "0.001"
"""
    look = Message("user", (Text("what is it?"), Image(data=b"\x89PNG\r\n\x1a\n" + bytes(99))))
    booking, answer = await booked(
        path, configured(path, "vote", a="", eyes=eyes), Request(messages=(look,))
    )
    assert "cat" in answer.text
    assert sorted(call.model for call in booking.calls) == ["a", "eyes"]
    seen = {call.model: call.usage.images for call in booking.calls}
    assert seen == {"a": 0, "eyes": 1}
    (eyes,) = (call for call in booking.calls if call.model == "eyes")
    assert eyes.cost >= 10**6


async def test_voices_are_booked_once_each_with_the_time_that_they_took():
    notes = []
    members = [Sayer("one", [b"a", b"b"], p=0.7), Sayer("two", [b"a", b"b"], p=0.7)]
    metered = [Meter(member, lambda *noted: notes.append(noted)) for member in members]
    request = Request.ask("hello", sampling=Sampling(max_tokens=9), booking="b1")
    answer = await collect(Tokens("e", metered, sure=0.9), request)
    assert answer.error is None
    assert [(call.model, call.ended, booking) for call, booking in notes] == [
        ("one", "finished", "b1"),
        ("two", "finished", "b1"),
    ]
    assert all(call.seconds == 0.5 for call, _ in notes)
    assert all(call.state == "reported" for call, _ in notes)


async def test_a_voice_that_breaks_is_booked_with_what_it_read():
    notes = []
    member = Sayer("one", [b"a", b"b"], p=0.7)
    member.fails_after = (0, Broken("one", "died"))
    await collect(Tokens("e", [Meter(member, lambda *noted: notes.append(noted))]), HELLO)
    ((call, _),) = notes
    assert call.ended == "failed"
    assert (call.state, call.usage.prompt_tokens) == ("reported", 1)
