from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from bicameral.errors import (
    Broken,
    ConfigError,
    ModelError,
    Overloaded,
    Rejected,
    RequestError,
    Timeout,
    Unreachable,
)
from bicameral.ledger.meter import Meter
from bicameral.model import collect
from bicameral.right import apart
from bicameral.right.apart import Apart, Settings
from bicameral.types import Image, Message, Request, Text

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Brittle is an installed plugin for every process the test starts."""
    site = tmp_path / "site"
    info = site / "brittle-1.0.dist-info"
    info.mkdir(parents=True)
    shutil.copy(HERE / "brittle.py", site / "brittle.py")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brittle\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bicameral.engines]\nbrittle = brittle\n")
    monkeypatch.setenv("PYTHONPATH", str(site))


@asynccontextmanager
async def opened(engine: str = "brittle", keys: dict | None = None, **settings: object):
    table = {"engine": engine, **(keys or {})}
    async with apart.open("m", table, Settings(**settings), "test") as model:
        yield model


@pytest.fixture
async def model() -> AsyncIterator[Apart]:
    async with opened() as model:
        yield model


async def ask(model: Apart, text: str, *images: bytes, **fields: object) -> str:
    parts = (Text(text), *(Image(data=data, media_type="image/png") for data in images))
    answer = await collect(model, Request(messages=(Message("user", parts),), **fields))
    if answer.error:
        raise answer.error
    return answer.text


async def until(true) -> None:
    for _ in range(3000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never became true")


async def test_it_answers_from_another_process_with_the_card_from_there(model: Apart) -> None:
    assert await ask(model, "say hello there") == "hello there"
    assert int(await ask(model, "pid")) != os.getpid()
    assert model.card.engine == "brittle"


async def test_a_scripted_member_answers_the_same_apart() -> None:
    async with opened("scripted", {"reply": "one two", "usage": True}) as model:
        answer = await collect(model, Request.ask("hi"))
        assert (answer.text, answer.error) == ("one two", None)
        assert answer.usage.completion_tokens == 2


async def test_large_bytes_travel_through_the_pool_and_are_freed(model: Apart) -> None:
    pictures = [os.urandom(200_000), b"tiny", os.urandom(5000)]
    expected = " ".join(hashlib.sha256(data).hexdigest() for data in pictures)
    assert await ask(model, "look", *pictures) == expected
    assert model._pool.stats().copies == 2
    await until(lambda: model._pool.stats().leases == 0)


async def test_an_answer_beyond_a_packet_arrives_whole(model: Apart) -> None:
    answer = await collect(model, Request.ask("long 5000"))
    assert answer.embeddings[0].values == tuple(map(float, range(5000)))


async def test_forty_pictures_at_once_in_a_pool_for_three() -> None:
    async with opened(pool=700_000) as model:
        pictures = [os.urandom(200_000) for _ in range(40)]
        said = await asyncio.gather(*(ask(model, "look", data) for data in pictures))
        assert said == [hashlib.sha256(data).hexdigest() for data in pictures]
        assert model._pool.stats().peak <= 700_032
        with pytest.raises(Overloaded, match="raise its limit"):
            await ask(model, "look", bytes(800_000))
        assert await ask(model, "say fine") == "fine"


async def test_errors_arrive_as_they_were(model: Apart) -> None:
    with pytest.raises(RequestError, match="no such thing") as caught:
        await ask(model, "refuse")
    assert (caught.value.param, caught.value.code) == ("thing", "nothing")
    async with opened("scripted", {"fail": "rejected"}) as scripted:
        with pytest.raises(Rejected) as refused:
            await ask(scripted, "hi")
        assert refused.value.status == 400
        assert refused.value.model == "m"


async def test_a_bug_of_the_engine_fails_one_request_only(capfd) -> None:
    async with opened() as model:
        others = [asyncio.create_task(ask(model, "say fine")) for _ in range(5)]
        with pytest.raises(Broken, match="ZeroDivisionError: oops"):
            await ask(model, "bug")
        assert await asyncio.gather(*others) == ["fine"] * 5
        assert model.restarts == 0
    assert "ZeroDivisionError: oops" in capfd.readouterr().err


async def test_what_it_prints_is_seen_on_stderr(capfd) -> None:
    async with opened() as model:
        await ask(model, "shout")
    out, err = capfd.readouterr()
    assert out == ""
    assert "to stdout" in err
    assert "to stderr" in err


async def test_a_request_cut_off_by_a_crash_is_asked_again(model: Apart, tmp_path: Path) -> None:
    assert await ask(model, f"once {tmp_path / 'flag'}") == "the second time"
    assert model.restarts == 1


async def test_the_try_that_a_crash_cut_off_is_booked_too(model: Apart, tmp_path: Path) -> None:
    calls = []
    metered = Meter(model, lambda call, _: calls.append(call))
    await collect(metered, Request.ask(f"once {tmp_path / 'flag'}"))
    assert [call.ended for call in calls] == ["failed", "finished"]
    assert "its process died" in calls[0].error
    assert calls[0].state == "estimated"


async def test_a_request_that_kills_twice_is_a_clear_error(model: Apart) -> None:
    with pytest.raises(Broken, match=r"its process died as it answered .*exit code -9"):
        await ask(model, "die")
    assert model.crashes == 2
    await until(model._up.is_set)
    assert await ask(model, "say back") == "back"
    assert model.crashes == 0


async def test_an_answer_that_had_begun_is_not_begun_again(model: Apart) -> None:
    heard = []
    with pytest.raises(Broken, match="exit code -9"):
        async with aclosing(model.run(Request.ask("half"))) as events:
            heard += [event.part.text async for event in events]
    assert heard in ([], ["half"])
    await until(lambda: model.restarts == 1)


async def test_others_in_flight_are_answered_after_a_crash(model: Apart, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    slow = asyncio.create_task(ask(model, f"slow {tmp_path / 'x'}", deadline=None))
    await asyncio.sleep(0.1)
    assert await ask(model, f"once {flag}") == "the second time"
    assert not slow.done()  # it waits on in the new process
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)


async def test_repeated_crashes_back_off(model: Apart) -> None:
    said = []
    for _ in range(3):
        with pytest.raises(ModelError) as caught:
            await ask(model, "die")
        said.append(caught.value)
    assert isinstance(said[-1], Unreachable)
    assert re.search(r"died [34] times; it starts in [1-4] s", str(said[-1]))


async def test_a_process_that_hangs_is_killed_and_replaced() -> None:
    async with opened(silent=1.5) as model:
        before = await ask(model, "pid")
        with pytest.raises(Broken, match="said nothing"):
            await ask(model, "hang")
        await until(model._up.is_set)
        assert await ask(model, "pid") != before


async def test_closing_the_stream_cancels_the_work_there(model: Apart, tmp_path: Path) -> None:
    flag = tmp_path / "cancelled"
    task = asyncio.create_task(ask(model, f"slow {flag}"))
    await asyncio.sleep(0.2)
    assert not flag.exists()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(flag.exists)
    await until(lambda: not model._stopping)
    assert model.restarts == 0


async def test_a_deaf_engine_is_killed_once_the_deadline_has_passed() -> None:
    async with opened(grace=0.3) as model:
        with pytest.raises(Timeout):
            await ask(model, "deaf", deadline=time.monotonic() + 0.2)
        await until(lambda: model.restarts == 1)
        await until(model._up.is_set)
        assert await ask(model, "say back") == "back"


async def test_a_slow_reader_holds_the_model_up_and_nobody_else(model: Apart) -> None:
    async with aclosing(model.run(Request.ask("count 5000"))) as events:
        await anext(events)
        assert await ask(model, "say fine") == "fine"
        await asyncio.sleep(0.2)
        [run] = model._runs.values()
        assert run.events.qsize() <= 64
        rest = [event async for event in events]
    assert len(rest) == 5000


async def test_an_open_that_fails_there_fails_the_same_here() -> None:
    with pytest.raises(ConfigError, match=r"\[models.m\] opens: badly, as it was told"):
        async with opened(keys={"opens": "badly"}):
            pass
    with pytest.raises(ConfigError, match="did you mean 'opens'"):
        async with opened(keys={"open": "badly"}):
            pass


async def test_a_process_that_dies_as_it_opens_is_told() -> None:
    with pytest.raises(ConfigError, match="died before the model was open"):
        async with opened(keys={"opens": "never"}):
            pass


async def test_it_is_pinned_and_bounded(capfd) -> None:
    core = max(os.sched_getaffinity(0))
    async with opened(cores=(core,)) as model:
        assert await ask(model, "cores") == f"[{core}]"
    with pytest.raises(ConfigError, match="no core 9999"):
        async with opened(cores=(9999,)):
            pass
    with pytest.raises(ConfigError, match="died before"):
        async with opened(memory=2**24):
            pass
    capfd.readouterr()


async def test_secrets_come_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "a secret")
    async with opened() as model:
        assert await ask(model, "env SOME_KEY") == "a secret"
        assert not any("secret" in word for word in model._process.args)


async def test_nothing_is_left_when_it_is_closed() -> None:
    async with opened() as model:
        pid = model._process.pid
        fds = len(os.listdir("/proc/self/fd"))
        assert await ask(model, "say hello") == "hello"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert len(os.listdir("/proc/self/fd")) < fds
    with pytest.raises(Unreachable, match="closed"):
        await ask(model, "say hello")
