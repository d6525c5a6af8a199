"""What moves or changes before a camera without being worth a look; used by bench/scenes.py."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

WIDTH, HEIGHT, FPS = 160, 120, 5


def blurred(image: Array, radius: int) -> Array:
    for axis in (0, 1):
        shifted = [np.roll(image, k, axis) for k in range(-radius, radius + 1)]
        image = np.mean(shifted, axis=0, dtype=np.float32)
    return image


class Nuisance:
    """One for a stream; this one does nothing."""

    def __init__(self, rng: np.random.Generator, background: Array) -> None:
        self.rng, self.background = rng, background
        self.prepare()

    def prepare(self) -> None:
        """Draw what holds for the whole stream."""

    def under(self, at: float) -> Array:
        """The scene without objects; the caller may write into it."""
        return self.background * np.float32(self.gain(at))

    def gain(self, at: float) -> float:
        return 1.0

    def over(self, image: Array, at: float) -> None:
        """Draw what is before the objects."""


def gust(at: float, period: float, phase: float) -> float:
    """Between calm and storm, from 0.1 to 1, never twice the same."""
    wave = np.sin(2 * np.pi * at / period + phase) * np.sin(2 * np.pi * at / (2.7 * period))
    return float(0.1 + 0.9 * max(0.0, wave))


class Flicker(Nuisance):
    """Mains light, sampled five times a second."""

    def prepare(self) -> None:
        self.depth, self.beat = self.rng.uniform(0.02, 0.06), self.rng.uniform(0.3, 2.3)

    def gain(self, at: float) -> float:
        return 1 + self.depth * np.sin(2 * np.pi * self.beat * at) * self.rng.uniform(0.7, 1.3)


class Light(Nuisance):
    """Clouds: the light changes by a third within 10 to 60 seconds."""

    def prepare(self) -> None:
        self.periods, self.phases = self.rng.uniform(20, 120, 3), self.rng.uniform(0, 6.3, 3)

    def gain(self, at: float) -> float:
        return float(1 + 0.12 * np.sin(2 * np.pi * at / self.periods + self.phases).sum())


class Leaves(Nuisance):
    """Up to three bushes that sway, with gusts."""

    def prepare(self) -> None:
        rng, self.bushes = self.rng, []
        for _ in range(rng.integers(1, 4)):
            height, width = rng.integers(25, 60, 2)
            y, x = rng.integers(0, HEIGHT - height), rng.integers(0, WIDTH - width)
            grain = blurred(rng.standard_normal((height, width + 12), dtype=np.float32), 1)
            mean = float(self.background[y : y + height, x : x + width].mean())
            leaf = np.clip(mean + 80 * grain, 0, 255).astype(np.float32)
            sway = (rng.uniform(1, 4), rng.uniform(0.2, 1.0), rng.uniform(0, 6.3))
            self.bushes.append((y, x, leaf, sway))
        self.period, self.phase = rng.uniform(10, 40), rng.uniform(0, 6.3)

    def over(self, image: Array, at: float) -> None:
        for y, x, leaf, (reach, beat, phase) in self.bushes:
            force = reach * gust(at, self.period, self.phase)
            shift = 6 + round(force * np.sin(2 * np.pi * beat * at + phase))
            height, width = leaf.shape[0], leaf.shape[1] - 12
            image[y : y + height, x : x + width] = leaf[:, shift : shift + width]


class Rain(Nuisance):
    """Streaks, in showers."""

    def prepare(self) -> None:
        self.drops = self.rng.uniform(8, 45)
        self.period, self.phase = self.rng.uniform(20, 80), self.rng.uniform(0, 6.3)

    def over(self, image: Array, at: float) -> None:
        for _ in range(self.rng.poisson(self.drops * gust(at, self.period, self.phase))):
            y, x = self.rng.integers(0, HEIGHT), self.rng.integers(0, WIDTH)
            image[y : y + self.rng.integers(6, 15), x] += self.rng.uniform(15, 40)


class Snow(Nuisance):
    """Flakes that fall and drift."""

    def prepare(self) -> None:
        count = self.rng.integers(15, 60)
        self.x, self.y = self.rng.uniform(0, WIDTH, count), self.rng.uniform(0, HEIGHT, count)
        self.fall = self.rng.uniform(8, 25, count) / FPS

    def over(self, image: Array, at: float) -> None:
        self.y = (self.y + self.fall) % HEIGHT
        self.x = (self.x + self.rng.normal(0, 0.7, len(self.x))) % WIDTH
        y, x = self.y.astype(int), self.x.astype(int)
        for dy, dx in ((0, 0), (1, 0), (0, 1), (1, 1)):
            image[(y + dy) % HEIGHT, (x + dx) % WIDTH] += 45


class Water(Nuisance):
    """Ripples over the lower third."""

    def prepare(self) -> None:
        self.waves = self.rng.uniform(-0.5, 0.5, (4, 2)), self.rng.uniform(0.2, 1.2, 4)
        self.rows, self.columns = np.mgrid[HEIGHT * 2 // 3 : HEIGHT, 0:WIDTH].astype(np.float32)
        self.period = self.rng.uniform(15, 60)

    def under(self, at: float) -> Array:
        image = super().under(at)
        height = 3 + 9 * gust(at, self.period, 0)
        for (ky, kx), beat in zip(*self.waves, strict=True):
            phase = self.rows * np.float32(ky) + self.columns * np.float32(kx)
            image[HEIGHT * 2 // 3 :] += height * np.sin(phase + np.float32(2 * np.pi * beat * at))
        return image


class Shake(Nuisance):
    """A mast in the wind: the picture shifts by up to two pixels."""

    def prepare(self) -> None:
        self.period, self.phase = self.rng.uniform(10, 60), self.rng.uniform(0, 6.3)
        self.reach = self.rng.uniform(0.6, 2.0)

    def under(self, at: float) -> Array:
        force = self.reach * gust(at, self.period, self.phase)
        dy, dx = np.round(self.rng.normal(0, 1, 2) * force * 0.6).astype(int)
        return np.roll(self.background, (int(dy), int(dx)), (0, 1))


class Lamp(Nuisance):
    """Lamps that go on and off, each over a part of the scene or all of it."""

    def prepare(self) -> None:
        rng = self.rng
        self.lamps = []
        for _ in range(rng.integers(1, 4)):
            y, x = rng.uniform(0, HEIGHT), rng.uniform(0, WIDTH)
            rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
            reach = rng.uniform(40, 400)
            glow = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * reach**2))
            self.lamps.append((1 + rng.uniform(0.2, 0.8) * glow).astype(np.float32))
        self.on = [False] * len(self.lamps)
        self.pace = rng.uniform(15, 60) * FPS

    def under(self, at: float) -> Array:
        image = self.background.copy()
        for index, lamp in enumerate(self.lamps):
            self.on[index] ^= bool(self.rng.random() < 1 / self.pace)
            if self.on[index]:
                image *= lamp
        return image


NUISANCES: dict[str, type[Nuisance]] = {
    "flicker": Flicker,
    "light": Light,
    "leaves": Leaves,
    "rain": Rain,
    "snow": Snow,
    "water": Water,
    "shake": Shake,
    "lamp": Lamp,
}
