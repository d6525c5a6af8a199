"""What outcomes taught: who will be right on a prompt, at what cost, how fast, on what topic.

All heads are linear in one representation: how near the prompt is to each of a few hundred known
prompts (Williams and Seeger, "Using the Nystroem method", 2001), and its counts. At run time this
needs numpy, and wordllama if the features were fitted with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bicameral.left.features import Array, Features

Floats = NDArray[np.float64]

_ALIKE = 5


@dataclass(frozen=True)
class Guess:
    """What is expected on one prompt: arrays over members, `topics` over topics."""

    quality: Floats
    known: float
    cost: Floats  # dollars; NaN: nobody recorded any
    seconds: Floats
    topics: Floats


@dataclass(frozen=True)
class Scores:
    """Estimates for `models`, on `names` of topics. K landmarks, C counts, M members,
    T topics, of which related ones share a name if there are many."""

    models: tuple[str, ...]
    names: tuple[str, ...]
    features: Features
    landmarks: Array  # K x D
    gamma: float
    bars: tuple[float, float]  # familiarity at which nothing, everything is known
    base: Floats  # M: mean recorded quality
    platt: Floats  # 2 x M: slope and offset of log-odds
    heads: Array  # (1 + K + C) x 3 M: quality, log cost, log seconds
    kinds: Array  # (1 + D) x T: log-odds of topics
    table: Floats  # T x M: what each topic adds to quality
    free: Floats  # 2 x M: cost and seconds far from everything known
    merged: tuple[int, ...]  # for each of the T topics learned, which of `names` it belongs to

    @cached_property
    def _squares(self) -> Array:
        squares: Array = (self.landmarks * self.landmarks).sum(axis=1)
        return squares

    def look(self, prompts: Sequence[str]) -> Array:
        """The features of prompts, a row each."""
        return self.features(prompts)

    def predict(self, x: Array) -> tuple[Floats, Floats, Floats, Floats]:
        """From rows of features: quality P x M, known P, cost P x M in dollars, seconds P x M."""
        out, sure = self._heads(x)
        quality = judged(self._raw(out, self._fine(x)), sure, self.base, self.platt)
        return (quality, sure, *self._amounts(out, sure))

    def topics(self, x: Array) -> Floats:
        """From rows of features: the probability of each topic, P x T."""
        return self._named(self._fine(x))

    def __call__(self, prompt: str) -> Guess:
        """Everything expected on one prompt."""
        x = self.look([prompt])
        (out, sure), fine = self._heads(x), self._fine(x)
        quality = judged(self._raw(out, fine), sure, self.base, self.platt)
        cost, seconds = self._amounts(out, sure)
        return Guess(quality[0], float(sure[0]), cost[0], seconds[0], self._named(fine)[0])

    def raw(self, x: Array) -> tuple[Floats, Floats, Floats]:
        """What the heads say themselves: quality as fitted, logarithms of cost and seconds."""
        out, m = self._heads(x)[0], len(self.models)
        return self._raw(out, self._fine(x)), out[:, m : 2 * m], out[:, 2 * m :]

    def _raw(self, out: Floats, fine: Floats) -> Floats:
        told: Floats = out[:, : len(self.models)] + fine @ self.table
        return told

    def _heads(self, x: Array) -> tuple[Floats, Floats]:
        text = self.features.text
        near, familiar = likeness(x, self.landmarks, text, self.gamma, self._squares)
        counts, k = x[:, text:], near.shape[1]
        out = self.heads[0] + near @ self.heads[1 : 1 + k] + counts @ self.heads[1 + k :]
        return out.astype(np.float64), known(familiar, self.bars)

    def _amounts(self, out: Floats, sure: Floats) -> tuple[Floats, Floats]:
        m = len(self.models)
        far = 1 - sure[:, None]
        cost, seconds = np.exp(out[:, m : 2 * m]), np.exp(out[:, 2 * m :])
        return (
            sure[:, None] * cost + far * self.free[0],
            sure[:, None] * seconds + far * self.free[1],
        )

    def _fine(self, x: Array) -> Floats:
        return softmax((self.kinds[0] + x @ self.kinds[1:]).astype(np.float64))

    def _named(self, fine: Floats) -> Floats:
        return named(fine, self.merged, len(self.names))

    def pack(self) -> dict[str, Any]:
        """Arrays and JSON values in one flat dict, from which `unpack` makes it again."""
        inner = {f"features.{name}": value for name, value in self.features.pack().items()}
        return {
            "models": list(self.models),
            "names": list(self.names),
            "landmarks": self.landmarks.astype(np.float16),
            "gamma": self.gamma,
            "bars": list(self.bars),
            "base": self.base,
            "platt": self.platt,
            "heads": self.heads,
            "table": self.table,
            "free": self.free,
            "kinds": self.kinds,
            "merged": list(self.merged),
            **inner,
        }

    @classmethod
    def unpack(cls, parts: Mapping[str, Any]) -> Scores:
        """The inverse of `pack`. Raises ConfigError if wordllama is needed and missing."""
        mark = "features."
        inner = {k[len(mark) :]: v for k, v in parts.items() if k.startswith(mark)}
        rest = {k: v for k, v in parts.items() if not k.startswith(mark)}
        low, high = rest["bars"]
        rest |= {
            "models": tuple(rest["models"]),
            "names": tuple(rest["names"]),
            "merged": tuple(rest["merged"]),
            "bars": (float(low), float(high)),
            "landmarks": rest["landmarks"].astype(np.float32),
        }
        return cls(features=Features.unpack(inner), **rest)


def likeness(
    x: Array, landmarks: Array, text: int, gamma: float, squares: Array | None = None
) -> tuple[Array, Floats]:
    """How near each landmark is, P x K, and how familiar the words are, P, both 0 to 1.

    Near: a Gaussian of the distance. Familiar: how alike in the first `text` features, which tell
    what is said, to the most alike landmarks other than the prompt itself; a text in unknown words
    may still have a well-known shape. `squares`: the landmarks' lengths, if known.
    """
    if squares is None:
        squares = (landmarks * landmarks).sum(axis=1)
    said, shape = x[:, :text], x[:, text:]
    alike = said @ landmarks[:, :text].T
    dots = alike + shape @ landmarks[:, text:].T
    far = (x * x).sum(axis=1)[:, None] + squares - 2 * dots
    near: Array = np.exp(-gamma * np.maximum(far, 0))
    own = alike > 0.999 * (said * said).sum(axis=1)[:, None]
    others = np.where(own, np.minimum(alike, 0), alike)
    k = min(_ALIKE, others.shape[1])
    top = np.partition(others, others.shape[1] - k, axis=1)[:, others.shape[1] - k :]
    return near, top.mean(axis=1, dtype=np.float64)


def known(familiar: Floats, bars: tuple[float, float]) -> Floats:
    """0 to 1 between the bars."""
    low, high = bars
    out: Floats = np.clip((familiar - low) / max(high - low, 1e-9), 0, 1)
    return out


def judged(raw: Floats, sure: Floats, base: Floats, platt: Floats) -> Floats:
    """Calibrated probabilities; where nothing is known, the base rate."""
    p = np.clip(raw, 0.02, 0.98)
    z = platt[0] * np.log(p / (1 - p)) + platt[1]
    out: Floats = np.clip(base + sure[:, None] * (1 / (1 + np.exp(-z)) - base), 1e-4, 1 - 1e-4)
    return out


def softmax(z: Floats) -> Floats:
    """Rows of probabilities."""
    e = np.exp(z - z.max(axis=1, keepdims=True))
    out: Floats = e / e.sum(axis=1, keepdims=True)
    return out


def named(fine: Floats, merged: Sequence[int], count: int) -> Floats:
    """Probabilities of learned topics, added up under their `count` names."""
    if len(merged) == count:
        return fine
    out: Floats = fine @ np.eye(count)[list(merged)]
    return out
