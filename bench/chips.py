"""Is the planner right? Its forecasts of published runs, on chips and models it has not seen.

Prints the tables; `--rows` also every published row beside its forecast, `--write` fits the
coefficients that are shipped. Wants the folder of data sets (BICAMERAL_DATA); without it, it says
so and ends.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import chips_rivals as rivals
import numpy as np
from chips_apart import decoding
from chips_data import Row, silicon, there
from chips_placed import placements
from chips_published import Said, of_lab, of_mlperf, table
from chips_trial import Held, Mask, Trial, choose, held_out, pairs, ratios_of_groups, trials
from left_data import Missing
from numpy.typing import NDArray

from bicameral.chips.fit import band
from bicameral.chips.forecast import shipped
from bicameral.chips.roofline import room

Floats = NDArray[np.float64]
SHIPPED = Path(__file__).parents[1] / "bicameral" / "chips" / "coefficients.toml"


def generation(row: Row) -> str:
    return row.chip_.generation


def chip(row: Row) -> str:
    return row.chip


def model(row: Row) -> str:
    return row.model


def error(forecast: Floats, measured: Floats, rows: Mask) -> str:
    off = forecast[rows] / measured[rows] - 1
    return f"{np.abs(off).mean():6.1%} {np.median(np.abs(off)):6.1%} {off.mean():+7.1%}"


def inside(held: Held, measured: Floats, rows: Mask) -> float:
    within = (held.low <= measured) & (measured <= held.high)
    return float(within[rows].mean())


def rivals_of(trial: Trial, train: Mask, rows: Mask, by: Callable[[Row], str]) -> dict[str, Floats]:
    """Speed of light, fixed efficiencies, and six coefficients fitted without the group."""
    groups, columns = trial.of(by), rivals.six(trial.rows)
    fitted = np.full(len(trial.rows), np.nan)
    for group in sorted(set(groups[rows])):
        rest, here = train & (groups != group), rows & (groups == group)
        fitted[here] = columns[here] @ rivals.fit_six(columns[rest], trial.measured[rest])
    return {
        "speed of light": rivals.light(trial.rows),
        "fixed efficiencies": rivals.fixed(trial.rows),
        "six coefficients": fitted,
    }


def compare(trial: Trial, by: Callable[[Row], str], what: str) -> Iterator[str]:
    """One token's time, each group of rows forecast by fits that have not seen it."""
    planner = np.array([r.planner for r in trial.rows])
    whole = np.ones(len(planner), bool)
    inner = "chip" if by is chip else "model"
    yield f"\ntime per output token, {what} never seen: MAPE, median, bias, rows in the 90 % band"
    for rows, where in ((planner, "planner subset"), (whole, "all aggregated rows")):
        yield f"{where} ({rows.sum()} rows)"
        for name, said in rivals_of(trial, rows, rows, by).items():
            yield f"  {name:34} {error(said, trial.measured, rows)}"
        for train, told in ((planner, "planner subset"), (whole, "all other rows")):
            if rows is whole and train is planner:
                continue
            held = held_out(trial, trial.of(by), train, rows, inner)
            covered = inside(held, trial.measured, rows)
            name = f"ours, fitted on {told}"
            yield f"  {name:34} {error(held.forecast, trial.measured, rows)} {covered:6.1%}"
            yield f"    forms chosen: {', '.join(f'{g}: {f}' for g, f in held.chosen.items())}"
            yield from by_group(trial, held, by, rows)


def by_group(trial: Trial, held: Held, by: Callable[[Row], str], rows: Mask) -> Iterator[str]:
    groups = trial.of(by)
    for group in sorted(set(groups[rows])):
        here = rows & (groups == group)
        covered = inside(held, trial.measured, here)
        said = error(held.forecast, trial.measured, here)
        yield f"      {group:16} {here.sum():5} rows {said} {covered:6.1%}"


def capped(trial: Trial) -> Iterator[str]:
    """Rows whose batch memory cannot hold, and rows that beat the speed of light nevertheless."""
    held = held_out(trial, trial.of(chip), *[np.ones(len(trial.rows), bool)] * 2, "chip")
    beyond = np.array([_beyond(r) for r in trial.rows])
    faster = trial.measured < trial.columns[:, trial.names.index("step")]
    yield "\nchip never seen, all rows: MAPE, median, bias"
    for rows, what in ((beyond, "memory caps the batch"), (faster, "faster than light")):
        yield f"  {what:24} {rows.sum():5} rows {error(held.forecast, trial.measured, rows)}"
    neither = ~beyond & ~faster
    yield f"  {'neither':24} {neither.sum():5} rows {error(held.forecast, trial.measured, neither)}"


def _beyond(row: Row) -> bool:
    space = room(row.network, row.chip_, row.precision, row.layout, row.load)
    return space.sequences < row.load.concurrency / row.layout.data


def first_tokens(trial: Trial) -> Iterator[str]:
    planner = np.array([r.planner for r in trial.rows])
    whole = np.ones(len(planner), bool)
    yield "\ntime to the first token: MAPE, median, bias, rows in the 90 % band"
    for by, what in ((chip, "chip"), (model, "model"), (generation, "generation")):
        held = held_out(trial, trial.of(by), whole, whole, "chip" if by is chip else "model")
        for rows, where in ((planner, "planner subset"), (whole, "all rows")):
            said = error(held.forecast, trial.measured, rows)
            covered = inside(held, trial.measured, rows)
            yield f"  {what:10} never seen, {where:14} {said} {covered:6.1%}"
    columns = trial.columns[:, [trial.names.index("own")]]
    yield f"  speed of light of the own prompt    {error(columns[:, 0], trial.measured, whole)}"


def ranking(trial: Trial) -> Iterator[str]:
    """Pairs of chips under the same load, ranked by fits that have seen neither."""
    chips = trial.of(chip)
    whole = np.ones(len(chips), bool)

    @cache
    def ours(two: tuple[str, str]) -> Floats:
        rest = whole & ~np.isin(chips, two)
        form, _ = choose(trial, trial.of(model), rest)
        return trial.columns @ trial.fit(form, rest)

    light = rivals.light(trial.rows)
    yield "\nwhich chip is faster, where they differ by over 10 %: pairs, right"
    for where in ("planner subset", "all rows"):
        some = [i for i, r in enumerate(trial.rows) if r.planner or where == "all rows"]
        for name, said in (("ours", ours), ("speed of light", lambda two: light)):
            all_, right = pairs(trial.rows, some, said, trial.measured)
            share = right.total() / all_.total()
            yield f"  {where:15} {name:15} {all_.total():5} {share:7.2%}"
            yield "    " + ", ".join(f"{a} {b} {right[a, b]}/{n}" for (a, b), n in all_.items())


def as_labelled() -> Iterator[str]:
    """Exact repeats removed and nothing else, as others did it."""
    rows, _ = silicon(mend=False)
    trial, _, left = trials([r for r in rows if r.planner])
    every = np.ones(len(trial.rows), bool)
    held = held_out(trial, trial.of(chip), every, every, "chip")
    yield f"\nplanner subset as labelled: {len(every)} rows, {len(left)} do not fit in memory"
    for name, said in rivals_of(trial, every, every, chip).items():
        yield f"  {name:34} {error(said, trial.measured, every)}"
    covered = inside(held, trial.measured, every)
    yield f"  {'ours':34} {error(held.forecast, trial.measured, every)} {covered:6.1%}"


def ship(token: Trial, first: Trial) -> str:
    """The coefficients file: all rows, the form that leaves chips out best, both bands."""
    lines = [
        "# Fitted by bench/chips.py --write on published serving runs; see docs/measurements.md.",
        "# Shared by all chips, engines and models. Units: forecast.Coefficients.",
        f"generations = {json.dumps(sorted(set(map(generation, token.rows))))}",
        f"widest = {max(r.layout.chips for r in token.rows)}",
        f"most = {max(r.load.concurrency for r in token.rows)}",
    ]
    bands = []
    for name, trial in (("token", token), ("first", first)):
        whole = np.ones(len(trial.rows), bool)
        form, seen = choose(trial, trial.of(chip), whole)
        unseen = band(ratios_of_groups(trial, form, trial.of(generation), whole))
        found = trial.fit(form, whole)
        lines += [
            "",
            f"[{name}]",
            *(f"{n} = {c:.4g}" for n, c in zip(trial.names, found, strict=True)),
        ]
        bands += ["", f"[{name}_band]", f"seen = [{seen[0]:.3g}, {seen[1]:.3g}]"]
        bands += [f"unseen = [{unseen[0]:.3g}, {unseen[1]:.3g}]"]
    return "\n".join([*lines, *bands]) + "\n"


def published(every: bool) -> Iterator[str]:
    known = shipped()
    said, left = of_mlperf(known)
    yield f"\nMLPerf v5.1, left out: {left}"
    tokens, rates = of_lab(known)
    parts: list[tuple[str, Sequence[Said], Callable[[float], str]]] = [
        ("MLPerf v5.1, tokens/s per accelerator", said, "{:.0f}".format),
        ("GPUStack lab, ms per output token", tokens, lambda x: f"{x * 1e3:.1f}"),
        ("GPUStack lab, output tokens/s", rates, "{:.0f}".format),
    ]
    for title, rows, show in parts:
        for line in table(title, rows, show):
            if line == "all:" and not every:
                break
            yield line


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", action="store_true", help="print every published row")
    parser.add_argument("--write", action="store_true", help="fit what is shipped")
    asked = parser.parse_args(arguments)
    try:
        there()
    except Missing as missing:
        print(missing)
        return 0
    rows, done = silicon()
    token, first, left = trials(rows)
    if asked.write:
        SHIPPED.write_text(ship(token, first), encoding="utf-8")
        return 0
    print(f"silicon sample: {dict(done)}; {len(rows)} rows, {len(left)} do not fit in memory")
    for by, what in ((chip, "chip"), (model, "model"), (generation, "generation")):
        print(*compare(token, by, what), sep="\n", flush=True)
    parts = (
        capped(token),
        first_tokens(first),
        ranking(token),
        as_labelled(),
        decoding(shipped()),
    )
    for part in (*parts, published(asked.rows), placements()):
        print(*part, sep="\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
