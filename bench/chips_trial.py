"""Forecasts of groups of rows that the fit has not seen, with the form chosen within the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from chips_data import Row
from numpy.typing import NDArray

from bicameral.chips.fit import band, calibrate, matrix
from bicameral.chips.roofline import terms
from bicameral.errors import ConfigError

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
LEAST = 20  # rows that a group must have to be held out within the training rows

_CORE = ("step", "reading", "reductions", "layers", "expert_layers")
_READ = (*_CORE, "reading_layers", "moved_reading")
TOKEN_FORMS = {
    "5": _CORE,
    "6, moved": (*_CORE, "moved"),
    "7": _READ,
    "8, moved": (*_READ, "moved"),
    "8, unpacked": (*_READ, "unpacked"),
    "9": (*_READ, "moved", "unpacked"),
}
FIRST_FORMS = {
    "3": ("own", "step", "once"),
    "4": ("own", "before", "step", "once"),
    "5, moved": ("own", "before", "step", "once", "moved"),
    "6": ("own", "before", "step", "once", "moved", "requests"),
}


@dataclass(frozen=True)
class Trial:
    """Rows with what was counted of them; `columns` in the order of `names`."""

    rows: list[Row]
    columns: Floats
    measured: Floats
    names: tuple[str, ...]
    forms: dict[str, tuple[str, ...]]

    def of(self, what: Callable[[Row], str]) -> NDArray[np.str_]:
        return np.array([what(r) for r in self.rows])

    def fit(self, form: str, rows: Mask) -> Floats:
        use = [n in self.forms[form] for n in self.names]
        return calibrate(self.columns[rows], self.measured[rows], use)


def trials(rows: Sequence[Row]) -> tuple[Trial, Trial, list[Row]]:
    """Of a token's time and of the first one's, and the rows whose weights do not fit."""
    kept, left, token, first = [], [], [], []
    for row in rows:
        try:
            one, prompt = terms(row.network, row.chip_, row.precision, row.layout, row.load)
        except ConfigError:
            left.append(row)
            continue
        kept.append(row)
        token.append(one)
        first.append(prompt)
    of_token = np.array([r.token for r in kept])
    of_first = np.array([r.first for r in kept])
    return (
        Trial(kept, matrix(token), of_token, token[0].__struct_fields__, TOKEN_FORMS),
        Trial(kept, matrix(first), of_first, first[0].__struct_fields__, FIRST_FORMS),
        left,
    )


@dataclass(frozen=True)
class Held:
    """Forecasts of the rows held out; `low` and `high` bound the band promised for nine of ten."""

    forecast: Floats
    low: Floats
    high: Floats
    chosen: dict[str, str]


def held_out(trial: Trial, groups: NDArray[np.str_], train: Mask, test: Mask, inner: str) -> Held:
    """Each group's rows of `test` by a fit on `train` without that group.

    Form and band come from holding out groups of `inner` (chip or model) within those rows.
    """
    n = len(trial.rows)
    found = Held(np.full(n, np.nan), np.full(n, np.nan), np.full(n, np.nan), {})
    within = trial.of(lambda r: getattr(r, inner))
    for group in sorted(set(groups[test])):
        rest = train & (groups != group)
        here = test & (groups == group)
        form, (low, high) = choose(trial, within, rest)
        found.chosen[str(group)] = form
        found.forecast[here] = trial.columns[here] @ trial.fit(form, rest)
        found.low[here] = found.forecast[here] * low
        found.high[here] = found.forecast[here] * high
    return found


def choose(trial: Trial, within: NDArray[np.str_], rest: Mask) -> tuple[str, tuple[float, float]]:
    """The form with the least error on groups left out within `rest`, and the band of those."""
    best: tuple[float, str, Floats] | None = None
    for form in trial.forms:
        ratios = ratios_of_groups(trial, form, within, rest)
        error = float(np.mean(np.abs(1 / ratios - 1)))
        if best is None or error < best[0]:
            best = error, form, ratios
    assert best is not None
    return best[1], band(best[2])


def ratios_of_groups(trial: Trial, form: str, within: NDArray[np.str_], rest: Mask) -> Floats:
    """Measured / forecast of every row of `rest`, by fits that leave its group out."""
    ratios = []
    for group in sorted(set(within[rest])):
        here = rest & (within == group)
        others = rest & (within != group)
        if here.sum() >= LEAST and others.sum() >= LEAST:
            forecast = trial.columns[here] @ trial.fit(form, others)
            ratios.append(trial.measured[here] / forecast)
    if not ratios:
        raise ValueError("no group within the training rows is large enough to be left out")
    return np.concatenate(ratios)


def pairs(
    rows: Sequence[Row],
    some: Sequence[int],
    forecast: Callable[[tuple[str, str]], Floats],
    measured: Floats,
) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]:
    """Pairs of chips under one load that differ by over 10 %: how many, and how many ranked right.

    Among `some` of the rows. `forecast`: of all rows, by a fit that has seen neither chip.
    """
    same: dict[object, list[int]] = {}
    for i in some:
        r = rows[i]
        same.setdefault((r.model, r.engine, r.stated, r.layout, r.load), []).append(i)
    total: Counter[tuple[str, str]] = Counter()
    right: Counter[tuple[str, str]] = Counter()
    for members in same.values():
        for a, b in combinations(members, 2):
            low, high = sorted((measured[a], measured[b]))
            if rows[a].chip == rows[b].chip or high / low <= 1.1:
                continue
            two = (min(rows[a].chip, rows[b].chip), max(rows[a].chip, rows[b].chip))
            said = forecast(two)
            total[two] += 1
            right[two] += bool((said[a] - said[b]) * (measured[a] - measured[b]) > 0)
    return total, right
