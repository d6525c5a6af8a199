"""Where clips come from, by what a person calls it: a folder, a film, an array, a small world."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from numpy.random import Generator

from bicameral.engines.vdt.learn.arrays import Arrays
from bicameral.engines.vdt.learn.clips import Clips, Film, Found, Pile, Shape, fitted
from bicameral.engines.vdt.learn.films import PICTURES, VIDEOS, Films
from bicameral.engines.vdt.worlds import mnist, scenes
from bicameral.engines.vdt.worlds.balls import Scene, draw, fly
from bicameral.errors import ConfigError

ACCEPTED = (
    f"a folder of {', '.join(VIDEOS)} films or of sub-folders of {', '.join(PICTURES)} pictures, "
    "one such film, a .npz or .npy array of clips, "
    "balls:box (uniform, parabola, collision), or moving-mnist:DIGITS.npz"
)
WORLDS: Mapping[str, Callable[[Generator, int], Scene]] = {
    "box": lambda dice, frames: scenes.box(dice),
    "uniform": lambda dice, frames: scenes.uniform(dice, frames=frames),
    "parabola": lambda dice, frames: scenes.parabola(dice, frames=frames),
    "collision": lambda dice, frames: scenes.collision(
        dice, frames=frames, apart=min(8, max(1, frames // 4))
    ),
}


def opened(what: str, *, index: Path | None = None) -> Pile:
    """The films that `what` means; ConfigError says what is accepted.

    `index` is a file in which a folder's contents may be remembered.
    """
    kind, colon, name = what.partition(":")
    if colon and kind == "balls":
        return Balls(name)
    if colon and kind == "moving-mnist":
        return MovingMnist(Path(name))
    path = Path(what)
    if not path.exists():
        raise ConfigError(f"there is no {what}; accepted are {ACCEPTED}")
    if path.suffix in (".npz", ".npy"):
        return Arrays(path)
    if path.is_dir() or path.suffix.lower() in VIDEOS:
        return Films(path, index)
    raise ConfigError(f"{what} is nothing to learn from; accepted are {ACCEPTED}")


class Balls:
    """Balls without end, drawn anew for each clip."""

    def __init__(self, name: str) -> None:
        if name not in WORLDS:
            raise ConfigError(f"there are no balls:{name}; there are balls:{', '.join(WORLDS)}")
        self._scene = WORLDS[name]
        self.found = Found(
            what=f"balls:{name}", clips=None, frames=16, height=64, width=64, channels=3
        )

    def within(self, shape: Shape, *, held: bool = False) -> Clips:
        """Square scenes, drawn at the larger side and cut where the clip is not square."""

        def make(dice: Generator) -> Film:
            scene = self._scene(dice, shape.reach)
            states = fly(scene, shape.reach).states[:: shape.stride]
            return fitted(draw(scene, states, max(shape.height, shape.width)), shape)

        return Clips(make, None)


class MovingMnist:
    """Handwritten digits that bounce, drawn anew for each clip; the npz at `path` has the digits.

    What is held are clips of digits that training never sees.
    """

    def __init__(self, path: Path) -> None:
        self._digits = mnist.read(path)
        self.found = Found(
            what=f"moving-mnist:{path}",
            clips=None,
            frames=mnist.FRAMES,
            height=mnist.CANVAS,
            width=mnist.CANVAS,
            channels=1,
        )

    def within(self, shape: Shape, *, held: bool = False) -> Clips:
        """Drawn at 64 x 64 and brought to size."""
        images = (self._digits.test if held else self._digits.train).images

        def make(dice: Generator) -> Film:
            film = mnist.batch(images, 1, dice, shape.reach)[0]
            return fitted(film[:: shape.stride], shape)

        return Clips(make, None)
