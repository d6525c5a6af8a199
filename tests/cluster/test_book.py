"""Minds over members in a cluster: the same file runs here, and the book is exact whatever dies."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from msgspec.structs import replace

from bicameral.brain import Brain
from bicameral.cluster.member import Far
from bicameral.config import parse
from bicameral.errors import BicameralError, ChipError, ConfigError
from bicameral.ledger.audit import audit
from bicameral.model import Fold
from bicameral.types import Request, Sampling
from tests.cluster.asking import ask
from tests.ledger.booked import HEAD, bookings

pytestmark = pytest.mark.asyncio(loop_scope="module")
MEMBERS = """
[models.red]
engine = "odd"
delay = 0.002
owner = "ann"
price_input = "1"
price_output = "2"
[models.red.cluster]
replicas = {replicas}
num_cpus = 0
resources = {{ {red} = 1 }}
max_ongoing = 8
place_seconds = {wait}
[models.blue]
engine = "odd"
delay = 0.002
owner = "bob"
price_input = "1"
price_output = "2"
[models.blue.cluster]
replicas = {replicas}
num_cpus = 0
resources = {{ {blue} = 1 }}
max_ongoing = 8
place_seconds = {wait}
[minds.both]
policy = "cascade"
members = ["red", "blue"]
"""
ROUNDS, AT_ONCE = 10, 100


@pytest.fixture(autouse=True)
def installed(nodes, monkeypatch) -> None:
    """The engine is one here too: whoever reads the file knows its keys."""
    monkeypatch.syspath_prepend(str(nodes.folder / "site"))


def config(path: Path, options=None, **places):
    places = {"replicas": 1, "red": "red", "blue": "blue", "wait": 30, **places}
    text = HEAD.format(path=path) + MEMBERS.format(**places)
    return replace(parse(text, "here.toml"), cluster=options)


async def one(brain: Brain, n: int) -> tuple[str, bool]:
    """The id of request `n` and whether it was answered; every tenth is left in the middle.

    One in ten is long, so that some are under way whenever something dies.
    """
    names, fold = ("red", "blue", "both"), Fold("m")
    name = names[n % 3]
    words = [f"{letter}{n}" for letter in ("abc" if n % 10 != 5 else "abc" * 40)]
    text = "say " + " ".join(words)
    request = Request.ask(text, id=f"r{n}", sampling=Sampling(max_tokens=500))
    events = brain.run(request, name, caller="")
    try:
        async for event in events:
            fold.add(event)
            if n % 10 == 0:
                break
    except BicameralError:
        return request.id, False
    finally:
        await events.aclose()
    answer = fold.answer()
    assert n % 10 == 0 or answer.text.split() == words
    return request.id, answer.reason is not None


async def test_a_thousand_requests_with_deaths_in_between_are_booked_once_each(
    nodes, options, tmp_path
) -> None:
    path = tmp_path / "book.sqlite3"
    node = nodes.add(green=8)
    answered: dict[str, bool] = {}
    async with Brain.open(config(path, options, blue="green", replicas=2)) as brain:
        for turn in range(ROUNDS):
            first = turn * AT_ONCE
            asked = [asyncio.create_task(one(brain, first + n)) for n in range(AT_ONCE)]
            await asyncio.sleep(0.05)
            if turn in (2, 6):
                os.kill(int(await ask(brain.model("red")._model, "pid")), signal.SIGKILL)
            if turn == 4:
                await asyncio.to_thread(nodes.kill, node)
            answered.update(await asyncio.gather(*asked))
    assert len(answered) == ROUNDS * AT_ONCE
    assert sum(answered.values()) > 0.7 * len(answered)
    check(path, answered)


def check(path: Path, answered: dict[str, bool]) -> None:
    """Each request has one booking, which says of each call how it ended."""
    found = bookings(path)
    assert sorted(body.request for body in found) == sorted(answered)
    for body in found:
        assert (body.ended == "finished") == answered[body.request]
        ended = [call.ended for call in body.calls]
        assert ended.count("finished") >= (body.ended == "finished")
        assert ended.count("abandoned") == (body.ended == "abandoned")
    assert any(call.ended == "failed" for body in found for call in body.calls)
    report = audit(f"sqlite:///{path}")
    assert (report.faults, report.open_holds) == ((), 0)
    assert sum(report.balances.values()) == 0


async def test_the_same_file_without_a_cluster_runs_here(options, tmp_path) -> None:
    async with Brain.open(config(tmp_path / "b.sqlite3")) as brain:
        assert int((await brain.ask("pid", mind="red")).text) == os.getpid()
    async with Brain.open(config(tmp_path / "c.sqlite3", options)) as brain:
        assert isinstance(brain.models["red"]._model, Far)
        assert int((await brain.ask("pid", mind="red")).text) != os.getpid()
        assert (await brain.ask("say one two", mind="both")).text.split() == ["one", "two"]


async def test_a_reload_keeps_the_replicas_of_an_unchanged_table(options, tmp_path) -> None:
    path = tmp_path / "book.sqlite3"
    async with Brain.open(config(path, options)) as brain:
        before = [int(await ask(brain.model(name), "pid")) for name in ("red", "blue")]
        await brain.reload(config(path, options, blue="red"))
        red = brain.models["red"]._model
        assert int(await ask(brain.model("red"), "pid")) == before[0]
        assert len(red.pool.replicas) == 1
        assert int(await ask(brain.model("blue"), "pid")) != before[1]


async def test_the_file_is_named_where_there_is_no_such_chip(options, tmp_path) -> None:
    with pytest.raises(ChipError, match=r"here.toml: \[models.red.cluster\] .*ascend910b 1"):
        async with Brain.open(config(tmp_path / "b.sqlite3", options, red="ascend910b", wait=0.5)):
            pass


async def test_apart_and_in_a_cluster_is_refused(options) -> None:
    text = '[models.m]\nengine = "scripted"\napart = true\ncluster = true\n'
    with pytest.raises(ConfigError, match=r"\[models.m.cluster\] it is apart there anyway"):
        async with Brain.open(replace(parse(text, "here.toml"), cluster=options)):
            pass


async def test_a_wrong_key_is_named(options) -> None:
    text = '[models.m]\nengine = "scripted"\ncluster = {replica = 2}\n'
    with pytest.raises(ConfigError, match=r"here.toml: \[models.m.cluster\] .*'replicas'"):
        async with Brain.open(replace(parse(text, "here.toml"), cluster=options)):
            pass


async def test_the_cluster_table_is_read_and_checked() -> None:
    read = parse('[models.m]\nengine = "scripted"\n[cluster]\naddress = "10.1.2.3:6379"\n', "t")
    assert read.cluster.address == "10.1.2.3:6379"
    for wrong in ("ray://x:1", "somewhere", "x:y"):
        with pytest.raises(ConfigError, match="address"):
            parse(f'[models.m]\nengine = "scripted"\n[cluster]\naddress = "{wrong}"\n', "t")
