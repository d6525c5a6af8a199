"""One net on the seven tasks: every number beside what guesses that know nothing of motion score.

Only what was generated is scored, inside the smallest rectangle that holds it, so that no number
is better for what was given. Sums over the pixels of a frame, as OpenSTL has them, are the same
either way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bicameral.engines.vdt import masks
from bicameral.engines.vdt.learn.sheet import Strip
from bicameral.engines.vdt.load import Loaded
from bicameral.engines.vdt.masks import Mask
from bicameral.engines.vdt.score import apart, openstl, physics
from bicameral.engines.vdt.score.apart import Distance, Plausible
from bicameral.engines.vdt.score.floors import FLOORS
from bicameral.engines.vdt.score.held import WITHIN_NAME, Held
from bicameral.engines.vdt.score.openstl import Curves, Score
from bicameral.engines.vdt.score.parse import parse
from bicameral.engines.vdt.score.samples import Told, Way, effort, made
from bicameral.types import VideoTask

ONE, MEAN, BEST, EACH = "one sample", "mean of samples", "best sample", "each sample"
MODEL = (ONE, MEAN, BEST, EACH)
TRUTH, GROUND = "truth", "ground"
ROLLED = 3  # windows: what is given, and twice on from what was made
_DEEPEST = 58.9  # dB of a frame at most: what rounding to bytes leaves, and an equal frame is inf
_LEAST = 7  # px a side of what is scored, the window of SSIM
_MOVED = ("copy", "linear")  # of the floors those that a ball can be found in
_ROLL = 100  # sets the noise of rolling apart from that of the tasks
Clip = NDArray[Any]


class Result(Struct, frozen=True, kw_only=True):
    """One task on one world: `scores` and `motion` by who guessed, the net's own as MODEL names.

    `best sample` needs the truth to be chosen: it is not comparable with published tables.
    `made` are the frames generated, where they are the same for every clip, and `curves` the MSE
    of each of them, in their order. `kept_error` must be 0. `motion` is as of score/physics.py, of
    all samples; its `truth` is what the parser itself gets wrong. PSNR of a frame counts at most
    58.9 dB. A task without a truth has no scores.
    """

    task: VideoTask
    world: str
    clips: int
    samples: int
    kept_error: float
    frames: int
    scores: dict[str, Score]
    motion: dict[str, dict[str, float | int | None]]
    made: list[int]
    curves: dict[str, list[float]]


class Rolled(Struct, frozen=True, kw_only=True):
    """Prediction by windows that go on from what was made: MSE and position by frame."""

    clips: int
    windows: int
    kept_error: float
    made: list[int]
    curves: dict[str, list[float]]
    position: dict[str, list[float | None]]
    lost: dict[str, list[float | None]]


class Unled(Struct, frozen=True, kw_only=True):
    """Clips of nothing given, as a set: beside other real clips, still ones and black ones."""

    feature: str
    clips: int
    distances: dict[str, Distance]
    plausible: dict[str, Plausible]


class Scores(Struct, frozen=True, kw_only=True):
    """All of one net."""

    results: list[Result]
    rolled: Rolled | None = None
    unled: Unled | None = None


def evaluate(
    loaded: Loaded, held: Held, task: VideoTask, way: Way, told: Told
) -> tuple[Result, Strip]:
    """One task with the paper's masks, on clips of the net's own length; the first for the eye."""
    mask = drawn(loaded, len(held.clips), task, way.seed)
    key = masks.TASKS.index(task)
    tally, worst, strip = _Tally(held, loaded.design.cell), 0.0, None
    for batch in made(loaded, held.clips, mask, way, key=key, told=told):
        worst = max(worst, batch.kept_error)
        for number, films in enumerate(batch.films, batch.first):
            tally.add(number, films, mask[number])
        strip = strip or _strip(task, held, mask, batch.films[0, 0], loaded.design.cell)
    if strip is None:
        raise ValueError("there are no clips to score")
    result = Result(
        task=task,
        world=held.world,
        clips=len(held.clips),
        samples=way.samples,
        kept_error=worst,
        frames=int((mask > 0).any((2, 3)).sum()),
        **tally.found(),
    )
    return result, strip


def drawn(loaded: Loaded, count: int, task: VideoTask, seed: int) -> Mask:
    """(count, T, h, w): the fixed masks of a task, the same ones for every net of that grid.

    One by which nothing is given, as chance may have it, is drawn anew: that is another task.
    """
    dice = np.random.default_rng((seed, masks.TASKS.index(task)))
    found: list[Mask] = []
    while len(found) < count:
        mask = masks.fixed(task, loaded.design.grid, dice)
        if task == "unconditional" or not mask.all():
            found.append(mask)
    return np.stack(found)


def roll(loaded: Loaded, held: Held, way: Way, told: Told) -> Rolled:
    """Half a clip given, and all the rest of these longer ones made of it."""
    mask = rolling(loaded, len(held.clips), held.clips.shape[1])
    tally, path, worst = _Tally(held, loaded.design.cell), _Path(held), 0.0
    for batch in made(loaded, held.clips, mask, way, key=_ROLL, told=told):
        worst = max(worst, batch.kept_error)
        for number, films in enumerate(batch.films, batch.first):
            tally.add(number, films, mask[number], moving=False)
            path.add(number, films)
            path.add_floor(number, mask[number], loaded.design.cell)
    found = tally.found()
    start = loaded.design.frames // 2
    return Rolled(
        clips=len(held.clips),
        windows=ROLLED,
        kept_error=worst,
        made=found["made"],
        curves=found["curves"],
        position={name: values[start:] for name, values in path.position().items()},
        lost={name: values[start:] for name, values in path.lost().items()},
    )


def rolling(loaded: Loaded, count: int, frames: int) -> Mask:
    """(count, frames, h, w): half of the net's own length given."""
    _, rows, columns = loaded.design.grid
    one = masks.given((frames, rows, columns), range(loaded.design.frames // 2))
    return np.repeat(one[None], count, 0)


def rolled_frames(frames: int) -> int:
    """How long ROLLED windows of `frames` are, of which each takes over half."""
    return frames + (ROLLED - 1) * (frames - frames // 2)


def unled(loaded: Loaded, held: Held, other: Held, way: Way, told: Told) -> tuple[Unled, Strip]:
    """As many clips as are real, of nothing; `other` are as many real ones again."""
    mask = drawn(loaded, len(held.clips), "unconditional", way.seed)
    key = masks.TASKS.index("unconditional")
    alone = Way(samples=1, steps=way.steps, guidance=1.0, seed=way.seed, batch=way.batch)
    films = np.concatenate(
        [b.films[:, 0] for b in made(loaded, held.clips, mask, alone, key=key, told=told)]
    )
    still = np.repeat(other.clips[:, :1], other.clips.shape[1], 1)
    sets = {"made": films, "real": other.clips, "still": still, "black": np.zeros_like(still)}
    real = apart.features(held.clips)
    found = Unled(
        feature=apart.named(0),
        clips=len(films),
        distances={n: apart.distance(real, apart.features(s)) for n, s in sets.items()},
        plausible={
            name: apart.plausible(clips, held.step)
            for name, clips in sets.items()
            if held.scenes and name != "black"
        },
    )
    return found, _strip("unconditional", held, mask, films[0], loaded.design.cell)


def total(loaded: Loaded, held: Held, tasks: Iterable[VideoTask], way: Way) -> int:
    """How many steps of a clip these tasks take, to tell how far it is."""
    steps = 0
    for task in tasks:
        alone = Way(samples=1, steps=way.steps) if task == "unconditional" else way
        steps += effort(loaded, drawn(loaded, len(held.clips), task, way.seed), alone)
    return steps


class _Tally:
    """Collects every guess at every clip."""

    def __init__(self, held: Held, cell: int) -> None:
        self._held, self._cell = held, cell
        self._curves: dict[str, list[Curves]] = defaultdict(list)
        self._motion: dict[str, list[physics.Motion]] = defaultdict(list)
        self._frames: list[list[int]] = []

    def add(self, number: int, films: Clip, mask: Mask, *, moving: bool = True) -> None:
        """Samples (K, T, H, W, C) of a clip, made under `mask` (T, h, w)."""
        clip = self._held.clips[number]
        wide = broad(mask, self._cell)
        frames = np.flatnonzero(wide.any((1, 2))).tolist()
        self._frames.append(frames)
        floors = {name: floor(clip, wide) for name, floor in FLOORS.items()}
        floors[GROUND] = ground(clip, wide)
        for name, curves in _compared(films, clip, wide, floors).items():
            self._curves[name].append(curves)
        if moving and self._held.scenes:
            self._move(number, TRUTH, [clip], frames)
            self._move(number, EACH, list(films.clip(0, 1)), frames)
            for name in _MOVED:
                self._move(number, name, [floors[name]], frames)

    def _move(self, number: int, name: str, films: Sequence[Clip], frames: list[int]) -> None:
        scene, flight = self._held.scenes[number], self._held.flights[number]
        self._motion[name] += [
            physics.motion(film, scene, flight, made=frames, step=self._held.step) for film in films
        ]

    def found(self) -> dict[str, Any]:
        """The fields of a Result that this is about."""
        size = self._held.clips.shape[2]
        same = self._frames if all(f == self._frames[0] for f in self._frames) else []
        return {
            "scores": {name: _pooled(rows) for name, rows in self._curves.items()},
            "motion": {
                name: physics.summary(physics.pooled(rows), size)
                for name, rows in self._motion.items()
            },
            "made": same[0] if same else [],
            "curves": {
                name: np.concatenate([row.mse for row in rows]).mean(0).tolist()
                for name, rows in self._curves.items()
                if same
            },
        }


class _Path:
    """Where balls are, frame by frame, of clips that are long."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self._off: dict[str, list[NDArray[np.float64]]] = defaultdict(list)

    def add(self, number: int, films: Clip) -> None:
        """Samples (K, T, H, W, C) of a clip, and the truth."""
        if self._held.scenes:
            self._add(number, EACH, films.clip(0, 1))
            self._add(number, TRUTH, self._held.clips[number][None])

    def add_floor(self, number: int, mask: Mask, cell: int) -> None:
        """What a copy of the last frame given scores."""
        if self._held.scenes:
            film = FLOORS["copy"](self._held.clips[number], broad(mask, cell))
            self._add(number, "copy", film[None])

    def _add(self, number: int, name: str, films: Clip) -> None:
        scene, flight = self._held.scenes[number], self._held.flights[number]
        colors = [ball.color for ball in scene.balls]
        for film in films:
            off = parse(film, colors).at - flight.states[..., :2]
            self._off[name].append(np.linalg.norm(off, axis=-1))

    def position(self) -> dict[str, list[float | None]]:
        """Units by frame, of balls that are seen."""
        found: dict[str, list[float | None]] = {}
        for name, rows in self._off.items():
            table = np.concatenate(rows, axis=1)
            seen = [row[np.isfinite(row)] for row in table]
            found[name] = [float(row.mean()) if row.size else None for row in seen]
        return found

    def lost(self) -> dict[str, list[float | None]]:
        """The share of balls that are not seen, by frame."""
        return {
            name: [float(row.mean()) for row in np.isnan(np.concatenate(rows, axis=1))]
            for name, rows in self._off.items()
        }


def broad(mask: Mask, cell: int) -> NDArray[np.bool_]:
    """(T, h, w) of tokens as (T, H, W) of pixels, true where they are generated."""
    return np.asarray((mask > 0).repeat(cell, 1).repeat(cell, 2))


def ground(clip: Clip, mask: NDArray[np.bool_]) -> Clip:
    """The middle of all values given, everywhere: what a frame without things looks like."""
    given = clip[~mask]
    middle = np.median(given, axis=0) if len(given) else np.zeros(clip.shape[-1])
    return np.where(mask[..., None], middle.astype(clip.dtype), clip)


def _compared(
    films: Clip, clip: Clip, wide: NDArray[np.bool_], floors: Mapping[str, Clip]
) -> dict[str, Curves]:
    """The numbers (1, frames) of every guess, the best sample being that of the least MSE."""
    names = [ONE, MEAN, *floors]
    guesses = [films.mean(0, dtype=np.float64), *(each / 255.0 for each in floors.values())]
    place = _place(wide)
    stack = np.concatenate([films, np.stack(guesses)])[:, *place]
    every = openstl.curves(stack, np.broadcast_to(clip[place], stack.shape) / 255.0)
    rows = [_row(every, number) for number in (0, *range(len(films), len(stack)))]
    best = int(every.mse[: len(films)].mean(1).argmin())
    return {**dict(zip(names, rows, strict=True)), BEST: _row(every, best)}


def _row(found: Curves, index: int) -> Curves:
    part = slice(index, index + 1)
    psnr = np.minimum(found.psnr[part], _DEEPEST)
    return Curves(found.mse[part], found.mae[part], found.ssim[part], psnr)


def _place(wide: NDArray[np.bool_]) -> tuple[NDArray[np.intp], slice, slice]:
    """The frames, rows and columns that hold all that was generated, as large as SSIM needs."""
    frames = np.flatnonzero(wide.any((1, 2)))
    return frames, _span(wide.any((0, 2))), _span(wide.any((0, 1)))


def _span(flags: Any) -> slice:
    at = np.flatnonzero(flags)
    start = max(0, min(int(at[0]), len(flags) - _LEAST))
    return slice(start, max(int(at[-1]) + 1, start + _LEAST))


def _pooled(rows: Sequence[Curves]) -> Score:
    """Every frame weighs the same, whichever clip it is of."""
    columns = ([getattr(row, name) for row in rows] for name in Score.__struct_fields__)
    return Score(*(float(np.concatenate(each, axis=1).mean()) for each in columns))


def _strip(name: str, held: Held, mask: Mask, film: Clip, cell: int) -> Strip:
    label = name if held.world == WITHIN_NAME else f"{name} {held.world}"
    shown = np.rint(film.clip(0, 1) * 255).astype(np.uint8)
    return Strip(label, held.clips[0], broad(mask[0], cell).astype(np.float32), shown)
