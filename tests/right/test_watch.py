"""Watches end to end: real files, a scripted reasoner."""

from __future__ import annotations

import asyncio
import json
import threading
from itertools import count

import cv2
import numpy as np
import pytest

from bicameral.errors import RequestError, Unauthorized, Unreachable, Unsupported
from bicameral.right.stream.asker import Wish
from bicameral.right.stream.clock import Wall
from bicameral.right.stream.frame import Frame
from bicameral.right.stream.notices import (
    Alarm,
    Described,
    Digest,
    Dismissed,
    Down,
    Ended,
    Opened,
    Stats,
    Suppressed,
    Undescribed,
    Woke,
)
from bicameral.right.stream.sources import open_source
from bicameral.right.stream.suppressed import SuppressedLog
from bicameral.types import Answer, Image, Text
from tests.right.streams import (
    Listed,
    Reasoner,
    Told,
    adds_up,
    movie,
    of,
    save_video,
    scene,
    told,
    watching,
)

TWICE = [(5.0, 7.0), (15.0, 17.0)]


async def test_a_video_file_alarms_once_for_each_event(tmp_path) -> None:
    path = save_video(tmp_path / "door.avi", movie(25, TWICE))
    ask = Reasoner("Yes, a box.")
    notices = await told(watching(open_source(str(path), Wall()), ask))
    assert isinstance(notices[0], Opened)
    assert [round(n.start) for n in of(notices, Ended)] == [5, 15]
    alarms = of(notices, Alarm)
    assert [(a.id, a.phase) for a in alarms] == [("e1", "start"), ("e2", "start")]
    for alarm, (start, end) in zip(alarms, TWICE, strict=True):
        assert start <= alarm.at <= end
    assert [d.text for d in of(notices, Described)] == ["Yes, a box."] * 2
    stats = notices[-1]
    assert (stats.frames, stats.woken, stats.calls) == (250, 2, 4)
    adds_up(stats)


async def test_the_question_shows_the_moment_and_asks_yes_or_no_first(tmp_path) -> None:
    ask = Reasoner("no")
    notices = await told(watching(Listed(movie(10, [(5.0, 7.0)])), ask))
    (request,) = ask.requests
    picture, words = request.messages[1].parts
    assert isinstance(picture, Image)
    assert isinstance(words, Text)
    assert "a box moves" in words.text
    assert "yes or no" in words.text
    shown = cv2.imdecode(np.frombuffer(picture.data, np.uint8), cv2.IMREAD_COLOR)
    assert shown.max() > 200  # the box is in it
    (dismissed,) = of(notices, Dismissed)
    assert dismissed.answer == "no"


async def test_every_frame_is_accounted_for_in_the_log(tmp_path) -> None:
    path = tmp_path / "suppressed.jsonl"
    with SuppressedLog(path) as log:
        notices = await told(watching(Listed(movie(20, TWICE)), Reasoner(), observe=log))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    stats = notices[-1]
    assert len(rows) == sum(stats.suppressed.values()) == stats.frames - stats.woken
    assert {row["reason"] for row in rows} == set(stats.suppressed)
    told_rows = of(notices, Suppressed)
    assert sum(row.frames for row in told_rows) == len(rows)
    highest = max(row["score"] for row in rows if row["reason"] == "ongoing")
    assert highest == pytest.approx(
        max(r.peak for r in told_rows if r.reason == "ongoing"), abs=1e-3
    )


async def test_two_watchers_get_each_their_own_answers() -> None:
    yes, no = Reasoner("yes"), Reasoner("no")
    first, second = await asyncio.gather(
        told(watching(Listed(movie(10, [(3.0, 5.0)])), yes, wish=Wish(ask="box"))),
        told(watching(Listed(movie(10, [(6.0, 8.0)])), no, wish=Wish(ask="cat"))),
    )
    assert (len(of(first, Alarm)), len(of(second, Alarm))) == (1, 0)
    assert (len(of(first, Dismissed)), len(of(second, Dismissed))) == (0, 1)
    for asked, mine in ((yes, "box"), (no, "cat")):
        assert all(mine in request.question for request in asked.requests[:1])


async def test_a_reader_that_hangs_up_stops_the_source() -> None:
    endless = (Frame(index=i, at=i / 10, pixels=scene(seed=i)) for i in count())
    source = Listed(endless, live=True)
    run = watching(source, Reasoner()).run()
    async for notice in run:
        assert isinstance(notice, Opened)
        break
    await run.aclose()
    assert await asyncio.to_thread(source.closed.wait, 10)
    assert len(asyncio.all_tasks()) == 1


async def test_a_slow_reader_makes_a_recording_wait_and_nothing_pile_up() -> None:
    taken: list[int] = []

    def frames():
        for frame in movie(30, [(t, t + 0.5) for t in range(1, 30, 2)]):
            taken.append(frame.index)
            yield frame

    watch = watching(Listed(frames()), Reasoner(), quiet=0.1, cooldown=0.0, settle=0.0, summary=0.1)
    seen = 0
    async for _ in watch.run():
        seen += 1
        if seen == 3:
            before = -1
            while len(taken) > before:
                before = len(taken)
                await asyncio.sleep(0.3)
            assert len(taken) < 300
    assert len(taken) == 300


async def test_live_input_at_ten_times_the_speed_is_dropped_and_counted_not_kept() -> None:
    gone = threading.Event()

    class Slow:
        name, threshold = "slow", 0.5

        def score(self, frame: Frame) -> float:
            gone.wait(0.002)
            return 0.0

        def reset(self) -> None: ...

    fast = (Frame(index=i, at=i / 100, pixels=scene(seed=i % 7)) for i in range(2000))
    stats = (await told(watching(Listed(fast, live=True), Reasoner(), gate=Slow())))[-1]
    edge = stats.edges["frames"]
    assert stats.frames == 2000
    assert edge.policy == "latest"
    assert edge.dropped > 1000
    assert edge.waiting == 0
    assert edge.age_p95 < 1.0  # one is being scored, at most two wait
    adds_up(stats)


async def test_a_storm_is_asked_about_within_its_budget_and_told_together() -> None:
    flashes = [(t, t + 0.3) for t in np.arange(1.0, 59.0, 0.8)]
    ask = Reasoner("no")
    settings = {"wakes": 6.0, "burst": 2, "quiet": 0.1, "cooldown": 0.0, "settle": 0.0}
    notices = await told(watching(Listed(movie(60, flashes)), ask, summary=20.0, **settings))
    assert len(ask.requests) <= 2 + 6
    digests = of(notices, Digest)
    assert 1 <= len(digests) <= 4
    assert sum(d.events for d in digests) > 40
    assert any(woke.phase == "digest" for woke in of(notices, Woke))
    adds_up(notices[-1])


async def test_the_reasoner_away_and_back_loses_no_event() -> None:
    """Ten minutes away by a clock of its own: what waits is described late."""
    clock, ask = Told(), Reasoner(down=Unreachable("far", "no route"))

    async def pause(seconds: float) -> None:
        clock.move(seconds)
        if clock.now() > 600:
            ask.down = None
        await asyncio.sleep(0)

    frames = Listed(movie(60, [(t, t + 2) for t in range(5, 60, 10)]), live=True)
    frames.items = list(frames.items)
    watch = watching(_Sure(frames), ask, clock=clock, pause=pause)
    notices = await told(watch)
    stats = notices[-1]
    assert stats.undescribed == 0
    assert stats.yes == stats.woken >= 1
    assert stats.late >= 1
    assert [down.up for down in of(notices, Down)] == [False, True]
    adds_up(stats)


async def test_a_reasoner_that_never_comes_back_leaves_every_event_marked() -> None:
    clock, ask = Told(), Reasoner(down=Unreachable("far", "no route"))

    async def pause(seconds: float) -> None:
        clock.move(seconds)
        await asyncio.sleep(0)

    frames = movie(30, [(5.0, 7.0), (15.0, 17.0)])
    notices = await told(watching(Listed(frames), ask, clock=clock, pause=pause, patience=120.0))
    assert {u.id for u in of(notices, Undescribed)} == {"e1", "e2"}
    assert notices[-1].undescribed == 2
    adds_up(notices[-1])


async def test_more_events_than_the_backlog_takes_are_told_one_by_one() -> None:
    never = asyncio.Event()

    async def ask(request) -> Answer:
        await never.wait()
        return Answer(model="m", text="yes")

    bursts = [(t, t + 0.3) for t in np.arange(1.0, 30.0, 1.0)]
    watch = watching(
        _Sure(Listed(movie(31, bursts), live=True)), ask, backlog=3, wakes=6000.0, burst=1000,
        quiet=0.1, cooldown=0.0, settle=0.0,
    )  # fmt: skip
    notices = []
    async for notice in watch.run():
        notices.append(notice)
        if len(of(notices, Undescribed)) == 5:
            await watch.stop()
    stats = notices[-1]
    assert stats.undescribed == stats.woken >= 9  # five shed, three that waited, one under way
    adds_up(stats)


async def test_what_can_never_work_is_said_at_once_and_later_only_marked() -> None:
    for error in (Unsupported("no pictures", param="messages"), Unauthorized("far", "bad key")):
        with pytest.raises(type(error)):
            await told(watching(Listed(movie(20, TWICE)), Reasoner(down=error)))
    ask = Reasoner("no")

    async def sour(request) -> Answer:
        if ask.requests:
            ask.down = Unauthorized("far", "the key was revoked")
        return await ask(request)

    notices = await told(watching(Listed(movie(20, TWICE)), sour))
    (marked,) = of(notices, Undescribed)
    assert "revoked" in marked.why


async def test_a_model_that_hangs_is_given_up_after_its_time() -> None:
    asked = 0

    async def ask(request) -> Answer:
        nonlocal asked
        asked += 1
        if asked == 1:
            await asyncio.sleep(60)
        return Answer(model="m", text="yes")

    async def pause(seconds: float) -> None: ...

    watch = watching(Listed(movie(10, [(5.0, 7.0)])), ask, within=0.05, pause=pause)
    notices = await told(watch)
    assert len(of(notices, Alarm)) == 1
    assert len(of(notices, Down)) == 2


async def test_stop_ends_well() -> None:
    endless = (Frame(index=i, at=i / 10, pixels=scene(seed=i)) for i in count())
    watch = watching(Listed(endless, live=True), Reasoner())
    notices = []
    async for notice in watch.run():
        if not notices:
            await watch.stop()
        notices.append(notice)
    assert isinstance(notices[-1], Stats)
    adds_up(notices[-1])


async def test_evidence_is_saved_and_shown_on_request(tmp_path) -> None:
    wish = Wish(ask="box", picture=True, folder=tmp_path / "clips")
    notices = await told(watching(Listed(movie(10, [(5.0, 7.0)])), Reasoner(), wish=wish))
    (alarm,) = of(notices, Alarm)
    capture = cv2.VideoCapture(alarm.clip)
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) > 10
    capture.release()
    assert alarm.picture.startswith("data:image/jpeg;base64,/9j/")


async def test_an_alarm_rings_even_if_its_clip_cannot_be_saved(tmp_path) -> None:
    (tmp_path / "clips").write_text("a file is in the way")
    wish = Wish(ask="box", folder=tmp_path / "clips")
    (alarm,) = of(
        await told(watching(Listed(movie(8, [(4.0, 6.0)])), Reasoner(), wish=wish)), Alarm
    )
    assert alarm.clip is None
    assert "could not be saved" in alarm.why


async def test_a_source_that_cannot_be_read_is_an_error(tmp_path) -> None:
    path = save_video(tmp_path / "cut.avi", movie(1, []))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(RequestError) as caught:
        await told(watching(open_source(str(path), Wall()), Reasoner()))
    assert caught.value.param == "source"


async def test_a_gate_that_cannot_read_the_source_is_an_error() -> None:
    sound = [Frame(index=0, at=0.0, samples=np.zeros(1600, np.float32))]
    with pytest.raises(RequestError) as caught:
        await told(watching(Listed(sound, kind="sound"), Reasoner(), gate="motion"))
    assert caught.value.param == "gate"


class _Sure:
    """A live source whose frames all pass, as the reader takes turns with whoever watches."""

    kind, live, label = "video", True, "sure"

    def __init__(self, source: Listed) -> None:
        self._source = source

    def frames(self):
        nap = threading.Event()
        for frame in self._source.frames():
            nap.wait(0.002)
            yield frame
