"""The picture of a bake-off: latency and goodput by rate, each contestant in its colour."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from bicameral.chips.bakeoff import Bakeoff
from bicameral.chips.resample import Interval
from bicameral.chips.summary import Cell, cells, qualities
from bicameral.errors import ConfigError

_MARKS = "osD^vPX*"


def draw(bakeoff: Bakeoff, path: Path) -> None:
    """Write a PNG; ConfigError says what to install where matplotlib is missing."""
    figures, canvases = _matplotlib()
    figure = figures.Figure(figsize=(11, 7.5), layout="constrained")
    canvases.FigureCanvasAgg(figure)
    (latency, tail), (good, tokens) = figure.subplots(2, 2)
    by_name: dict[str, list[Cell]] = {}
    for cell in cells(bakeoff):
        by_name.setdefault(cell.contestant, []).append(cell)
    places = {rate: at for at, rate in enumerate(sorted(bakeoff.workload.load.rates))}
    for number, (name, own) in enumerate(by_name.items()):
        # A little to the side of each other, or the intervals of equals would hide one another.
        shift = 0.06 * (number - (len(by_name) - 1) / 2)
        style = {"color": f"C{number}", "marker": _MARKS[number % len(_MARKS)]}
        at = {rate: place + shift for rate, place in places.items()}
        _line(latency, at, [(c.rate, c.p50) for c in own], style, _label(bakeoff, name))
        _line(tail, at, [(c.rate, c.p95) for c in own], style)
        _line(good, at, [(c.rate, c.good) for c in own], style, scale=100)
        _line(tokens, at, [(c.rate, Interval(c.tokens_rate)) for c in own], style)
    deadline = bakeoff.workload.load.deadline
    for axes, title in ((latency, "median latency, s"), (tail, "95th percentile of latency, s")):
        axes.axhline(deadline, color="0.4", lw=0.8, ls="--")
        axes.annotate(
            f"deadline {deadline:g} s",
            (0.01, deadline),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2),
            textcoords="offset points",
            fontsize=7,
            color="0.4",
        )
        axes.set(title=title, yscale="log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.tick_params(axis="y", which="minor", labelsize=7)
    good.set(title="answered in time, %", ylim=(-3, 103))
    tokens.set(title="tokens written a second")
    tokens.set_ylim(bottom=0)
    for axes in (latency, tail, good, tokens):
        axes.set(xlabel="requests a second, open loop")
        axes.set_xticks(list(places.values()), [f"{rate:g}" for rate in places])
        axes.set_xlim(-0.5, len(places) - 0.5)
        axes.grid(alpha=0.3)
    figure.suptitle(
        f"{bakeoff.workload.name}: measured on {bakeoff.machine.cpu}, {bakeoff.machine.cores} cores"
        f", {bakeoff.made[:10]}; bars are 95 % intervals",
        fontsize=10,
    )
    figure.legend(loc="outside lower center", ncols=min(3, len(by_name) or 1), fontsize=8)
    figure.savefig(path, dpi=110)


def _label(bakeoff: Bakeoff, name: str) -> str:
    """With how often it is right, lest the fast look good."""
    right = {each.contestant: each.right.value for each in qualities(bakeoff)}
    settings = next(each.settings for each in bakeoff.found if each.name == name)
    share = right.get(name)
    quality = "" if share is None else f", {100 * share:.0f} % right"
    return f"{name} ({settings}{quality})"


def _line(
    axes: Any,
    at: dict[float, float],
    points: list[tuple[float, Interval]],
    style: dict[str, str],
    label: str | None = None,
    *,
    scale: float = 1.0,
) -> None:
    """Points that failed requests reach are left out: the line ends there."""
    known = [(at[rate], x) for rate, x in points if x.value is not None]
    values = [scale * (x.value or 0.0) for _, x in known]
    below = [
        v - scale * (v / scale if x.low is None else x.low)
        for v, (_, x) in zip(values, known, strict=True)
    ]
    above = [
        scale * (v / scale if x.high is None else x.high) - v
        for v, (_, x) in zip(values, known, strict=True)
    ]
    axes.errorbar(
        [place for place, _ in known],
        values,
        yerr=[[max(0.0, x) for x in below], [max(0.0, x) for x in above]],
        label=label,
        ms=5,
        lw=1.2,
        elinewidth=0.9,
        capsize=2,
        **style,
    )


def _matplotlib() -> tuple[ModuleType, ModuleType]:
    """Without pyplot: no window system and no state outside the figure."""
    try:
        from matplotlib import figure
        from matplotlib.backends import backend_agg
    except ImportError as error:
        raise ConfigError("drawing needs matplotlib: pip install 'bicameral[learn]'") from error
    return figure, backend_agg
