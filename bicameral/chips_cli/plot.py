"""The picture of a bake-off: latency and goodput by rate, each contestant in its colour."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    figures, canvases, ticks = _matplotlib()
    figure = figures.Figure(figsize=(11, 7.5), layout="constrained")
    canvases.FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2).ravel()
    places = {rate: at for at, rate in enumerate(sorted(bakeoff.workload.load.rates))}
    by_name: dict[str, list[Cell]] = {}
    for cell in cells(bakeoff):
        by_name.setdefault(cell.contestant, []).append(cell)
    for number, (name, own) in enumerate(by_name.items()):
        # A little to the side of each other, or the intervals of equals would hide one another.
        shift = 0.06 * (number - (len(by_name) - 1) / 2)
        style = {"color": f"C{number}", "marker": _MARKS[number % len(_MARKS)]}
        at = {rate: place + shift for rate, place in places.items()}
        _lines(panels, at, own, style, _label(bakeoff, name))
    for axes in panels[:2]:
        _seconds(axes, bakeoff.workload.load.deadline, ticks)
    _titles(panels, places)
    figure.suptitle(
        f"{bakeoff.workload.name}: measured on {bakeoff.machine.cpu}, {bakeoff.machine.cores} cores"
        f", {bakeoff.made[:10]}; bars are 95 % intervals",
        fontsize=10,
    )
    figure.legend(loc="outside lower center", ncols=min(3, len(by_name) or 1), fontsize=8)
    figure.savefig(path, dpi=110)


def _lines(
    panels: Sequence[Any],
    at: Mapping[float, float],
    own: Sequence[Cell],
    style: Mapping[str, str],
    label: str,
) -> None:
    """One contestant in every panel."""
    shown: tuple[tuple[Callable[[Cell], Interval], float], ...] = (
        (lambda cell: cell.p50, 1.0),
        (lambda cell: cell.p95, 1.0),
        (lambda cell: cell.good, 100.0),
        (lambda cell: Interval(cell.tokens_rate), 1.0),
    )
    for axes, (value, scale) in zip(panels, shown, strict=True):
        points = [(at[cell.rate], value(cell)) for cell in own]
        _line(axes, points, style, label if axes is panels[0] else None, scale)


def _seconds(axes: Any, deadline: float, ticks: ModuleType) -> None:
    """A logarithmic axis that can be read, with the deadline across it."""
    axes.set(yscale="log")
    axes.yaxis.set_major_locator(ticks.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(ticks.NullFormatter())
    axes.axhline(deadline, color="0.4", lw=0.8, ls="--")
    axes.annotate(
        f"deadline {deadline:g} s",
        (0.995, deadline),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2),
        textcoords="offset points",
        ha="right",
        fontsize=7,
        color="0.4",
    )


def _titles(panels: Sequence[Any], places: Mapping[float, int]) -> None:
    titles = ("median latency, s", "95th percentile of latency, s", "answered in time, %")
    for axes, title in zip(panels, (*titles, "tokens written a second"), strict=True):
        axes.set(title=title, xlabel="requests a second, open loop")
        axes.set_xticks(list(places.values()), [f"{rate:g}" for rate in places])
        axes.set_xlim(-0.5, len(places) - 0.5)
        axes.grid(alpha=0.3)
    panels[2].set_ylim(-3, 103)
    panels[3].set_ylim(bottom=0)


def _label(bakeoff: Bakeoff, name: str) -> str:
    """With how often it is right, lest the fast look good."""
    right = {each.contestant: each.right.value for each in qualities(bakeoff)}
    settings = next(each.settings for each in bakeoff.found if each.name == name)
    share = right.get(name)
    quality = "" if share is None else f", {100 * share:.0f} % right"
    return f"{name} ({settings}{quality})"


def _line(
    axes: Any,
    points: Sequence[tuple[float, Interval]],
    style: Mapping[str, str],
    label: str | None,
    scale: float,
) -> None:
    """Points that failed requests reach are left out: the line ends there."""
    known = [(place, *_ends(x, scale)) for place, x in points if x.value is not None]
    axes.errorbar(
        [place for place, *_ in known],
        [value for _, value, _, _ in known],
        yerr=[[below for *_, below, _ in known], [above for *_, above in known]],
        label=label,
        ms=5,
        lw=1.2,
        elinewidth=0.9,
        capsize=2,
        **style,
    )


def _ends(x: Interval, scale: float) -> tuple[float, float, float]:
    """The value, and how far the interval goes below and above it; no end: not at all."""
    value = x.value or 0.0
    low, high = (value if end is None else end for end in (x.low, x.high))
    return scale * value, max(0.0, scale * (value - low)), max(0.0, scale * (high - value))


def _matplotlib() -> tuple[ModuleType, ModuleType, ModuleType]:
    """Without pyplot: no window system and no state outside the figure."""
    try:
        from matplotlib import figure, ticker
        from matplotlib.backends import backend_agg
    except ImportError as error:
        raise ConfigError("drawing needs matplotlib: pip install 'bicameral[learn]'") from error
    return figure, backend_agg, ticker
