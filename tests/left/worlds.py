"""Made-up worlds of prompts and members, with outcomes drawn from known probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bicameral.left.outcomes import Outcomes

WORDS = {
    "algebra": ("solve", "equation", "polynomial", "root", "integer", "factor", "matrix"),
    "law": ("contract", "court", "statute", "plaintiff", "tort", "liability", "verdict"),
    "cooking": ("simmer", "onion", "butter", "oven", "flour", "whisk", "roast", "garlic"),
}
OPTIONS = "ABCDE"


def world(
    members: Mapping[str, Sequence[float]],
    prompts: int,
    *,
    seed: int = 0,
    cost: Sequence[float] | None = None,
    copies: Mapping[str, str] | None = None,
    answers: bool = True,
    confidence: bool = False,
) -> Outcomes:
    """`members` gives each member's accuracy on algebra, law and cooking.

    Wrong answers are spread evenly over the other options. `copies`: a member that says what
    another said. With `confidence`, right answers sound surer than wrong ones.
    """
    rng = np.random.default_rng(seed)
    topics = rng.integers(0, 3, prompts)
    names = list(members)
    texts = []
    for number, topic in enumerate(topics):
        words = rng.choice(list(WORDS.values())[topic], 6)
        texts.append(f"{' '.join(words)} number {number}")
    gold = rng.integers(0, len(OPTIONS), prompts)
    given = np.zeros((prompts, len(names)), dtype=int)
    for m, name in enumerate(names):
        right = rng.random(prompts) < np.array(members[name])[topics]
        wrong = (gold + rng.integers(1, len(OPTIONS), prompts)) % len(OPTIONS)
        given[:, m] = np.where(right, gold, wrong)
    for copy, original in (copies or {}).items():
        given[:, names.index(copy)] = given[:, names.index(original)]
    score = (given == gold[:, None]).astype(float)
    nan = np.full(score.shape, np.nan)
    sure = np.clip(np.where(score == 1, 0.8, 0.4) + 0.15 * rng.standard_normal(score.shape), 0, 1)
    letters = np.array(list(OPTIONS), dtype=object)
    return Outcomes(
        ids=tuple(f"p{i}" for i in range(prompts)),
        prompts=tuple(texts),
        models=tuple(names),
        score=score,
        cost=nan if cost is None else np.tile(np.array(cost, dtype=float), (prompts, 1)),
        seconds=nan,
        tokens_in=nan,
        tokens_out=nan,
        confidence=sure if confidence else nan,
        checked=nan,
        answer=letters[given] if answers else np.full(score.shape, None, dtype=object),
        gold=tuple(letters[gold]) if answers else (None,) * prompts,
        categories=tuple(list(WORDS)[t] for t in topics),
        splits=(None,) * prompts,
    )
