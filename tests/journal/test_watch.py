"""What an answer leaves behind: its decisions in the journal and the log, texts only if wanted."""

from __future__ import annotations

import json
import logging
import sqlite3
from contextlib import aclosing

import pytest

from bicameral.brain import Brain
from bicameral.config import parse
from bicameral.errors import JournalError, RequestError
from bicameral.journal.store import Store
from bicameral.journal.watch import LONGEST, Watch, tell
from bicameral.server.log import Lines
from bicameral.types import Done, Relay, Request

CONFIG = """
[models.a]
engine = "scripted"
reply = "the secret answer"
confidence = 0.2
[models.b]
engine = "scripted"
reply = "another secret answer"
[models.dead]
engine = "scripted"
fail = "rejected"
[models.blind]
engine = "scripted"
features = []
[minds.all]
policy = "vote"
members = ["a", "b", "dead", "blind"]
[models.echo]
engine = "scripted"
[models.echo2]
engine = "scripted"
[minds.two]
policy = "vote"
members = ["echo", "echo2"]
[minds.inner]
policy = "cascade"
members = ["a", "b"]
[minds.outer]
policy = "vote"
members = ["inner", "b"]
[journal]
path = "{path}"
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite3"


@pytest.fixture
def config(path):
    def parsed(more: str = ""):
        return parse(CONFIG.format(path=path) + more, "t.toml")

    return parsed


def kept(path, name):
    store = Store(path, create=False)
    found = store.find(name)
    store.close()
    return found


async def test_a_minds_decisions_are_kept_outer_first(config, path):
    async with Brain.open(config()) as brain:
        answer = await brain.ask("what is the secret?", mind="outer")
    entry = kept(path, answer.decisions[0].id)
    assert [d.mind for d in entry.decisions] == ["outer", "inner"]
    assert {d.id for d in entry.decisions} == {entry.id}
    assert entry.decisions[0].asked[0].key


async def test_every_answer_has_an_id_of_its_own(config):
    async with Brain.open(config()) as brain:
        ids = {(await brain.ask("what", mind="all")).decisions[0].id for _ in range(3)}
    assert len(ids) == 3
    assert all(len(i) == 28 for i in ids)


async def test_without_leave_no_text_is_kept(config, path):
    async with Brain.open(config()) as brain:
        await brain.ask("what is the secret?", mind="all", seed=1)
        await brain.ask("what is the secret?", mind="outer")
    written = b"".join(f.read_bytes() for f in path.parent.iterdir())
    assert b"secret" not in written
    assert b"script" not in written  # the words of a failure may quote the prompt
    assert b"Rejected (400)" in written


async def test_a_guess_at_an_answer_cannot_be_tested_against_the_file(config, path):
    """Nor do equal answers to different requests look alike; those to one request do."""
    async with Brain.open(config()) as brain:
        one, two = [await brain.ask("42", mind="two", id="same") for _ in range(2)]
    assert one.decisions[0].asked[0].key == two.decisions[0].asked[0].key
    async with Brain.open(config()) as brain:
        three = await brain.ask("42", mind="two", id="same2")
    first, second = (kept(path, d.id).decisions[0] for d in (two.decisions[0], three.decisions[0]))
    told = {a.key for answer in (one, two, three) for a in answer.decisions[0].asked}
    keys = [a.key for d in (first, second) for a in d.asked]
    assert keys[0] == keys[1] != keys[2] == keys[3]
    assert not told & set(keys)


async def test_with_leave_question_and_answer_are(config, path):
    async with Brain.open(config("prompts = true")) as brain:
        answer = await brain.ask("what is the secret?\ud800", mind="all")
    entry = kept(path, answer.decisions[0].id)
    assert entry.prompt == "what is the secret??"
    assert entry.answer == answer.text


async def test_only_so_much_text_is(config, path):
    async with Brain.open(config("prompts = true")) as brain:
        answer = await brain.ask("x" * 2 * LONGEST, mind="all")
    assert len(kept(path, answer.decisions[0].id).prompt) == LONGEST


async def test_a_plain_member_and_an_answer_cut_short_leave_nothing(config, path):
    async with Brain.open(config()) as brain:
        await brain.ask("what", mind="a")
        async with aclosing(brain.stream("what", mind="inner")) as events:
            await anext(events)
    assert not path.exists()


async def test_switched_off_nothing_is_written(config, path):
    async with Brain.open(config("enabled = false")) as brain:
        answer = await brain.ask("what", mind="all")
        with pytest.raises(JournalError, match="enabled is false"):
            await brain.rate(answer.decisions[0].id, 1.0)
    assert not path.exists()


async def test_a_broken_journal_stops_no_answer(config, path):
    path.mkdir()
    async with Brain.open(config()) as brain:
        answer = await brain.ask("what", mind="all")
        assert answer.text
        with pytest.raises(JournalError):
            await brain.rate(answer.decisions[0].id, 1.0)


async def test_rating(config, path):
    async with Brain.open(config()) as brain:
        answer = await brain.ask("what", mind="all")
        name = answer.decisions[0].id
        assert await brain.rate(name, 0.5)
        assert not await brain.rate("req_unknown", 0.5)
        assert not await brain.rate(name, 0.5, caller="somebody else")
        for wrong in (-0.1, 1.1, float("nan"), float("inf")):
            with pytest.raises(RequestError, match="between 0 and 1"):
                await brain.rate(name, wrong)
    assert kept(path, name).score == 0.5


async def test_a_reload_takes_the_new_journal(config, path):
    other = path.with_name("other.sqlite3")
    async with Brain.open(config()) as brain:
        first = await brain.ask("what", mind="all")
        await brain.reload(parse(CONFIG.format(path=other), "t.toml"))
        second = await brain.ask("what", mind="all")
        assert kept(path, first.decisions[0].id)  # closed, so written
    assert kept(other, second.decisions[0].id)
    assert not kept(path, second.decisions[0].id)


async def test_the_log_tells_each_decision_on_one_line(config, caplog):
    with caplog.at_level(logging.INFO, "bicameral.decisions"):
        async with Brain.open(config()) as brain:
            answer = await brain.ask("what is the secret?", mind="outer")
    lines = [Lines().format(r) for r in caplog.records if r.name == "bicameral.decisions"]
    outer, inner = map(json.loads, lines)
    assert (outer["mind"], inner["mind"]) == ("outer", "inner")
    assert outer["request"] == inner["request"] == answer.decisions[0].id
    assert inner["asked"] == ["a", "b"]
    assert inner["by"] == "b"
    assert inner["message"] == answer.decisions[1].why
    assert inner["seconds"] >= 0
    assert "secret" not in "".join(lines)


async def test_what_a_sender_names_a_field_cannot_break_the_log(config, caplog):
    nasty = "x\n\x1b[31m\r\u2028" + "y" * 5000
    with caplog.at_level(logging.INFO, "bicameral.decisions"):
        takes = f'[models.odd]\nengine = "scripted"\nextra = [{json.dumps(nasty)}]'
        mind = '[minds.m]\npolicy = "cascade"\nmembers = ["odd", "b"]'
        async with Brain.open(config(f"\n{takes}\n{mind}")) as brain:
            await brain.ask("what", mind="m", extra={nasty: 1})
    (line,) = [Lines().format(r) for r in caplog.records if r.name == "bicameral.decisions"]
    assert "b left out" in json.loads(line)["message"]
    assert not {"\n", "\r", "\x1b"} & set(line)
    assert len(line) < 2000


@pytest.mark.parametrize(
    ("data", "alias"),
    [
        (b'data: {"id":"chatcmpl-far","object":"x","choices":[{"id":"no"}]}\n\n', "chatcmpl-far"),
        (b'{ "id" : "far"}', "far"),
        (b'{"no":1}', ""),
        (b'{"id":"a\\"b"}', ""),
        (b'{"id":"' + b"x" * 200 + b'"}', ""),
        (b'{"id":"\xff"}', "\ufffd"),
    ],
)
def test_an_answer_passed_on_is_known_by_its_own_id_too(data, alias):
    notes = []

    class Notes:
        options = parse("", "t").journal
        note = notes.append

    watch = Watch(Notes(), Request.ask("what", id="req_1"), "", tell)
    decision = _decision()
    for event in (Relay(data), Relay(b'{"id":"later"}'), Done(decisions=(decision,))):
        watch(event)
    assert (notes[0].id, notes[0].alias) == ("req_1", alias)


def _decision():
    from bicameral.decision import Decision

    return Decision(id="req_1", mind="m", policy="route")


async def test_two_servers_share_a_file(config, path):
    """Each finds what the other wrote."""
    async with Brain.open(config()) as one, Brain.open(config()) as two:
        answer = await one.ask("what", mind="all")
        name = answer.decisions[0].id
        assert await one.rate(name, 0.0)
        assert await two.rate(name, 1.0)
    assert kept(path, name).score == 1.0
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
