"""The net that comes along: small, told of, and far nearer to the truth than a floor."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: `make test-torch`")

from bicameral.engines.vdt import calibration, checkpoint, flow, load, masks  # noqa: E402
from bicameral.engines.vdt.parts import spread  # noqa: E402
from bicameral.engines.vdt.score.floors import FLOORS  # noqa: E402
from bicameral.engines.vdt.worlds.scenes import box, films  # noqa: E402
from bicameral.types import VideoTask  # noqa: E402

SEED = 40_000_000  # of clips that it has not seen


def test_it_is_small_and_says_what_it_is() -> None:
    assert load.NANO.stat().st_size <= 4_000_000
    design, tensors, about = checkpoint.read(load.NANO)
    assert design.kind == "modern"
    assert about["data"] == "balls:box"
    assert int(str(about["steps"])) > 0
    assert all(each.isfinite().all() for each in tensors.values())


@pytest.mark.parametrize(("task", "floor"), [("predict", "copy"), ("interpolate", "linear")])
def test_one_clip_is_twice_as_near_to_the_truth_as_a_floor(task: VideoTask, floor: str) -> None:
    loaded = load.load(load.NANO, torch.device("cpu"), half=False)
    design = loaded.design
    clips = np.stack(list(islice(films(box, SEED, design.frames, design.height), 16)))
    mask = masks.fixed(task, design.grid, np.random.default_rng(0))
    known = torch.from_numpy(clips).movedim(-1, 2).float() / 127.5 - 1
    tokens = torch.from_numpy(mask).expand(len(clips), *mask.shape)
    wide = spread(tokens, design.patch)[0, :, 0].numpy()
    draw, led = torch.Generator().manual_seed(0), loaded.guidance
    *_, last = flow.sample(loaded.net, design, known, tokens, draw, steps=6, guidance=led)
    made = np.moveaxis((last.numpy() + 1) / 2, 2, -1)
    truth = clips / 255
    guess = np.stack([FLOORS[floor](clip, wide) for clip in truth])
    assert np.square(made - truth).mean() < np.square(guess - truth).mean() / 2


def test_it_can_be_surprised_and_says_how_it_is_best_led() -> None:
    assert calibration.read(load.NANO) is not None
    assert load.load(load.NANO, torch.device("cpu"), half=False).guidance == 2.0
