"""What a net scored, as tables: for each number who won, and where the net loses to a floor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import asdict

from bicameral.engines.vdt.score.held import WITHIN_NAME
from bicameral.engines.vdt.score.seven import BEST, MODEL, TRUTH, Result, Rolled, Scores, Unled

if TYPE_CHECKING:
    from rich.table import Table

_PIXELS = {"MSE": ("mse", 1), "MAE": ("mae", 1), "SSIM": ("ssim", 4), "PSNR": ("psnr", 2)}
_RISING = ("ssim", "psnr", "turned")
_WIDE = 10  # frames side by side; of more as many, evenly spread
_MOTION = {
    "position px": ("position_px", 2),
    "units": ("position", 3),
    "speed before": ("before", 3),
    "after": ("after", 3),
    "momentum": ("momentum", 3),
    "energy": ("energy", 3),
    "radius": ("radius", 3),
    "drift": ("drift", 3),
    "turned %": ("turned", 0),
    "lost %": ("lost", 1),
    "miscount": ("pieces", 3),
}
_DISTANCE = {
    "MMD": ("mmd", 4),
    "density": ("density", 2),
    "coverage": ("coverage", 2),
}
_ABLE = {
    "shown": ("shown", 2),
    "constant": ("constant", 2),
    "balls": ("balls", 2),
    "speed": ("speed", 2),
    "change": ("change", 3),
    "growth": ("growth", 4),
}
NOTE = (
    "MSE and MAE are sums over the generated pixels of a frame. Bold: the best of its column; "
    "red (in Markdown with a †): the net loses there to a guess that knows nothing of motion. "
    "The best sample is chosen by the truth: it is not comparable with published tables. "
    "The row truth is what the parser of balls itself gets wrong; turned is the share of impacts "
    "after which a ball goes the right way, lost that of balls not seen, of which no other number "
    "knows."
)


class Cell(Struct, frozen=True):
    """`mark`: best, worse than a floor, or neither."""

    text: str
    mark: str = ""


class Grid(Struct, frozen=True):
    """A table before it is drawn; an empty row parts what is above it from what is below."""

    title: str
    head: list[str]
    rows: list[list[Cell]]

    def rich(self) -> Table:
        """For a terminal."""
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self.title, title_justify="left")
        for number, name in enumerate(self.head):
            table.add_column(name, justify="right" if number else "left", no_wrap=True)
        styles = {"best": "bold green", "worse": "red", "": ""}
        for row in self.rows:
            if row:
                table.add_row(*(Text(cell.text, styles[cell.mark]) for cell in row))
            else:
                table.add_section()
        return table

    def markdown(self) -> str:
        """For a page."""
        marks = {"best": "**{}**", "worse": "{} †", "": "{}"}
        lines = [self.head, ["---"] * len(self.head)]
        lines += [[marks[c.mark].format(c.text) for c in row] for row in self.rows if row]
        drawn = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"{self.title}\n\n{drawn}\n"


def grids(scores: Scores) -> list[Grid]:
    """All of it."""
    found = []
    for name, results in _by_world(scores.results).items():
        found.append(pixels(results, f"{name}: pixels"))
        if any(result.motion for result in results):
            found.append(motion(results, f"{name}: how balls move"))
    found += [
        curves(f"predict, {result.world}: MSE by frame", result.made, result.curves)
        for result in scores.results
        if result.task == "predict" and result.world == WITHIN_NAME
    ]
    if scores.rolled:
        found += rolled(scores.rolled)
    if scores.unled:
        found += unled(scores.unled)
    return found


def pixels(results: Iterable[Result], title: str) -> Grid:
    """MSE, MAE, SSIM, PSNR, by task."""
    rows: list[list[Cell]] = []
    for result in results:
        table = {name: asdict(score) for name, score in result.scores.items()}
        rows += [*_section(_label(result), table, _PIXELS, unranked=(BEST,)), []]
    return Grid(title, ["task", "guess", *_PIXELS], rows)


def motion(results: Iterable[Result], title: str) -> Grid:
    """The errors of motion, by task; lost as a share of what should be seen."""
    rows: list[list[Cell]] = []
    for result in results:
        table = {name: _shared(row) for name, row in result.motion.items()}
        rows += [*_section(_label(result), table, _MOTION, unranked=(TRUTH,)), []]
    return Grid(title, ["task", "guess", *_MOTION], rows)


def curves(title: str, frames: Sequence[int], by: Mapping[str, Sequence[float | None]]) -> Grid:
    """A number frame by frame, less being better."""
    every = -(-len(frames) // _WIDE) if frames else 1
    columns = {str(frames[at]): (str(at), 1) for at in range(len(frames) - 1, -1, -every)}
    columns = dict(reversed(columns.items()))
    table = {name: {str(at): v for at, v in enumerate(values)} for name, values in by.items()}
    rows = _section("", table, columns, unranked=(BEST, TRUTH))
    return Grid(title, ["guess", *columns], [row[1:] for row in rows])


def rolled(found: Rolled) -> list[Grid]:
    """Errors by frame of a clip made by windows."""
    title = f"predict on, {found.windows} windows"
    grids = [curves(f"{title}: MSE by frame", found.made, found.curves)]
    if found.position:
        units = {n: [v and 10 * v for v in values] for n, values in found.position.items()}
        grids.append(curves(f"{title}: position by frame, tenths of a unit", found.made, units))
        lost = {n: [v and 100 * v for v in values] for n, values in found.lost.items()}
        grids.append(curves(f"{title}: balls lost by frame, %", found.made, lost))
    return grids


def unled(found: Unled) -> list[Grid]:
    """How far from real clips as a set, and whether they could be."""
    columns = {found.feature: ("frechet", 4), **_DISTANCE}
    table = {name: asdict(distance) for name, distance in found.distances.items()}
    title = f"unconditional: {found.clips} clips from as many real ones"
    grids = [_unled(title, table, columns)]
    if found.plausible:
        table = {name: asdict(able) for name, able in found.plausible.items()}
        grids.append(_unled("unconditional: could it be", table, _ABLE))
    return grids


def verdicts(scores: Scores) -> list[str]:
    """For each task a sentence on whether the net beats what knows nothing of motion, in MSE."""
    said = []
    for result in scores.results:
        floors = {n: s.mse for n, s in result.scores.items() if n not in MODEL}
        floor = min(floors, key=floors.__getitem__)
        least, ours = floors[floor], {n: result.scores[n].mse for n in MODEL[:2]}
        for name, mse in ours.items():
            how = "beats every floor" if mse < least else "loses to a floor"
            said.append(f"{_label(result)}: {name} {how}: {mse:.1f}, {floor} {least:.1f}")
    return said


def _unled(
    title: str, table: Mapping[str, Mapping[str, Any]], columns: Mapping[str, tuple[str, int]]
) -> Grid:
    rows = [
        [Cell(name), *(Cell(_told(row[key], places)) for key, places in columns.values())]
        for name, row in table.items()
    ]
    return Grid(title, ["clips", *columns], rows)


def _section(
    label: str,
    table: Mapping[str, Mapping[str, Any]],
    columns: Mapping[str, tuple[str, int]],
    *,
    unranked: Sequence[str],
) -> list[list[Cell]]:
    """The rows of one task: its net first, and each cell marked among its column.

    Where there is nothing to interpolate between, linear is a copy and is left out.
    """
    twins = ["linear"] if table.get("linear") == table.get("copy") else []
    names = [n for n in MODEL if n in table]
    names += [n for n in table if n not in MODEL and n not in twins]
    ranked = [name for name in names if name not in unranked]
    rows = []
    for number, name in enumerate(names):
        cells = [Cell("" if number else label), Cell(name)]
        for key, places in columns.values():
            column = {n: table[n].get(key) for n in ranked}
            mark = _mark(name, column, rising=key in _RISING)
            cells.append(Cell(_told(table[name].get(key), places), mark))
        rows.append(cells)
    return rows


def _mark(name: str, column: Mapping[str, Any], *, rising: bool) -> str:
    sign = -1 if rising else 1
    known = {n: sign * value for n, value in column.items() if value is not None}
    if name not in known:
        return ""
    if known[name] == min(known.values()):
        return "best"
    floors = [value for n, value in known.items() if n not in MODEL]
    return "worse" if name in MODEL and floors and known[name] > min(floors) else ""


def _shared(row: Mapping[str, Any]) -> dict[str, Any]:
    """Counts as shares of what there should be."""
    lost = 100 * row["lost"] / row["due"] if row["due"] else None
    turned = 100 * row["right"] / row["impacts"] if row["impacts"] else None
    return {**row, "lost": lost, "turned": turned}


def _by_world(results: Iterable[Result]) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.world, []).append(result)
    return found


def _label(result: Result) -> str:
    return result.task if result.world == WITHIN_NAME else f"{result.task}, other {result.world}"


def _told(value: float | None, places: int) -> str:
    return "—" if value is None else f"{value:,.{places}f}"
