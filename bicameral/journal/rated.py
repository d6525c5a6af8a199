"""Rated answers as outcomes, to learn from.

A rating is of the answer that was given, so it holds for every member that said the same, and for
no other. An answer that was written from several tells nothing of one member and is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from bicameral.decision import Asked, Decision
from bicameral.errors import ConfigError
from bicameral.journal.store import Entry

if TYPE_CHECKING:
    from bicameral.left.outcomes import Outcomes

_GRIDS = ("score", "cost", "seconds", "tokens_in", "tokens_out", "confidence", "checked")


def outcomes(entries: Iterable[Entry]) -> Outcomes:
    """One row a rated answer; ConfigError if none of them can be learned from.

    Where the question was not kept its id stands for it: such rows tell base rates only.
    """
    rows = [(entry, said) for entry in entries if (said := dict(_said(entry)))]
    if not rows:
        raise ConfigError(
            "the journal holds no rating of an answer that one member gave: rate some with "
            "POST /v1/feedback or `bicameral feedback`"
        )
    return _grid(rows)


def _said(entry: Entry) -> Iterator[tuple[str, Asked]]:
    """Each member that gave this answer, minds inside included, and how it did."""
    names = [entry.decisions[0].mind]
    for decision in entry.decisions:
        if decision.mind not in names:
            continue
        for asked in _alike(decision):
            names.append(asked.model)
            yield asked.model, asked


def _alike(decision: Decision) -> list[Asked]:
    """Those whose answer was what the mind said; nobody if it was made from different answers."""
    sharing = [asked for asked in decision.asked if asked.share]
    keys = {asked.key for asked in sharing}
    if len(keys) != 1 or (None in keys and len(sharing) > 1):
        return []
    (key,) = keys
    same = [a for a in decision.asked if key is not None and a.key == key]
    return [*same, *(a for a in sharing if a not in same)]


def _grid(rows: list[tuple[Entry, dict[str, Asked]]]) -> Outcomes:
    import numpy as np

    from bicameral.left.outcomes import Outcomes

    models = tuple(dict.fromkeys(name for _, said in rows for name in said))
    shape = (len(rows), len(models))
    grids = {name: np.full(shape, np.nan) for name in _GRIDS}
    answer = np.full(shape, None, dtype=object)
    for i, (entry, said) in enumerate(rows):
        for name, asked in said.items():
            j = models.index(name)
            for grid, value in _figures(entry, asked).items():
                if value is not None:
                    grids[grid][i, j] = value
            answer[i, j] = asked.key
    nothing = (None,) * len(rows)
    return Outcomes(
        ids=tuple(entry.id for entry, _ in rows),
        prompts=tuple(entry.prompt or entry.id for entry, _ in rows),
        models=models,
        answer=answer,
        gold=nothing,
        categories=nothing,
        splits=nothing,
        **grids,
    )


def _figures(entry: Entry, asked: Asked) -> dict[str, float | None]:
    return {
        "score": entry.score,
        "cost": None if asked.cost is None else asked.cost / 1e9,
        "seconds": asked.seconds,
        "tokens_out": asked.tokens,
        "confidence": asked.confidence,
        "checked": asked.checked,
    }
