"""Recorded outcomes: which member got which prompt right, at what cost, how fast.

A table has one row per prompt and member. Columns: `prompt_id`, `prompt`, `model`, `score`
(0 to 1) are needed; `cost` (dollars), `seconds`, `tokens_in`, `tokens_out`, `category`, `answer`
(what the member said, extracted), `gold` (the right answer, written as answers are), `confidence`
(0 to 1), `checked` (what a checker said, 0 or 1) and `split` are optional. `bicameral.left.table`
reads parquet, CSV and JSON lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from bicameral.config import nearest
from bicameral.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Texts = NDArray[np.object_]


@dataclass(frozen=True)
class Outcomes:
    """The table by prompt (rows) and member (columns); NaN and None mark what is not recorded.

    Not a msgspec value: it holds arrays. Shapes: P prompts, M members.
    """

    ids: tuple[str, ...]
    prompts: tuple[str, ...]
    models: tuple[str, ...]
    score: Floats  # P x M, 0 to 1
    cost: Floats  # P x M, dollars
    seconds: Floats  # P x M
    tokens_in: Floats  # P x M
    tokens_out: Floats  # P x M
    confidence: Floats  # P x M, 0 to 1
    checked: Floats  # P x M, what a checker said of the answer: 1 passed, 0 failed
    answer: Texts  # P x M, str or None
    gold: tuple[str | None, ...]
    categories: tuple[str | None, ...]
    splits: tuple[str | None, ...]

    def rows(self, keep: Sequence[int] | NDArray[np.bool_] | NDArray[np.intp]) -> Outcomes:
        """Only these prompts: indices or a mask."""
        import numpy as np

        index = np.arange(len(self.ids))[np.asarray(keep)]
        parts: dict[str, Any] = {name: getattr(self, name)[index] for name in _GRIDS}
        for name in _LISTS:
            parts[name] = tuple(getattr(self, name)[i] for i in index)
        return replace(self, **parts)

    def only(self, models: Sequence[str]) -> Outcomes:
        """Only these members, in this order; ConfigError names one the table does not have."""
        for model in models:
            if model not in self.models:
                raise ConfigError(f"no outcomes of '{model}': {nearest(model, self.models)}")
        columns = [self.models.index(model) for model in models]
        grids = {name: getattr(self, name)[:, columns] for name in _GRIDS}
        return replace(self, models=tuple(models), **grids)

    def folds(self, count: int = 5, seed: int = 0) -> NDArray[np.intp]:
        """The fold of each prompt: equal wording, equal fold, on every machine."""
        import numpy as np

        return np.array([fold(prompt, count, seed) for prompt in self.prompts], dtype=np.intp)


_GRIDS = ("score", "cost", "seconds", "tokens_in", "tokens_out", "confidence", "checked", "answer")
_LISTS = ("ids", "prompts", "gold", "categories", "splits")


def fold(prompt: str, count: int = 5, seed: int = 0) -> int:
    """Which of `count` folds a prompt is in, from its wording alone."""
    text = f"{seed}:{' '.join(prompt.lower().split())}"
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") % count
