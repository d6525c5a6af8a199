"""Pictures to events, events to spikes: counted exactly where the model says how many."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bicameral.errors import RequestError
from bicameral.right.spikes import (
    Camera,
    Novelty,
    Sensor,
    binned,
    graded,
    grey,
    log_intensity,
    pooled,
)
from bicameral.right.stream.frame import Events

EVEN = Sensor(mismatch=0.0)


def flat(level: float, width: int = 4, height: int = 3) -> np.ndarray:
    return np.full((height, width), level, np.float64)


def seen(camera: Camera, *frames: np.ndarray, every: float = 0.2) -> list[Events]:
    return [camera.see(frame, index * every) for index, frame in enumerate(frames)]


def arrays(events: Events) -> list[list[int]]:
    return [a.tolist() for a in (events.x, events.y, events.t, events.p)]


def test_a_picture_that_stays_gives_no_events():
    for events in seen(Camera(4, 3), *[flat(90.0)] * 5):
        assert len(events.t) == 0


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("brighter", [True, False])
def test_a_change_of_k_thresholds_is_k_events_of_its_sign(steps, brighter):
    after = 100.0 * np.exp((1 if brighter else -1) * 0.2 * steps)
    _, events = seen(Camera(4, 3, EVEN), flat(100.0), flat(after))
    assert len(events.t) == steps * 12
    assert set(events.p.tolist()) == {int(brighter)}
    assert np.bincount(events.y * 4 + events.x).tolist() == [steps] * 12


def test_a_change_below_the_threshold_is_remembered_until_it_adds_up():
    levels = [flat(100 * np.exp(0.15 * n)) for n in range(5)]
    counts = [len(events.t) // 12 for events in seen(Camera(4, 3, EVEN), *levels)]
    assert counts == [0, 0, 1, 1, 1]  # 0.15, 0.30, 0.45, 0.60 in steps of 0.2


def test_the_thresholds_of_both_signs_are_their_own():
    sensor = Sensor(on=0.1, off=0.3, mismatch=0.0)
    camera = Camera(1, 1, sensor)
    up, down = seen(camera, flat(100, 1, 1), flat(100 * np.exp(0.6), 1, 1), flat(100, 1, 1))[1:]
    assert (len(up.t), len(down.t)) == (6, 2)


def test_times_lie_evenly_between_the_frames_and_in_order():
    camera = Camera(1, 1, EVEN)
    camera.see(flat(100, 1, 1), 10.0)
    events = camera.see(flat(100 * np.exp(0.8), 1, 1), 10.4)
    assert events.t.tolist() == [10_100_000, 10_200_000, 10_300_000, 10_400_000]


@given(st.integers(0, 2**32 - 1), st.floats(0.001, 2.0))
def test_events_are_in_order_of_time_and_inside_the_frame(seed, every):
    chance = np.random.default_rng(seed)
    camera = Camera(5, 4, Sensor(background=20, shot=20, seed=seed))
    frames = chance.uniform(0, 255, (4, 4, 5))
    last = 0
    for index, events in enumerate(seen(camera, *frames, every=every)):
        assert (np.diff(events.t) >= 0).all()
        if len(events.t):
            assert events.t[0] >= last
            assert events.t[-1] <= round(index * every * 1e6)
        assert ((events.x < 5) & (events.y < 4) & (events.x >= 0) & (events.y >= 0)).all()
        last = round(index * every * 1e6)


def test_the_refractory_time_bounds_the_rate_of_every_pixel():
    sensor = Sensor(on=0.05, off=0.05, refractory=0.03, background=300, seed=3)
    camera = Camera(4, 3, sensor)
    chance = np.random.default_rng(0)
    frames = chance.uniform(30, 220, (20, 3, 4))
    events = seen(camera, *frames)
    pixel = np.concatenate([e.y * 4 + e.x for e in events])
    when = np.concatenate([e.t for e in events])
    for one in range(12):
        times = when[pixel == one]
        assert len(times) > 50
        assert np.diff(times).min() >= 30_000 - 1  # times are rounded to a microsecond


def test_without_a_refractory_time_there_are_more_events():
    frames = np.random.default_rng(0).uniform(30, 220, (5, 3, 4))
    free, tired = (
        sum(len(e.t) for e in seen(Camera(4, 3, Sensor(refractory=r)), *frames)) for r in (0, 0.1)
    )
    assert free > tired > 0


def test_the_seed_fixes_all_chance_and_another_seed_changes_it():
    frames = [flat(100.0), flat(140.0), flat(60.0)]

    def run(camera: Camera) -> list:
        return [arrays(events) for events in seen(camera, *frames)]

    noisy = Sensor(background=10, shot=10, mismatch=0.1, seed=5)
    camera = Camera(4, 3, noisy)
    first = run(camera)
    assert first == run(Camera(4, 3, noisy))
    camera.reset()
    assert first == run(camera)
    assert first != run(Camera(4, 3, Sensor(background=10, shot=10, mismatch=0.1, seed=6)))


def test_background_noise_has_its_rate_and_both_signs():
    camera = Camera(40, 30, Sensor(background=2.0, seed=1))
    events = seen(camera, *[flat(90, 40, 30)] * 51)
    count = sum(len(e.t) for e in events)
    expected = 2.0 * 1200 * 10
    assert abs(count - expected) < 5 * np.sqrt(expected)
    share = np.concatenate([e.p for e in events]).mean()
    assert 0.45 < share < 0.55


def test_shot_noise_is_four_times_as_frequent_in_the_dark():
    dark, bright = (
        sum(len(e.t) for e in seen(Camera(40, 30, Sensor(shot=4.0)), *[flat(level, 40, 30)] * 26))
        for level in (0, 255)
    )
    assert 3.5 < dark / bright < 4.5


def test_mismatch_spreads_the_pixels():
    step = [flat(60, 30, 20), flat(60 * np.exp(1.0), 30, 20)]
    _, events = seen(Camera(30, 20, Sensor(mismatch=0.2)), *step)
    counts = np.bincount(events.y * 30 + events.x, minlength=600)
    assert counts.std() > 0.5
    assert 4 < counts.mean() < 6


def test_frames_out_of_order_or_of_another_size_are_refused():
    camera = Camera(4, 3)
    camera.see(flat(10.0), 1.0)
    with pytest.raises(RequestError, match="in order"):
        camera.see(flat(10.0), 1.0)
    with pytest.raises(RequestError, match="open another"):
        camera.see(flat(10.0, 3, 4), 2.0)


def test_the_curve_is_linear_in_the_dark_and_has_no_jump():
    assert log_intensity(np.array([0.0, 10.0, 20.0])).tolist() == pytest.approx(
        [0, np.log(20) / 2, np.log(20)]
    )
    assert log_intensity(np.array([200.0]))[0] == pytest.approx(np.log(200))


def some_events() -> Events:
    x, y = np.array([0, 3, 3, 1]), np.array([0, 2, 2, 0])
    return Events(x, y, np.array([5, 10, 15, 25]), np.array([1, 0, 0, 1]), width=4, height=3)


def test_pooling_counts_each_sign_of_each_cell():
    counts = pooled(some_events(), columns=2, rows=3)
    assert counts.shape == (2, 3, 2)
    assert counts[1, 0, 0] == 2
    assert counts[0, 2, 1] == 2
    assert counts.sum() == 4


def test_bins_are_half_open_and_leave_out_what_is_outside():
    counts = binned(some_events(), 4, 3, start=5, step=10, steps=2)
    assert counts.shape == (2, 2, 3, 4)
    assert counts.sum(axis=(1, 2, 3)).tolist() == [2, 1]  # 5 and 10, then 15; 25 is too late
    assert counts[1, 0, 2, 3] == 1


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.integers(1, 9))
def test_pooling_loses_nothing(width, height, columns, rows):
    chance = np.random.default_rng(width * 41 + height)
    x, y, p = (chance.integers(0, most, 200) for most in (width, height, 2))
    events = Events(x, y, np.arange(200), p, width, height)
    counts = pooled(events, columns, rows)
    assert counts.sum(axis=(1, 2)).tolist() == np.bincount(p, minlength=2).tolist()


def test_graded_spikes_are_ascending_indices_with_their_counts():
    index, value = graded(np.array([[0, 2], [3, 0]]))
    assert (index.tolist(), value.tolist()) == ([1, 2], [2, 3])


@pytest.mark.parametrize("shape", [(120, 160), (1080, 1920), (61, 83), (3, 2)])
def test_grey_keeps_the_mean_and_never_enlarges(shape):
    pixels = np.zeros((*shape, 3), np.uint8)
    pixels[:, shape[1] // 2 :] = 200
    small = grey(pixels, 80, 60)
    assert small.shape == (min(60, shape[0]), min(80, shape[1]))
    assert small[:, 0].max() == 0
    assert small[:, -1] == pytest.approx(200, abs=1e-3)


def test_what_happens_all_the_time_fades_and_what_is_new_does_not():
    novelty, chance = Novelty(), np.random.default_rng(0)
    usual = np.zeros((2, 6, 8), np.int64)
    swaying = []
    for _ in range(300):
        usual[:, :2, :2] = chance.poisson(20, (2, 2, 2))
        swaying.append(int(novelty.spikes(usual).sum()))
    new = usual.copy()
    new[1, 4, 5] = 20
    spikes = novelty.spikes(new)
    assert np.mean(swaying[-100:]) < 0.5
    assert spikes[1, 4, 5] == 5  # 20 is 20 times the floor
    assert spikes.sum() - spikes[1, 4, 5] <= 2


def test_what_the_whole_picture_does_at_once_is_no_news():
    novelty = Novelty()
    for _ in range(20):
        novelty.spikes(np.zeros((2, 6, 8), np.int64))
    assert novelty.spikes(np.full((2, 6, 8), 30)).sum() == 0


def test_novelty_says_nothing_until_it_knows_what_is_usual():
    novelty = Novelty()
    busy = np.full((2, 6, 8), 9)
    busy[0, 0, 0] = 500
    assert [novelty.spikes(busy).sum() for _ in range(Novelty.warm_up)] == [0] * Novelty.warm_up
    novelty.reset()
    assert novelty.spikes(busy).sum() == 0
