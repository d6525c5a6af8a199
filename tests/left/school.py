"""A made-up school of members and subjects, for tests of what is learned from outcomes."""

from __future__ import annotations

import numpy as np

from bicameral.left.outcomes import Outcomes

WORDS = {
    "sums": "add subtract multiply number total apples count twelve remainder fraction",
    "birds": "heron feather nest beak wing owl migrate egg sparrow hatch",
    "law": "court judge contract statute plaintiff appeal verdict tenant clause witness",
}
# How often each member is right, by subject.
SKILL = {"sums": (0.95, 0.2, 0.6), "birds": (0.2, 0.9, 0.6), "law": (0.5, 0.5, 0.6)}


def prompt(kind: str, rng: np.random.Generator) -> str:
    words = rng.choice(WORDS[kind].split(), size=8)
    return f"Please explain {' '.join(words)} in {rng.integers(2, 90)} words."


def school(count: int = 300, *, named: bool = True, seed: int = 0) -> Outcomes:
    """Members a (sums), b (birds) and c (anything); c costs ten times as much, b no seconds."""
    rng = np.random.default_rng(seed)
    kinds = [list(WORDS)[i] for i in rng.integers(0, len(WORDS), count)]
    chance = np.array([SKILL[kind] for kind in kinds])
    score = (rng.random(chance.shape) < chance).astype(float)
    cost = np.array([0.001, 0.001, 0.01]) * rng.uniform(0.5, 1.5, chance.shape)
    seconds = np.full(chance.shape, 2.0)
    seconds[:, 1] = np.nan
    gaps = np.full(chance.shape, np.nan)
    return Outcomes(
        ids=tuple(f"p{i}" for i in range(count)),
        prompts=tuple(prompt(kind, rng) for kind in kinds),
        models=("a", "b", "c"),
        score=score,
        cost=cost,
        seconds=seconds,
        tokens_in=gaps,
        tokens_out=gaps,
        confidence=gaps,
        checked=gaps,
        answer=np.full(chance.shape, None, dtype=object),
        gold=(None,) * count,
        categories=tuple(kinds if named else [None] * count),
        splits=(None,) * count,
    )
