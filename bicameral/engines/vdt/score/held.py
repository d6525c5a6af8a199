"""Clips that no training of this program has seen, and of balls also what moves in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.random import Generator
from numpy.typing import NDArray

from bicameral.engines.vdt.design import Design
from bicameral.engines.vdt.learn.clips import Shape, fitted
from bicameral.engines.vdt.worlds import scenes
from bicameral.engines.vdt.worlds.balls import STEP, Flight, Scene, draw, fly
from bicameral.engines.vdt.worlds.scenes import BEYOND, COLLISIONS, WITHIN, Ranges
from bicameral.errors import ConfigError

if TYPE_CHECKING:
    from bicameral.engines.vdt.learn.clips import Pile

FIRST = 10_000_000  # training draws from seeds that people choose; nobody chooses these
WITHIN_NAME = "as learned"
Make = Callable[[Generator, str, int], Scene]
_LINE = {WITHIN_NAME: "", "speed": "v1 v2", "radius": "r1 r2"}


class Held(Struct, frozen=True, kw_only=True, eq=False):
    """`clips` (n, T, H, W, C); of balls `scenes` and `flights` tell what they show, `step` s apart.

    `world` is WITHIN_NAME, or what is beyond that which was learned.
    """

    clips: NDArray[np.uint8]
    world: str = WITHIN_NAME
    scenes: tuple[Scene, ...] = ()
    flights: tuple[Flight, ...] = ()
    step: float = STEP

    def begun(self, frames: int) -> Held:
        """The same, cut after so many frames."""
        flights = tuple(Flight(each.states[:frames], each.hits) for each in self.flights)
        return replace(self, clips=self.clips[:, :frames], flights=flights)


def _collision(dice: Generator, world: str, frames: int) -> Scene:
    pair = COLLISIONS.get(_LINE[world], (scenes.COLLIDING, scenes.COLLIDING))
    return scenes.collision(dice, *pair, frames=frames, apart=min(8, max(1, frames // 4)))


def _ranges(world: str) -> Ranges:
    return BEYOND.get(world, WITHIN)


_MAKES: Mapping[str, Make] = {
    "box": lambda dice, world, frames: scenes.box(dice, _ranges(world)),
    "uniform": lambda dice, world, frames: scenes.uniform(dice, _ranges(world), frames=frames),
    "parabola": lambda dice, world, frames: scenes.parabola(dice, _ranges(world), frames=frames),
    "collision": _collision,
}


def worlds(data: str) -> tuple[str, ...]:
    """What `balls` can show: what was learned, and beyond it; of other data the first only."""
    return (WITHIN_NAME, "speed", "radius") if data.startswith("balls:") else (WITHIN_NAME,)


def balls(
    data: str, design: Design, *, count: int, frames: int, stride: int, seed: int, world: str
) -> Held:
    """Clip n of `data` (balls:box …) depends on `seed`, `world` and n alone."""
    name = data.partition(":")[2]
    if name not in _MAKES:
        raise ConfigError(f"there are no balls:{name}; there are balls:{', '.join(_MAKES)}")
    reach = (frames - 1) * stride + 1
    shape = _shape(design, frames, stride)
    thrown = tuple(
        _MAKES[name](np.random.default_rng((FIRST + seed, number)), world, reach)
        for number in range(count)
    )
    flights = tuple(fly(scene, frames, STEP * stride) for scene in thrown)
    side = max(shape.height, shape.width)
    films = [
        fitted(draw(scene, flight.states, side), shape)
        for scene, flight in zip(thrown, flights, strict=True)
    ]
    told = shape.channels == 3 and shape.height == shape.width  # else balls are not read back
    return Held(
        clips=np.stack(films),
        world=world,
        scenes=thrown if told else (),
        flights=flights if told else (),
        step=STEP * stride,
    )


def others(pile: Pile, design: Design, *, count: int, frames: int, stride: int, seed: int) -> Held:
    """Of a pile those that are held back from training, drawn with replacement."""
    clips = pile.within(_shape(design, frames, stride), held=True)
    return Held(clips=clips.batch(count, np.random.default_rng(FIRST + seed)))


def held(
    data: str,
    design: Design,
    *,
    count: int,
    frames: int,
    stride: int = 1,
    seed: int = 0,
    world: str = WITHIN_NAME,
) -> Held:
    """`count` clips of `data` as `vdt train` names it; ConfigError: there are none so long."""
    from bicameral.engines.vdt.learn.sources import opened

    size = {"count": count, "frames": frames, "stride": stride, "seed": seed}
    if data.startswith("balls:"):
        return balls(data, design, world=world, **size)
    return others(opened(data), design, **size)


def _shape(design: Design, frames: int, stride: int) -> Shape:
    return Shape(
        frames=frames,
        height=design.height,
        width=design.width,
        channels=design.channels,
        stride=stride,
    )
