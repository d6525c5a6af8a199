"""The whole examination of one net: its tasks, worlds that it did not learn, longer clips."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from bicameral.engines.vdt import masks
from bicameral.engines.vdt.learn.sheet import Strip
from bicameral.engines.vdt.load import Loaded
from bicameral.engines.vdt.score import seven
from bicameral.engines.vdt.score.held import WITHIN_NAME, Held, held, worlds
from bicameral.engines.vdt.score.samples import Way, effort
from bicameral.engines.vdt.score.seven import Result, Scores
from bicameral.errors import ConfigError
from bicameral.types import VideoTask

Watched = Callable[[str, int, int], None]  # what is being done, steps of a clip behind, and of all


class Wanted(Struct, frozen=True, kw_only=True):
    """`data` as `vdt train` names it; `stride` frames of it are one step of the net.

    `beyond` asks for balls that are faster, slower, larger or smaller than those learned from,
    `longer` for clips made by windows; both are of predict.
    """

    data: str
    clips: int = 64
    stride: int = 1
    tasks: tuple[VideoTask, ...] = masks.TASKS
    beyond: bool = True
    longer: bool = True


def examine(
    loaded: Loaded, wanted: Wanted, way: Way, watched: Watched
) -> tuple[Scores, list[Strip]]:
    """The numbers, and the first clip of each task for the eye; ConfigError: no such clips."""
    return _Examination(loaded, wanted, way, watched).go()


class _Examination:
    def __init__(self, loaded: Loaded, wanted: Wanted, way: Way, watched: Watched) -> None:
        self._loaded, self._wanted, self._way, self._watched = loaded, wanted, way, watched
        self._strips: list[Strip] = []
        self._done, self._total, self._what = 0, 0, ""

    def go(self) -> tuple[Scores, list[Strip]]:
        wanted, frames = self._wanted, self._loaded.design.frames
        long = self._long() if wanted.longer and "predict" in wanted.tasks else None
        learned = long.begun(frames) if long else self._held(frames)
        beyond = worlds(wanted.data)[1:] if wanted.beyond and "predict" in wanted.tasks else ()
        self._total = self._effort(learned, len(beyond), long)
        results = [self._task(learned, t) for t in wanted.tasks if t != "unconditional"]
        results += [self._task(self._held(frames, world), "predict") for world in beyond]
        scores = Scores(results=results)
        if long:
            self._what = "predict on"
            found = seven.roll(self._loaded, long, self._way, self._tell)
            scores = replace(scores, rolled=found)
        if "unconditional" in wanted.tasks:
            scores = replace(scores, unled=self._unled(learned))
        return scores, self._strips

    def _task(self, held: Held, task: VideoTask) -> Result:
        self._what = task if held.world == WITHIN_NAME else f"{task}, other {held.world}"
        result, strip = seven.evaluate(self._loaded, held, task, self._way, self._tell)
        self._strips.append(strip)
        return result

    def _unled(self, learned: Held) -> seven.Unled:
        self._what = "unconditional"
        other = self._held(self._loaded.design.frames, seed=self._way.seed + 1)
        found, strip = seven.unled(self._loaded, learned, other, self._way, self._tell)
        self._strips.append(strip)
        return found

    def _tell(self, steps: int) -> None:
        self._done += steps
        self._watched(self._what, self._done, self._total)

    def _effort(self, learned: Held, beyond: int, long: Held | None) -> int:
        tasks: list[VideoTask] = [*self._wanted.tasks]
        tasks.extend("predict" for _ in range(beyond))
        steps = seven.total(self._loaded, learned, tasks, self._way)
        if long:
            mask = seven.rolling(self._loaded, len(long.clips), long.clips.shape[1])
            steps += effort(self._loaded, mask, self._way)
        return steps

    def _long(self) -> Held | None:
        """Clips to predict on in; None where those that are held back are too short for it."""
        try:
            return self._held(seven.rolled_frames(self._loaded.design.frames))
        except ConfigError:
            return None

    def _held(self, frames: int, world: str = WITHIN_NAME, seed: int | None = None) -> Held:
        return held(
            self._wanted.data,
            self._loaded.design,
            count=self._wanted.clips,
            frames=frames,
            stride=self._wanted.stride,
            seed=self._way.seed if seed is None else seed,
            world=world,
        )
