"""A video net as a judge of physics: impossible clips against possible ones, beside floors.

    python bench/video_surprise.py [--model nano] [--each 32] [--calibrate 200] [--validate 0]

Pairs share their past; in one of them something leaps, speeds up, passes through another thing or
a wall, or becomes another. AUC is over all clips: how often an impossible one surprises more than
a possible one, whichever pair they are of; `pair` is the same within pairs. Intervals are 95 %
bootstraps over pairs. How surprise is measured was chosen on other pairs than those of the table:
`--validate N` prints that comparison, of N pairs of each kind, and not the table.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice, product

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray

from bicameral.engines.vdt import calibration
from bicameral.engines.vdt.calibration import Calibration
from bicameral.engines.vdt.load import Loaded, find, load
from bicameral.engines.vdt.masks import given
from bicameral.engines.vdt.network import process
from bicameral.engines.vdt.score.parse import parse
from bicameral.engines.vdt.surprise import (
    WAY,
    Scale,
    before,
    computing,
    foreseen,
    of_films,
    recognised,
    seen,
)
from bicameral.engines.vdt.worlds import scenes
from bicameral.engines.vdt.worlds.balls import BLUE, RED, STEP, Ball, Scene, fly
from bicameral.engines.vdt.worlds.impossible import KINDS, pairs

VALIDATION, TEST = 20_000_000, 30_000_000
DRAWS, STEPS = 4, 6  # sampled futures, and steps of each
LOST = 3.0  # units by which a ball is said to be off that was there and is not, or the reverse
RESAMPLES = 1000
Real = NDArray[np.float64]
Films = NDArray[np.uint8]
Scores = Callable[[Films], Real]


class Sets(Struct, frozen=True):
    """`films` (pairs, 2, T, H, W, C), the possible one first, and the kind of each pair."""

    films: Films
    kinds: NDArray[np.str_]


def drawn(seed: int, each: int, frames: int, size: int) -> Sets:
    found = [(k, p) for k in KINDS for p in islice(pairs(k, seed, frames, size), each)]
    films = np.stack([np.stack([p.possible, p.impossible]) for _, p in found])
    return Sets(films, np.array([k for k, _ in found]))


# --- who is surprised ----------------------------------------------------------------------------


def by_the_net(loaded: Loaded, scale: Scale) -> Scores:
    return lambda films: np.array([each.score(scale) for each in of_films(loaded, films)])


class Looked:
    """Errors of the net at several levels, computed once and read in several ways."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._kept: dict[tuple[str, float], Real] = {}

    def motion(self, films: Films, level: float) -> Real:
        """(B, T) of the frames that are judged."""
        errors = self._errors("motion", films, level)
        return errors[:, before(self._loaded.design) :]

    def looks(self, films: Films, level: float) -> Real:
        """(B, T) of the worst cell of each frame."""
        return self._errors("looks", films, level).max((2, 3))

    def _errors(self, what: str, films: Films, level: float) -> Real:
        if (what, level) not in self._kept:
            ask = foreseen if what == "motion" else recognised
            net, design = computing(self._loaded), self._loaded.design
            with torch.inference_mode():
                rows = [
                    ask(net, design, seen(self._loaded, part), level, WAY)
                    for part in np.array_split(films, max(1, len(films) // 32))
                ]
            self._kept[what, level] = np.concatenate(rows)
        return self._kept[what, level]


def standing_out(errors: Real) -> Real:
    """How far the worst frame is above the clip's own median, in e-folds."""
    return np.asarray(np.log(errors.max(1) - np.median(errors, axis=1) + 1e-6))


def standard(values: Real) -> Real:
    """In deviations from the possible clips, every second."""
    return np.asarray((values - values[::2].mean()) / values[::2].std())


def by_samples(loaded: Loaded, reduce: Callable[..., Real]) -> Scores:
    """How far two observed frames are from futures dreamt of those before; the worst of two."""
    design = loaded.design

    def score(films: Films) -> Real:
        worst = np.zeros(len(films))
        for known in (before(design), design.frames // 2):
            mask = torch.from_numpy(given(design.grid, range(known)))
            parts = np.array_split(films, max(1, len(films) // 32))
            rows = [_dreamt(loaded, each, mask, known) for each in parts]
            worst = np.maximum(worst, reduce(np.concatenate(rows), axis=1))
        return worst

    return score


def _dreamt(loaded: Loaded, films: Films, mask: torch.Tensor, known: int) -> Real:
    """(B, DRAWS) mean squared distance in the two frames after the known ones."""
    clip, found = seen(loaded, films), []
    masks = mask.expand(len(clip), *mask.shape)
    for seed in range(DRAWS):
        draw = torch.Generator().manual_seed(seed)
        states = process(loaded.design).sample(
            computing(loaded), loaded.design, clip, masks, draw, steps=STEPS
        )
        *_, last = states
        found.append(((last - clip)[:, known : known + 2] ** 2).mean((1, 2, 3, 4)).numpy())
    return np.stack(found, axis=1)


def changes(films: Films) -> Real:
    """(B, T) how much changes from frame to frame, where the net judges: the error of a copy."""
    values = films.astype(np.float32) / 127.5 - 1
    change = ((values[:, 1:] - values[:, :-1]) ** 2).mean((2, 3, 4))
    return np.asarray(change[:, max(2, films.shape[1] // 4) - 1 :], np.float64)


def by_hand(films: Films, *, knowing: bool) -> Real:
    """Parsed balls, each said to fly on evenly; `knowing`: the simulation says where they go."""
    return np.array([_by_hand(film, knowing=knowing) for film in films])


def _by_hand(film: Films, *, knowing: bool) -> float:
    found = parse(film)
    worst = 0.0
    for frame in range(max(2, len(film) // 4), len(film)):
        for color, at in _expected(found.at, found.radius, frame, knowing=knowing).items():
            now = found.at[frame, color]
            off = np.hypot(*(at - now)) if np.isfinite(now).all() else LOST
            grown = abs(found.radius[frame, color] - found.radius[frame - 1, color])
            worst = max(worst, float(off), float(np.nan_to_num(grown)))
        fresh = np.isfinite(found.radius[frame]) & ~np.isfinite(found.radius[frame - 1])
        worst = max(worst, LOST * float(fresh.any()))
    return worst


def _expected(at: Real, radius: Real, frame: int, *, knowing: bool) -> dict[int, Real]:
    """Where the balls go that were seen in both frames before."""
    there = [c for c in range(at.shape[1]) if np.isfinite(at[frame - 2 : frame, c]).all()]
    speed = at[frame - 1] - at[frame - 2]
    if not (knowing and there):
        return {c: at[frame - 1, c] + speed[c] for c in there}
    states = at[frame - 1] + 0.0
    balls = tuple(
        Ball(*states[c], *(speed[c] / STEP), radius[frame - 1, c], (RED, BLUE)[c]) for c in there
    )
    ended = fly(Scene(balls), 2).states[1, :, :2]
    return dict(zip(there, ended, strict=True))


# --- how well ------------------------------------------------------------------------------------


def auc(scores: Real) -> float:
    """Of scores (pairs, 2); a tie counts half."""
    off = scores[:, 1][:, None] - scores[:, 0][None]
    return float((off > 0).mean() + (off == 0).mean() / 2)


def within(scores: Real) -> float:
    off = scores[:, 1] - scores[:, 0]
    return float((off > 0).mean() + (off == 0).mean() / 2)


def interval(scores: Real, measure: Callable[[Real], float]) -> tuple[float, float]:
    dice = np.random.default_rng(0)
    count = len(scores)
    found = [measure(scores[dice.integers(count, size=count)]) for _ in range(RESAMPLES)]
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def line(name: str, scores: Real, kinds: NDArray[np.str_]) -> str:
    cells = [name]
    for measure in (auc, within):
        low, high = interval(scores, measure)
        cells.append(f"{measure(scores):.2f} ({low:.2f}…{high:.2f})")
    cells += [f"{auc(scores[kinds == kind]):.2f}" for kind in KINDS]
    return f"| {' | '.join(cells)} |"


def table(judges: Mapping[str, Scores], sets: Sets) -> Iterator[str]:
    yield f"| surprised | AUC | pair | {' | '.join(KINDS)} |"
    yield f"|---|{'---|' * (2 + len(KINDS))}"
    flat = sets.films.reshape(-1, *sets.films.shape[2:])
    for name, judge in judges.items():
        yield line(name, judge(flat).reshape(-1, 2), sets.kinds)


def floors() -> dict[str, Scores]:
    return {
        "chance": lambda films: np.random.default_rng(1).random(len(films)),
        "change of pixels, mean": lambda films: changes(films).mean(1),
        "copy of the last frame, worst": lambda films: changes(films).max(1),
        "copy of the last frame, worst over median": lambda films: standing_out(changes(films)),
        "parsed balls fly on evenly": lambda films: by_hand(films, knowing=False),
        "parsed balls, simulated": lambda films: by_hand(films, knowing=True),
    }


def ways(loaded: Loaded) -> dict[str, Scores]:
    """What was compared to choose `surprise.WAY` and the score of a window."""
    look, found = Looked(loaded), dict[str, Scores]()

    def add(name: str, read: Callable[[Films], Real]) -> None:
        found[name] = read

    for level in (1.0, 0.95, 0.8, 0.6, 0.4):
        motion = partial(look.motion, level=level)
        add(f"motion at {level}, mean", lambda films, at=motion: at(films).mean(1))
        add(f"motion at {level}, worst", lambda films, at=motion: at(films).max(1))
        add(f"motion at {level}, worst over median", lambda x, at=motion: standing_out(at(x)))
    for level in (0.6, 0.4, 0.3, 0.2):
        looks = partial(look.looks, level=level)
        add(f"looks at {level}, worst cell", lambda films, at=looks: at(films).max(1))
    for level, other in product((0.95, 0.8, 0.6, 0.4), (0.4, 0.3, 0.2)):
        motion, looks = partial(look.motion, level=level), partial(look.looks, level=other)
        both = partial(either, motion=motion, looks=looks)
        add(f"motion at {level}, worst, or looks at {other}", partial(both, stand=log_worst))
        name = f"motion at {level}, worst over median, or looks at {other}"
        add(name, partial(both, stand=standing_out))
    add(f"nearest of {DRAWS} sampled futures", by_samples(loaded, np.min))
    add(f"mean of {DRAWS} sampled futures", by_samples(loaded, np.mean))
    return found


def either(
    films: Films,
    *,
    motion: Callable[[Films], Real],
    looks: Callable[[Films], Real],
    stand: Callable[[Real], Real],
) -> Real:
    """The more unusual of two readings."""
    return np.maximum(standard(stand(motion(films))), standard(log_worst(looks(films))))


def log_worst(errors: Real) -> Real:
    """Of the worst frame, in e-folds."""
    return np.asarray(np.log(errors.max(1) + 1e-6))


def trusted(loaded: Loaded, usual: Calibration, scores: Real) -> Iterator[str]:
    """Whether p-values of `scores` (pairs, 2) hold, and whether other worlds are known for it."""
    films, size = loaded.design.frames, loaded.design.height
    limit = float(np.quantile(usual.scores, 0.95))
    for name, share in zip(("possible", "impossible"), (scores > limit).mean(0), strict=True):
        yield f"{share:.0%} of the {name} clips surprise more than 95 % of {len(usual.scores)} do"
    for name, world in others(films, size).items():
        pasts = np.array([each.past for each in of_films(loaded, world)])
        share = (pasts > np.quantile(usual.pasts, 1 - calibration.STRANGE)).mean()
        yield f"{share:.0%} of {len(world)} clips of {name} are said to be unlike training"


def others(frames: int, size: int, count: int = 32) -> dict[str, Films]:
    """Clips of worlds that are not the box of the training's balls."""
    beyond = {
        f"balls of other {'speeds and radii' if what == 'both' else what}": partial(
            scenes.box, ranges=ranges
        )
        for what, ranges in scenes.BEYOND.items()
    }
    found = {
        name: np.stack(list(islice(scenes.films(make, TEST, frames, size), count)))
        for name, make in (("the same balls", scenes.box), *beyond.items())
    }
    dice = np.random.default_rng(TEST)
    still = dice.integers(0, 256, (count, 1, size, size, 3), np.uint8)
    found["balls on black"] = 255 - found["the same balls"]
    found["standing noise"] = np.repeat(still, frames, axis=1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--each", type=int, default=32, help="pairs of each kind")
    parser.add_argument("--calibrate", type=int, default=200, help="clips")
    parser.add_argument("--validate", type=int, default=0, help="pairs of each kind")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    began, file = time.process_time(), find(asked.model)
    loaded = load(file, torch.device("cpu"), half=True)
    shape = (loaded.design.frames, loaded.design.height)
    if asked.validate:
        sets = drawn(VALIDATION, asked.validate, *shape)
        for row in table(floors() | ways(loaded), sets):
            print(row, flush=True)
    else:
        sets = drawn(TEST, asked.each, *shape)
        usual = calibration.calibrated(file, loaded, clips=asked.calibrate)
        for row in table(floors(), sets):
            print(row, flush=True)
        flat = sets.films.reshape(-1, *sets.films.shape[2:])
        scores = by_the_net(loaded, usual.scale)(flat).reshape(-1, 2)
        print(line("the net", scores, sets.kinds), *trusted(loaded, usual, scores), sep="\n")
    print(f"{time.process_time() - began:.0f} s of CPU")


if __name__ == "__main__":
    main()
