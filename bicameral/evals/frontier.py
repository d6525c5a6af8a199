"""The cost-quality frontier: who is worth asking at which price, as a table and as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from bicameral.errors import ConfigError


@dataclass(frozen=True)
class Point:
    """A way of answering: dollars per 1,000 prompts, quality 0 to 1. `kind` groups a picture's."""

    name: str
    cost: float
    quality: float
    kind: str = "member"


def frontier(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats at its price or less, from cheap to dear.

    Points of unknown cost are left out.
    """
    best: list[Point] = []
    known = [point for point in points if not math.isnan(point.cost)]
    for point in sorted(known, key=lambda p: (p.cost, -p.quality)):
        if not best or point.quality > best[-1].quality:
            best.append(point)
    return best


def markdown(points: Sequence[Point]) -> str:
    """Every point by cost, those on the frontier marked."""
    on = frontier(points)
    rows = ["| | kind | $ per 1,000 | quality % | on the frontier |", "|---|---|---|---|---|"]
    for point in sorted(points, key=lambda p: (math.isnan(p.cost), p.cost)):
        cost = "?" if math.isnan(point.cost) else f"{point.cost:.3g}"
        mark = "yes" if point in on else ""
        rows.append(
            f"| {point.name} | {point.kind} | {cost} | {100 * point.quality:.1f} | {mark} |"
        )
    return "\n".join(rows) + "\n"


def draw(points: Sequence[Point], path: Path) -> None:
    """Write the picture: each kind in its colour, the frontier as steps. Costs are logarithmic."""
    figure_class, canvas_class = _matplotlib()
    known = [point for point in points if not math.isnan(point.cost) and point.cost > 0]
    if not known:
        raise ConfigError("no costs are recorded, so there is no cost-quality frontier to draw")
    figure = figure_class.Figure(figsize=(8, 5), layout="constrained")
    canvas_class.FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for kind in dict.fromkeys(point.kind for point in known):
        group = [point for point in known if point.kind == kind]
        axes.scatter([p.cost for p in group], [100 * p.quality for p in group], label=kind, s=24)
    edge = frontier(known)
    axes.step([p.cost for p in edge], [100 * p.quality for p in edge], where="post", lw=1)
    axes.set(xscale="log", xlabel="$ per 1,000 prompts", ylabel="quality, %")
    for plain in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        plain("{x:g}")
    axes.xaxis.set_major_formatter("{x:g}")
    middle = math.sqrt(min(p.cost for p in known) * max(p.cost for p in known))
    for point in edge:
        right = point.cost > middle
        axes.annotate(
            point.name,
            (point.cost, 100 * point.quality),
            xytext=(-5, 3) if right else (5, -10),
            textcoords="offset points",
            ha="right" if right else "left",
            fontsize=7,
        )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)


def _matplotlib() -> tuple[ModuleType, ModuleType]:
    """Without pyplot: no window system and no state outside the figure."""
    try:
        from matplotlib import figure
        from matplotlib.backends import backend_agg
    except ImportError as error:
        raise ConfigError(
            "drawing the frontier needs matplotlib: pip install 'bicameral[learn]'"
        ) from error
    return figure, backend_agg
