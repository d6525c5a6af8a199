"""Jobs outlive servers, are run once by several, and go when their time has come."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bicameral.brain import Brain
from bicameral.config import VideosOptions, parse
from bicameral.server.metrics import Metrics
from bicameral.server.videos import form
from bicameral.server.videos.files import Files
from bicameral.server.videos.job import Job, new_id
from bicameral.server.videos.jobs import Jobs, home
from bicameral.server.videos.runner import Pulse
from bicameral.server.videos.table import Full, NoRoom, Table
from bicameral.types import Modality, Request
from tests.server.client import call, until
from tests.server.filming import FILM, GIF, MP4, SLOW, ended, get, kept, post, running
from tests.server.filming import form as send_form
from tests.server.live import serving

FAST = SLOW.replace("delay = 0.05", "delay = 0.0")
QUICK = Pulse(beat=0.02, lease=30.0, look=0.02)
ASKED = Request.ask("a secret", output=Modality.VIDEO)


@pytest.fixture
def table(tmp_path: Path):
    table = Table(tmp_path / "jobs.sqlite3")
    yield table
    table.close()


def job(model: str = "film", **fields: Any) -> Job:
    return Job(**{"id": new_id(), "caller": "", "model": model, "created": time.time(), **fields})


def put(table: Table, *jobs: Job) -> None:
    for one in jobs:
        table.add(one, None, queue=100, room=2**40)


def claim(table: Table, owner: str = "me", *, lasts: float = 30.0, now=None, tries=2) -> Job | None:
    now = time.time() if now is None else now
    return table.claim(owner, ("film", "slow"), now=now, until=now + lasts, tries=tries)


# --- restarts ------------------------------------------------------------------------------------


async def test_what_was_queued_and_what_ran_is_done_by_the_next_server(tmp_path, table) -> None:
    async with serving(FILM + SLOW + kept(tmp_path)) as live:
        first = (await post(live, model="slow", prompt="a secret")).json["id"]
        await running(live)
        second = (await send_form(live, ("prompt", "x"), ("input_reference", GIF))).json["id"]
        (mode,) = {path.stat().st_mode & 0o777 for path in tmp_path.glob("*/video_*")}
        assert mode == 0o600
        slow = live.scripted("slow")
    assert (slow.cancelled, slow.running) == (1, 0)
    waiting, queued = (table.find(id, "") for id in (first, second))
    assert (waiting.status, waiting.progress, waiting.tries) == ("queued", 0, 0)
    assert (queued.status, queued.tries) == ("queued", 0)
    async with serving(FILM + FAST + kept(tmp_path)) as live:
        for id in (first, second):
            assert (await ended(live, id))["status"] == "completed"
            assert (await get(live, id, "/content")).body == MP4
    assert b"a secret" not in b"".join(p.read_bytes() for p in tmp_path.glob("**/*") if p.is_file())


@pytest.mark.parametrize(("tries", "status"), [(2, "completed"), (1, "failed")])
async def test_what_ran_when_a_server_died_is_run_again_so_often(tmp_path, table, tries, status):
    lost = job(stored=1)
    Files(tmp_path).ask(lost.id, ASKED)
    put(table, lost)
    assert claim(table, "dead", lasts=-1.0).id == lost.id
    async with serving(FILM + kept(tmp_path, tries=tries)) as live:
        found = await ended(live, lost.id)
        assert (found["status"], live.scripted("film").runs) == (status, tries - 1)
        if status == "failed":
            assert found["error"]["code"] == "interrupted"
            assert "1 times" in found["error"]["message"]
    assert table.find(lost.id, "").tries == tries


async def test_a_job_whose_input_is_gone_fails(tmp_path, table) -> None:
    lost = job()
    put(table, lost)
    async with serving(FILM + kept(tmp_path)) as live:
        assert (await ended(live, lost.id))["error"]["code"] == "input_gone"


async def test_a_job_of_a_model_that_is_not_here_waits_for_a_server_that_has_it(tmp_path, table):
    other = job("elsewhere")
    Files(tmp_path).ask(other.id, ASKED)
    put(table, other)
    async with serving(FILM + kept(tmp_path)) as live:
        await ended(live, (await post(live)).json["id"])
        assert (await get(live, other.id)).json["status"] == "queued"


# --- several servers -----------------------------------------------------------------------------


async def test_two_servers_on_one_table_run_each_job_once(tmp_path) -> None:
    config = FILM + kept(tmp_path, running=3)
    async with serving(config) as one, serving(config) as two:
        made = [(await post(live)).json["id"] for live in (one, two) * 6]
        for id in made:
            assert (await ended(two, id))["status"] == "completed"
            assert (await get(one, id, "/content")).body == MP4
        assert one.scripted("film").runs + two.scripted("film").runs == len(made)


@asynccontextmanager
async def studio(tmp_path: Path, config: str = SLOW, **options: Any):
    """Jobs without HTTP, with a quick pulse, and the scripted model."""
    async with Brain.open(parse(config, "test")) as brain:
        settings = VideosOptions(path=str(tmp_path), **options)
        jobs = await Jobs.open(settings, brain, Metrics(), QUICK)
        try:
            yield jobs, next(iter(brain.models.values()))._model
        finally:
            await jobs.close()


async def add(jobs: Jobs, model: str = "slow", caller: str = "") -> Job:
    made, fresh = await jobs.add(form.Asked(model, ASKED), model, caller, wait=None, repeat=None)
    assert fresh
    return made


async def test_a_job_cancelled_at_another_server_is_stopped_here(tmp_path, table) -> None:
    async with studio(tmp_path) as (jobs, model):
        made = await add(jobs)
        await until(lambda: model.running)
        table.cancel(made.id, "", now=1.0, expires=2e9)
        await until(lambda: model.cancelled)
        assert (await jobs.find(made.id, "")).status == "cancelled"


async def test_a_job_that_another_server_took_over_is_left_to_it(tmp_path, table) -> None:
    async with studio(tmp_path) as (jobs, model):
        made = await add(jobs)
        await until(lambda: model.running)
        taken = claim(table, "other", now=time.time() + 3600)
        assert (taken.id, taken.tries) == (made.id, 2)
        await until(lambda: model.cancelled)
    left = table.find(made.id, "")
    assert (left.status, left.tries) == ("in_progress", 2)
    assert Files(tmp_path).asked(made.id).question == "a secret"


async def test_a_running_job_keeps_its_claim_and_tells_its_progress(tmp_path, table) -> None:
    async with studio(tmp_path) as (jobs, model):
        made = await add(jobs)
        await until(lambda: (found := table.find(made.id, "")) and found.progress > 0)
        assert claim(table, "other", now=time.time() + 20) is None
        await jobs.delete(made.id, "")
        assert (model.cancelled, model.running) == (1, 0)


# --- the queue -----------------------------------------------------------------------------------


async def test_a_full_queue_refuses_with_a_number(tmp_path) -> None:
    async with serving(SLOW + kept(tmp_path, queue=2)) as live:
        await post(live)
        await running(live)
        queued = [(await post(live)).json["id"] for _ in range(2)]
        for path in ("/v1/videos", "/v1/videos/sync"):
            got = await post(live, path=path)
            assert (got.status, got.error["code"]) == (429, "queue_full")
            assert got.error["message"].startswith("2 videos wait")
            assert got.headers["retry-after"] == "10"
        assert len(list(tmp_path.glob("asked/*"))) == 3
        await call(live, "DELETE", f"/v1/videos/{queued[0]}")
        assert (await post(live)).status == 200


async def test_who_waits_for_a_clip_takes_a_slot_as_jobs_do(tmp_path) -> None:
    async with serving(FILM + SLOW + kept(tmp_path)) as live:
        id = (await post(live, model="slow")).json["id"]
        await running(live)
        waiting = asyncio.create_task(post(live, path="/v1/videos/sync", model="film"))
        await post(live, model="film")
        assert live.scripted("film").runs == 0
        await call(live, "POST", f"/v1/videos/{id}/cancel")
        assert (await waiting).body == MP4


def test_callers_take_turns(table) -> None:
    put(table, *(job(caller="a") for _ in range(3)), *(job(caller="b") for _ in range(2)))
    order = [claim(table, now=time.time() + n).caller for n in range(5)]
    assert order == ["a", "b", "a", "b", "a"]
    assert claim(table) is None


def test_a_claim_is_one_servers_until_it_is_over(table) -> None:
    put(table, job())
    mine = claim(table, "me", now=100.0)
    assert claim(table, "you", now=129.0) is None
    assert table.renew(mine.id, "me", until=200.0, progress=7)
    assert not table.renew(mine.id, "you", until=999.0, progress=9)
    assert claim(table, "you", now=199.0) is None
    assert claim(table, "you", now=200.0).tries == 2
    assert not table.renew(mine.id, "me", until=999.0, progress=9)
    assert not table.complete(mine, "me", room=99)
    assert not table.fail(mine.id, "me", code="x", message="", now=1.0, expires=1.0)
    table.give_back(mine.id, "me", at=0.0)
    assert table.find(mine.id, "").status == "in_progress"
    table.give_back(mine.id, "you", at=300.0)
    assert claim(table, now=299.0) is None
    assert claim(table, now=300.0).tries == 2


def test_the_table_takes_no_more_than_it_is_allowed(table) -> None:
    table.add(job(stored=6), None, queue=2, room=10)
    with pytest.raises(NoRoom):
        table.add(job(stored=5), None, queue=2, room=10)
    table.add(job(stored=4), None, queue=2, room=10)
    with pytest.raises(Full):
        table.add(job(), None, queue=2, room=10)
    assert table.counts()["queued"] == 2
    mine = claim(table)
    with pytest.raises(NoRoom):
        table.complete(Job(**{**as_dict(mine), "stored": 7}), "me", room=10)
    assert table.find(mine.id, "").stored == mine.stored


def as_dict(made: Job) -> dict[str, Any]:
    return {name: getattr(made, name) for name in Job.__struct_fields__}


# --- room and time -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "code"),
    [({"max_total": 700}, "storage_full"), ({"max_result": 99}, "result_too_large")],
)
async def test_a_clip_that_there_is_no_room_for_fails_its_job(tmp_path, options, code) -> None:
    async with serving(FILM + kept(tmp_path, **options)) as live:
        job = await ended(live, (await post(live)).json["id"])
        assert job["error"]["code"] == code
        await until(lambda: not list(tmp_path.glob("*/video_*")))
        at_once = await post(live, path="/v1/videos/sync")
        assert at_once.status == (507 if "max_result" in options else 200)


async def test_what_there_is_no_room_for_is_not_queued(tmp_path) -> None:
    async with serving(FILM + kept(tmp_path, max_total=700, max_upload=4096)) as live:
        got = await send_form(live, ("prompt", "x" * 700))
        assert (got.status, got.error["code"]) == (507, "storage_full")
        assert got.headers["x-should-retry"] == "false"
        assert not list(tmp_path.glob("asked/*"))
        assert (await send_form(live, ("prompt", "x" * 4096))).status == 413
        assert (await call(live, "GET", "/v1/videos")).json["data"] == []


async def test_a_disk_that_cannot_be_written_says_so_and_no_path(tmp_path) -> None:
    async with serving(FILM + kept(tmp_path)) as live:
        (tmp_path / "made").rmdir()
        (tmp_path / "made").touch()
        job = await ended(live, (await post(live)).json["id"])
        assert job["error"]["code"] == "storage_full"
        while any((tmp_path / "asked").iterdir()):  # it is forgotten once the table knows
            await asyncio.sleep(0.01)
        (tmp_path / "asked").rmdir()
        got = await post(live)
        assert (got.status, got.error["code"]) == (503, "videos_unavailable")
        assert str(tmp_path) not in got.error["message"] + job["error"]["message"]


async def test_a_table_of_another_program_is_left_alone(tmp_path) -> None:
    db = sqlite3.connect(tmp_path / "jobs.sqlite3")
    db.execute("CREATE TABLE theirs (x)")
    db.close()
    async with serving(FILM + kept(tmp_path)) as live:
        assert (await post(live)).error["code"] == "videos_unavailable"
        assert (await call(live, "GET", "/metrics")).status == 200
        assert (await call(live, "GET", "/readyz")).status == 200


async def test_a_clip_expires_then_its_file_goes_then_its_record(tmp_path) -> None:
    async with serving(FILM + kept(tmp_path, keep_seconds=100)) as live:
        made = (await post(live)).json["id"]
        job = await ended(live, made)
        assert job["expires_at"] - job["completed_at"] in (99, 100, 101)
        runner = live.server.app.videos._jobs._runner
        assert (await get(live, made, "/content")).status == 200
        for later, status, known, files in ((101, 410, 200, 1), (101, 410, 200, 0)):
            runner.clock = lambda later=later: time.time() + later
            got = await get(live, made, "/content")
            assert (got.status, (await get(live, made)).status) == (status, known)
            assert got.error["code"] == "video_expired"
            assert len(list(tmp_path.glob("made/*"))) == files
            await runner.sweep()
            assert not list(tmp_path.glob("made/*"))
        runner.clock = lambda: time.time() + 201
        await runner.sweep()
        assert (await get(live, made)).status == 404


def test_jobs_that_nobody_takes_up_are_given_up(table) -> None:
    old, new = job(created=10.0), job(created=20.0)
    put(table, old, new)
    assert table.unwanted(before=15.0, now=16.0, expires=17.0) == [old.id]
    given_up = table.find(old.id, "")
    assert (given_up.status, given_up.code, given_up.expires) == ("failed", "not_taken_up", 17.0)
    assert table.find(new.id, "").status == "queued"
    assert table.expired(now=18.0, before=16.0) == []
    assert table.find(old.id, "")
    table.expired(now=18.0, before=17.0)
    assert table.ids() == table.ids(live=True) == {new.id}


def test_what_a_crash_left_is_tidied_away_after_an_hour(tmp_path) -> None:
    files = Files(tmp_path)
    ids = live, done, _gone, fresh = [new_id() for _ in range(4)]
    for id in ids:
        files.ask(id, ASKED)
        files.make(id, b"clip")
    (tmp_path / "made" / f"{live}.0123").write_bytes(b"half")
    for path in tmp_path.glob("*/video_*"):
        if fresh not in path.name:
            os.utime(path, (1.0, 1.0))
    assert files.tidy({live, done}, {live}) == 4
    assert {p.name for p in tmp_path.glob("asked/*")} == {live, fresh}
    assert {p.name for p in tmp_path.glob("made/*")} == {live, done, fresh}


def test_no_name_from_outside_names_a_file(tmp_path) -> None:
    files = Files(tmp_path / "videos")
    (tmp_path / "secret").write_bytes(b"x")
    for id in (
        "../../secret",
        "video_../../secret",
        "",
        ".",
        "video_" + "0" * 31,
        "video_" + "G" * 32,
    ):
        with pytest.raises(FileNotFoundError):
            files.made(id)
        with pytest.raises(FileNotFoundError):
            files.forget(id)


async def test_no_path_in_an_address_reaches_a_file(tmp_path) -> None:
    async with serving(FILM + kept(tmp_path)) as live:
        for id in ("..%2f..%2fjobs.sqlite3", "%2e%2e", "jobs.sqlite3", "%00", "a" * 3000):
            for what in ("", "/content"):
                got = await get(live, id, what)
                assert got.status == 404


def test_the_folder_is_that_of_the_state(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert home(VideosOptions()) == tmp_path / "bicameral" / "videos"
    assert home(VideosOptions(path="~/films")).is_absolute()
