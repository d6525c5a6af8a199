"""Seven tasks in numbers: against a net that knows the clip, by hand, and for any net at all."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bicameral.engines.vdt import masks  # noqa: E402
from bicameral.engines.vdt.codec import Pixels  # noqa: E402
from bicameral.engines.vdt.load import Loaded  # noqa: E402
from bicameral.engines.vdt.score import apart, openstl, seven, table  # noqa: E402
from bicameral.engines.vdt.score.held import FIRST, Held, held, worlds  # noqa: E402
from bicameral.engines.vdt.score.openstl import Score  # noqa: E402
from bicameral.engines.vdt.score.samples import Way, effort, made  # noqa: E402
from bicameral.engines.vdt.score.seven import BEST, EACH, MEAN, MODEL, ONE, Result, Scores  # noqa: E402
from bicameral.engines.vdt.score.whole import Wanted, examine  # noqa: E402
from bicameral.errors import ConfigError  # noqa: E402
from tests.engines.vdt.nets import KINDS, awake, knowing, tiny  # noqa: E402

WAY = Way(samples=2, steps=2, batch=4)
CPU = torch.device("cpu")


class Told:
    def __init__(self) -> None:
        self.steps = 0

    def __call__(self, steps: int) -> None:
        self.steps += steps


def rising(frames: int = 4, count: int = 3) -> Held:
    """Every clip the same: frame t of value 51 t, a fifth of white more each time."""
    film = np.arange(frames, dtype=np.uint8)[:, None, None, None] * 51
    return Held(clips=np.broadcast_to(film, (count, frames, 8, 8, 1)).copy())


def oracle(clips: Held, off: float = 0.0) -> Loaded:
    """A net that makes what is true, `off` brighter."""
    design = tiny("modern", predicts="clean")
    true = torch.from_numpy(clips.clips[:1, : design.frames]).movedim(-1, 2).float() / 255
    return Loaded(design, knowing(design, 2 * (true + off) - 1), Pixels(), CPU, False)  # type: ignore[arg-type]


def other(kind: str, **changes: Any) -> Loaded:
    design = tiny(kind, **changes)
    return Loaded(design, awake(design), Pixels(), CPU, False)


def result(loaded: Loaded, clips: Held, task: Any = "predict", way: Way = WAY) -> Result:
    return seven.evaluate(loaded, clips, task, way, Told())[0]


def test_numbers_by_hand() -> None:
    clips = rising()
    found = result(oracle(clips, off=0.1), clips)
    assert found.made == [2, 3]
    assert (found.kept_error, found.frames, found.samples) == (0.0, 6, 2)
    for name in (ONE, MEAN, BEST):
        assert found.scores[name].mse == pytest.approx(64 * 0.1**2, rel=1e-4)
        assert found.scores[name].mae == pytest.approx(64 * 0.1, rel=1e-4)
        assert found.scores[name].psnr == pytest.approx(20, abs=1e-3)
    copied = [64 * 0.2**2, 64 * 0.4**2]
    assert found.curves["copy"] == pytest.approx(copied)
    assert found.scores["copy"].mse == pytest.approx(sum(copied) / 2)
    assert found.scores["black"].mse == pytest.approx(64 * (0.4**2 + 0.6**2) / 2)
    assert found.scores["linear"] == found.scores["copy"]


def test_who_knows_the_clip_beats_every_floor_on_every_task() -> None:
    clips = rising(count=2)
    loaded = oracle(clips)
    for task in masks.TASKS:
        if task == "unconditional":
            continue
        found = result(loaded, clips, task)
        assert found.kept_error == 0
        assert found.scores[ONE].mse < 1e-6
        assert found.scores[ONE].psnr == pytest.approx(58.9)
        assert found.scores[ONE].ssim == pytest.approx(1, abs=1e-4)
        floors = [score.mse for name, score in found.scores.items() if name not in MODEL]
        assert len(floors) == 5
        # Between frames that rise evenly there is nothing that a line does not know.
        assert min(floors) >= 0
        assert all(floor > 1e-6 for floor in floors) or task in (
            "interpolate",
            "frames",
            "complete",
        )


def test_only_what_is_generated_is_scored() -> None:
    clips, count = rising(count=6), 6
    loaded = oracle(clips, off=0.1)
    found = result(loaded, clips, "complete")
    mask = seven.drawn(loaded, count, "complete", WAY.seed)
    wide = np.stack([seven.broad(each, loaded.design.cell) for each in mask])
    pixels = wide.sum((2, 3))
    assert (pixels < 64).any()
    expected = 0.01 * pixels[pixels > 0].mean()
    assert found.scores[ONE].mse == pytest.approx(expected, rel=1e-4)
    assert found.frames == (pixels > 0).sum()


@pytest.mark.parametrize("kind", KINDS)
def test_any_net_keeps_what_is_given(kind: str) -> None:
    loaded, clips = other(kind), rising(count=2)
    for key, task in enumerate(masks.TASKS):
        mask = seven.drawn(loaded, 2, task, 0)
        told = Told()
        for batch in made(loaded, clips.clips, mask, WAY, key=key, told=told):
            assert batch.kept_error == 0
            kept = ~np.stack([seven.broad(each, loaded.design.cell) for each in mask])
            true = clips.clips.astype(np.float32) / np.float32(255)
            for sample in range(WAY.samples):
                film = batch.films[:, sample]
                assert (film[kept] == true[kept]).all()
                assert not np.allclose(film[~kept], true[~kept])
        assert told.steps == effort(loaded, mask, WAY) == 2 * WAY.samples * WAY.steps


def test_one_sample_their_mean_and_the_best_of_them() -> None:
    loaded, clips = other("modern"), rising(count=2)
    way = Way(samples=3, steps=2, batch=6)
    found = result(loaded, clips, "predict", way)
    mask = seven.drawn(loaded, 2, "predict", 0)
    (batch,) = made(loaded, clips.clips, mask, way, key=0, told=Told())
    true = clips.clips[:, 2:]
    each = [openstl.curves(batch.films[:, k, 2:], true).mse for k in range(3)]
    assert found.scores[ONE].mse == pytest.approx(each[0].mean())
    assert found.scores[BEST].mse == pytest.approx(np.mean(each, axis=2).min(0).mean())
    averaged = batch.films.mean(1, dtype=np.float64)[:, 2:]
    assert found.scores[MEAN] == openstl.score(averaged, true)
    assert found.scores[BEST].mse < found.scores[ONE].mse
    assert found.scores[MEAN].mse < np.mean(each)


def test_masks_are_of_the_task() -> None:
    loaded = other("modern")
    assert (seven.drawn(loaded, 40, "frames", 0).min((1, 2, 3)) == 0).all()
    assert seven.drawn(loaded, 3, "unconditional", 0).all()
    one, same, otherwise = (seven.drawn(loaded, 9, "image", seed) for seed in (0, 0, 1))
    assert (one == same).all()
    assert (one != otherwise).any()


def test_rolling_on_over_three_windows() -> None:
    still = Held(clips=np.full((2, seven.rolled_frames(4), 8, 8, 1), 51, np.uint8))
    found = seven.roll(oracle(still, off=0.1), still, WAY, told := Told())
    assert found.made == [2, 3, 4, 5, 6, 7]
    assert found.kept_error == 0
    # The next window goes on from what was made, and has it as it was.
    assert found.curves[ONE] == pytest.approx([0.64] * 6, rel=1e-4)
    assert found.curves["copy"] == pytest.approx([0] * 6)
    assert told.steps == 2 * WAY.samples * WAY.steps * seven.ROLLED


def balls(count: int = 4, **more: Any) -> Held:
    design = tiny("modern", height=32, width=32, channels=3, patch=8)
    return held("balls:box", design, count=count, frames=6, **more)


def test_held_out_balls() -> None:
    clips = balls()
    assert (balls().clips == clips.clips).all()
    assert (balls(seed=1).clips != clips.clips).any()
    dice = np.random.default_rng((0, 0))
    assert (balls().clips[0] != held_from(dice)).any()
    cut = clips.begun(4)
    assert cut.clips.shape == (4, 4, 32, 32, 3)
    assert {len(flight.states) for flight in cut.flights} == {4}
    assert FIRST >= 10_000_000
    assert worlds("balls:box") == ("as learned", "speed", "radius")
    assert worlds("films/") == ("as learned",)
    with pytest.raises(ConfigError, match="there are no balls:cube"):
        held("balls:cube", tiny("modern"), count=1, frames=4)


def held_from(dice: np.random.Generator) -> Any:
    from bicameral.engines.vdt.worlds import scenes

    return next(scenes.films(scenes.box, 0, 6, 32))


def test_what_is_beyond_what_was_learned() -> None:
    def speeds(clips: Held) -> list[float]:
        return [float(np.hypot(b.vx, b.vy)) for s in clips.scenes for b in s.balls]

    def radii(clips: Held) -> list[float]:
        return [ball.radius for scene in clips.scenes for ball in scene.balls]

    within, fast, large = balls(9), balls(9, world="speed"), balls(9, world="radius")
    assert all(1 <= v <= 4 for v in speeds(within))
    assert all(v < 1 or v > 4 for v in speeds(fast))
    assert all(0.7 <= r <= 1.4 for r in radii(fast))
    assert all(r < 0.7 or r > 1.4 for r in radii(large))
    for name in ("uniform", "parabola", "collision"):
        design = tiny("modern", height=8, width=8, channels=3)
        for world in worlds(f"balls:{name}"):
            found = held(f"balls:{name}", design, count=1, frames=16, world=world)
            assert (found.world, len(found.scenes)) == (world, 1)


def test_motion_is_scored_beside_the_parser() -> None:
    clips = balls(2)
    design = tiny("modern", frames=6, height=32, width=32, channels=3, patch=8)
    loaded = Loaded(design, awake(design), Pixels(), CPU, False)
    found = result(loaded, clips, "predict")
    assert set(found.motion) == {"truth", EACH, "copy", "linear"}
    truth, copy = found.motion["truth"], found.motion["copy"]
    assert truth["lost"] == 0
    assert truth["position_px"] is not None
    assert truth["position_px"] < 0.1
    assert copy["position"] is not None
    assert truth["position"] is not None
    assert copy["position"] > 10 * truth["position"]
    ours = found.motion[EACH]
    assert ours["due"] == WAY.samples * (truth["due"] or 0)


def test_a_set_of_clips_beside_real_ones() -> None:
    real, again = balls(12), balls(12, seed=1)
    features = apart.features(real.clips)
    assert features.shape == (12, 32)
    assert (apart.features(real.clips) == features).all()
    assert (apart.features(real.clips, 1) != features).any()
    assert apart.features(real.clips / 255.0) == pytest.approx(features, abs=1e-5)
    near = apart.distance(features, apart.features(again.clips))
    far = apart.distance(features, apart.features(np.zeros_like(real.clips)))
    assert near.frechet < 0.1 * far.frechet
    assert near.coverage > far.coverage == 0
    assert "FVD" not in apart.named(3)
    able = apart.plausible(real.clips, real.step)
    assert (able.shown, able.constant) == (1, 1)
    assert able.speed is not None
    assert 1 <= able.speed <= 4
    still = apart.plausible(np.repeat(real.clips[:, :1], 6, 1), real.step)
    assert still.speed == 0
    nothing = apart.plausible(np.full_like(real.clips, 255), real.step)
    assert (nothing.shown, nothing.balls, nothing.speed) == (0, 0, None)


def test_the_whole_examination() -> None:
    design = tiny("modern", frames=4, height=16, width=16, channels=3, patch=8)
    loaded = Loaded(design, awake(design), Pixels(), CPU, False)
    told: list[tuple[str, int, int]] = []
    wanted = Wanted(data="balls:box", clips=2)
    scores, strips = examine(loaded, wanted, WAY, lambda *each: told.append(each))
    done = [(found.task, found.world) for found in scores.results]
    within = [(task, "as learned") for task in masks.TASKS if task != "unconditional"]
    assert done == [*within, ("predict", "speed"), ("predict", "radius")]
    assert scores.unled is not None
    assert set(scores.unled.distances) == {"made", "real", "still", "black"}
    assert scores.rolled is not None
    assert scores.rolled.made == [2, 3, 4, 5, 6, 7]
    assert len(strips) == 9
    assert told[-1][1] == told[-1][2]
    assert [each[1] for each in told] == sorted(each[1] for each in told)
    assert msgspec.json.decode(msgspec.json.encode(scores), type=Scores) == scores
    text = "\n".join(grid.markdown() for grid in table.grids(scores))
    for word in ("position px", "FD-rand3d(0)", "best sample", "3 windows", "other radius"):
        assert word in text


def made_up(**mse: float) -> Result:
    return Result(
        task="predict",
        world="as learned",
        clips=1,
        samples=2,
        kept_error=0,
        frames=1,
        scores={name.replace("_", " "): Score(m, m, 1 / m, -m) for name, m in mse.items()},
        motion={},
        made=[3],
        curves={},
    )


def test_winners_and_losers_are_marked() -> None:
    found = made_up(one_sample=3.0, mean_of_samples=1.0, best_sample=0.5, black=9.0, copy=2.0)
    rows = table.pixels([found], "pixels").rows[:-1]
    marks = {row[1].text: {cell.mark for cell in row[2:]} for row in rows}
    assert marks == {
        "one sample": {"worse"},
        "mean of samples": {"best"},
        "best sample": {""},  # never a winner: it was chosen by the truth
        "black": {""},
        "copy": {""},
    }
    drawn = table.pixels([found], "pixels")
    assert "| predict | one sample | 3.0 † |" in drawn.markdown()
    assert drawn.rich().row_count == 5
    assert table.verdicts(Scores(results=[found])) == [
        "predict: one sample loses to a floor: 3.0, copy 2.0",
        "predict: mean of samples beats every floor: 1.0, copy 2.0",
    ]


def test_long_curves_are_thinned_to_their_end() -> None:
    frames = list(range(6, 24))
    grid = table.curves("by frame", frames, {ONE: [float(f) for f in frames]})
    assert grid.head[-1] == "23"
    assert len(grid.head) == 10
    assert [cell.text for cell in grid.rows[0][1:]] == [f"{float(name)}" for name in grid.head[1:]]
