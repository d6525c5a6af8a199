"""The parts of a watch: edges, wakes, the look-out for faults, what waits."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from bicameral.right.stream import question
from bicameral.right.stream.edge import Edge, Over
from bicameral.right.stream.evidence import Shot, Sighting
from bicameral.right.stream.faults import checked
from bicameral.right.stream.flow import Rate, buffered, paced
from bicameral.right.stream.frame import Frame
from bicameral.right.stream.notices import Gap
from bicameral.right.stream.pending import Pending
from bicameral.right.stream.settings import WatchSettings
from bicameral.right.stream.suppressed import SuppressedLog
from bicameral.right.stream.wake import Bucket, Waker
from tests.right.streams import Listed, Told, scene


def frames(times: list[float], **how) -> list[Frame]:
    return [Frame(index=i, at=at, pixels=scene(seed=i, **how)) for i, at in enumerate(times)]


def gaps(items, **settings) -> list[Gap]:
    return [item for item in checked(items, WatchSettings(**settings)) if isinstance(item, Gap)]


# --- edges -------------------------------------------------------------------------------------


def test_latest_hands_over_the_newest_and_counts_the_rest() -> None:
    clock = Told()
    edge: Edge[int] = Edge("latest", 2, clock=clock.now)
    for item in range(5):
        edge.put(item)
    clock.move(3)
    assert edge.get() == 4
    count = edge.count()
    assert (count.put, count.out, count.dropped, count.waiting) == (5, 1, 4, 0)
    assert count.age_p95 == 3


def test_drop_oldest_keeps_the_order() -> None:
    edge: Edge[int] = Edge("drop_oldest", 3)
    for item in range(5):
        edge.put(item)
    assert [edge.get() for _ in range(3)] == [2, 3, 4]
    assert edge.get(timeout=0.001) is None


def test_what_is_too_old_expires_before_anybody_works_on_it() -> None:
    clock = Told()
    edge: Edge[int] = Edge("drop_oldest", 10, lifespan=1.0, clock=clock.now)
    edge.put(1)
    clock.move(2)
    edge.put(2)
    assert edge.get() == 2
    assert edge.count().expired == 1


def test_block_makes_the_giver_wait_and_close_lets_it_go() -> None:
    edge: Edge[int] = Edge("block", 1)
    assert edge.put(1)
    said: list[bool] = []
    giver = threading.Thread(target=lambda: said.append(edge.put(2)))
    giver.start()
    assert edge.get() == 1
    giver.join(5)
    assert said == [True]
    giver = threading.Thread(target=lambda: said.append(edge.put(3)))
    giver.start()
    edge.close()
    giver.join(5)
    assert said == [True, False]
    with pytest.raises(Over):
        edge.get()
    count = edge.count()
    assert count.put == count.out + count.dropped + count.expired + count.waiting


def test_control_is_not_dropped_for_data() -> None:
    edge: Edge[str] = Edge("latest", 2, control=str.isupper)
    for item in ("GAP", "a", "b", "c"):
        edge.put(item)
    assert [edge.get(), edge.get()] == ["GAP", "c"]


def test_finish_hands_over_what_waits() -> None:
    edge: Edge[int] = Edge("block", 5)
    edge.put(1)
    edge.finish()
    assert edge.get() == 1
    with pytest.raises(Over):
        edge.get()


# --- between source and gate -------------------------------------------------------------------


def test_a_recording_played_in_real_time_waits_for_each_frame() -> None:
    clock = Told()
    source = Listed(frames([0.0, 0.5, 2.0]))
    assert len(list(paced(source.frames(), clock))) == 3
    assert clock.now() == 2.0
    clock.stop()
    assert list(paced(Listed(frames([0.0, 1.0])).frames(), clock)) == []


def test_a_source_that_stalls_is_told_when_it_does_and_when_it_is_over() -> None:
    go = threading.Event()

    def items():
        yield from frames([0.0])
        go.wait(10)
        yield Frame(index=1, at=9.0, pixels=scene())

    edge: Edge = Edge("latest", 2)
    found = []
    for item in buffered(items(), edge, 0.05, Told()):
        found.append(item)
        if isinstance(item, Gap):
            go.set()
    stalled, over = (item for item in found if isinstance(item, Gap))
    assert (stalled.trouble, stalled.start, stalled.end) == ("stalled", 0.0, None)
    assert (over.start, over.end) == (0.0, 9.0)


def test_what_breaks_the_source_is_raised_where_it_is_read() -> None:
    def items():
        yield from frames([0.0])
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(buffered(items(), Edge("block", 4), None, Told()))


def test_ten_times_the_frames_are_no_more_work() -> None:
    for fps in (10, 25, 30, 100, 1000):
        rate = Rate(10.0)
        passed = sum(rate.passes(Frame(index=i, at=i / fps)) for i in range(10 * fps))
        assert 99 <= passed <= 101
        assert passed + rate.dropped == 10 * fps


# --- faults ------------------------------------------------------------------------------------


def test_time_that_runs_backwards_is_told_once_and_made_to_run_on() -> None:
    times = [0.0, 1.0, 2.0, 0.5, 1.5, 2.5]
    found = list(checked(frames(times), WatchSettings()))
    seen = [item.at for item in found if isinstance(item, Frame)]
    assert seen == sorted(seen)
    assert len(seen) == 6
    (gap,) = (item for item in found if isinstance(item, Gap))
    assert (gap.trouble, gap.start) == ("backwards", 2.0)


def test_a_clock_that_always_steps_back_is_no_flood() -> None:
    times = [10.0 - i * 0.01 for i in range(1000)]
    found = gaps(frames(times))
    assert len(found) <= 3
    assert sum(gap.count for gap in found) == 999


def test_what_is_missing_in_a_recording_is_told() -> None:
    (gap,) = gaps(frames([0.0, 1.0, 60.0, 61.0]), stall=10.0)
    assert (gap.trouble, gap.start, gap.end) == ("missing", 1.0, 60.0)


def test_a_frozen_picture_is_told_with_its_end() -> None:
    still = [Frame(index=i, at=i / 2, pixels=scene(seed=0)) for i in range(20)]
    after = [Frame(index=20, at=10.0, pixels=scene(seed=1))]
    began, over = gaps([*still, *after], frozen=5.0)
    assert (began.trouble, began.start, began.end) == ("frozen", 0.5, None)
    assert over.end == 10.0


def test_a_black_picture_is_told_and_is_not_frozen_too() -> None:
    black = [Frame(index=i, at=i / 2, pixels=scene() * 0) for i in range(30)]
    found = gaps(black, frozen=5.0, black=2.0)
    assert {gap.trouble for gap in found} == {"black"}
    assert found[-1].end == 14.5  # it goes on to the end of the source


def test_another_size_is_told() -> None:
    small = Frame(index=1, at=1.0, pixels=scene()[::2, ::2])
    (gap,) = gaps([*frames([0.0]), small])
    assert (gap.trouble, gap.detail) == ("changed", "160 x 96 to 80 x 48")


# --- waking ------------------------------------------------------------------------------------


def waker(**settings) -> Waker:
    chosen = {"quiet": 0.5, "cooldown": 2.0, "recheck": None, **settings}
    return Waker(WatchSettings(**chosen), threshold=1.0, settle=chosen.get("settle", 0.0))


def run(waker: Waker, scores: list[float], step: float = 0.1) -> list:
    return [waker.see(i * step, score) for i, score in enumerate(scores)]


def test_hysteresis_makes_one_event_of_a_score_that_trembles() -> None:
    seen = run(waker(release=0.5), [0, 1.2, 0.7, 1.1, 0.6, 0.9, *[0.0] * 10])
    assert [s.ask for s in seen if s.ask] == ["start"]
    (ended,) = (s.ended for s in seen if s.ended)
    assert (ended.start, ended.end, ended.peak) == pytest.approx((0.1, 0.5, 1.2))


def test_the_question_is_of_the_height_within_its_time_to_settle() -> None:
    seen = run(waker(settle=0.3), [0, 1, 3, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0])
    assert [i for i, s in enumerate(seen) if s.best][:2] == [1, 2]
    assert [i for i, s in enumerate(seen) if s.ask] == [4]
    assert [s.reason for s in seen[1:4]] == ["settling"] * 3


def test_an_event_shorter_than_that_is_asked_about_at_its_end() -> None:
    seen = run(waker(settle=5.0), [0, 2, 0, 0, 0, 0, 0, 0])
    (end,) = (s for s in seen if s.ask)
    assert end.ended is not None


def test_the_cool_down_suppresses_and_says_so() -> None:
    seen = run(waker(), [2, *[0] * 7, 2, 2, 2, *[0] * 20, 2])
    assert [s.reason for s in seen[8:11]] == ["cooldown"] * 3
    assert [s.id for s in seen if s.ask] == ["e1", "e2"]


def test_an_event_that_goes_on_is_asked_about_again() -> None:
    seen = run(waker(recheck=1.0), [2.0] * 35)
    assert [s.ask for s in seen if s.ask] == ["start", "update", "update", "update"]
    assert len({s.id for s in seen}) == 1


def test_an_event_that_shows_much_more_is_asked_about_again_soon() -> None:
    seen = run(waker(recheck=60.0), [2.0] * 20 + [2.5] * 20 + [4.0] * 30)
    assert [i for i, s in enumerate(seen) if s.ask] == [0, 40]


def test_without_a_token_an_event_waits_for_one_as_long_as_it_lasts() -> None:
    seen = run(waker(wakes=60.0, burst=1, cooldown=0.0), [2, *[0] * 6, *[2] * 10])
    asked = [i for i, s in enumerate(seen) if s.ask]
    assert asked[0] == 0
    assert 7 < asked[1] <= 11
    assert seen[7].reason == "budget"


def test_the_bucket_holds_no_more_than_a_burst_and_refills() -> None:
    bucket = Bucket(60.0, 3)
    assert [bucket.take(0.0) for _ in range(5)] == [True] * 3 + [False] * 2
    assert bucket.take(1.0)
    assert not bucket.take(0.5)  # time that runs backwards gives nothing
    assert [bucket.take(1000.0) for _ in range(4)] == [True] * 3 + [False]


def test_a_thousand_events_a_second_stay_few_rows_and_questions() -> None:
    waking = waker(quiet=0.0, cooldown=0.0, wakes=6.0, burst=2, summary=10.0)
    seen = run(waking, [2.0, 0.0] * 30_000, step=0.0005)
    assert sum(s.ask is not None for s in seen) <= 2 + 3
    digests = [s.digest for s in seen if s.digest]
    assert len(digests) <= 3
    assert sum(d.events for d in digests) > 10_000


# --- what waits --------------------------------------------------------------------------------


def sighting(number: int, size: int = 10) -> Sighting:
    shot = Shot(0.0, bytes(size))
    return Sighting(
        id=f"e{number}", phase="start", at=float(number), score=1.0, kind="video", shot=shot,
        clip=(), born=float(number),
    )  # fmt: skip


@pytest.mark.parametrize(("newest", "first"), [(True, "e3"), (False, "e1")])
def test_pending_gives_the_newest_of_what_is_live(newest, first) -> None:
    pending = Pending(10, newest_first=newest)
    for number in (1, 2, 3):
        assert pending.add(sighting(number)) == []
    taken = pending.take()
    assert taken is not None
    assert taken.id == first
    pending.add(taken)  # asking failed: it is next again
    assert pending.take() == taken
    pending.close()


def test_pending_is_bounded_and_gives_back_what_it_sheds() -> None:
    pending = Pending(2, newest_first=True)
    assert pending.add(sighting(1)) == pending.add(sighting(2)) == []
    assert [s.id for s in pending.add(sighting(3))] == ["e1"]
    assert [s.id for s in pending.older(2.5)] == ["e2"]
    assert len(pending) == 1
    big = Pending(100, newest_first=True, most=25_000)
    shed = [s for n in range(6) for s in big.add(sighting(n, 6_000))]
    assert [s.id for s in shed] == ["e0", "e1"]


def test_the_log_keeps_two_files_at_most(tmp_path) -> None:
    path = tmp_path / "log.jsonl"
    with SuppressedLog(path, most=1000) as log:
        for index in range(1000):
            log(float(index), 0.5, "quiet")
    sizes = [f.stat().st_size for f in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert sum(sizes) < 2200


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_a_full_disk_ends_the_log_and_nothing_else() -> None:
    for rows in (1, 10_000):
        with SuppressedLog(Path("/dev/full")) as log:
            for index in range(rows):
                log(float(index), 0.5, "quiet")
        assert log.fault


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Yes.", "yes"),
        ("**No**, there is none", "no"),
        ("<think>yes or no? no…</think>\nYes", "yes"),
        ("<think>yes yes yes", "unclear"),
        ("是的", "yes"),
        ("不是", "no"),
        ("没有", "no"),
        ("Notice the yesterday", "unclear"),
        ("", "unclear"),
    ],
)
def test_reading_yes_and_no(text, said) -> None:
    assert question.read(text) == said
