"""`bicameral vdt eval`: a net's seven tasks in numbers, beside guesses that cost nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import replace
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bicameral import terminal
from bicameral.errors import ConfigError, RequestError

if TYPE_CHECKING:
    from bicameral.engines.vdt.learn.sheet import Strip
    from bicameral.engines.vdt.load import Loaded
    from bicameral.engines.vdt.score.seven import Scores
    from bicameral.engines.vdt.score.whole import Watched
    from bicameral.types import VideoTask

SCORES, SHEET = "scores.json", "sheet.png"
_ROOM = 150  # columns of a terminal that all tables fit
_LINE = 30.0  # seconds between two lines where there is no terminal


def evaluate(
    model: Annotated[
        str, typer.Argument(help="A model.safetensors, a folder with one, or nano.")
    ] = "nano",
    data: Annotated[
        str | None, typer.Option(help="As of `vdt train`; else what it learned from.")
    ] = None,
    clips: Annotated[int, typer.Option(min=2, help="Of clips that training did not see.")] = 64,
    samples: Annotated[int, typer.Option(min=1, help="Of each clip.")] = 4,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Of the sampler.")] = 20,
    guidance: Annotated[
        float | None, typer.Option(min=0, max=20, help="1 for none; else as the weights say.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of clips, masks and noise.")] = 0,
    tasks: Annotated[str, typer.Option(help="Names with commas between; or all.")] = "all",
    beyond: Annotated[
        bool, typer.Option(help="Of balls also other speeds and sizes than those learned.")
    ] = True,
    longer: Annotated[bool, typer.Option(help="Also clips made by windows.")] = True,
    out: Annotated[
        Path | None, typer.Option(help="A folder for scores.json and sheet.png.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Clips made at once.")] = 32,
    device: Annotated[str, typer.Option(help="cpu, cuda:0, or auto.")] = "auto",
    precision: Annotated[str, typer.Option(help="float32, bfloat16, or auto.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Of a CPU.")] = None,
    compiled: Annotated[bool, typer.Option("--compile", help="Use torch's compiler.")] = False,
) -> None:
    """Score a net on all seven tasks, with every floor beside every number.

    What wins is bold, and where the net loses to a guess that knows nothing of motion is red.
    """
    _needed()
    from bicameral.engines.vdt.score.samples import Way
    from bicameral.engines.vdt.score.samples import compiled as faster
    from bicameral.engines.vdt.score.whole import Wanted, examine

    wanted = Wanted(data=data or "", clips=clips, tasks=_tasks(tasks), beyond=beyond, longer=longer)
    if threads:
        import torch

        torch.set_num_threads(threads)
    net, about = _loaded(model, device, precision)
    led = net.guidance if guidance is None else guidance
    way = Way(samples=samples, steps=steps, guidance=led, seed=seed, batch=batch)
    stride = int(str(about.get("stride", 1)))
    wanted = replace(wanted, data=_data(wanted.data, about), stride=stride)
    if compiled:
        with terminal.waiting("compiling…"):
            net = faster(net, way, lambda text: terminal.err.print(text, markup=False))
    began = time.monotonic()
    with _watching() as watched:
        scores, strips = examine(net, wanted, way, watched)
    _show(scores)
    if out:
        told = {
            "model": model,
            "trained": about,
            "design": net.design,
            "wanted": wanted,
            "way": way,
            "precision": "bfloat16" if net.half else "float32",
            "device": str(net.device),
            "seconds": round(time.monotonic() - began, 1),
            "scores": scores,
        }
        _write(out, told, strips)


def _loaded(model: str, device: str, precision: str) -> tuple[Loaded, dict[str, object]]:
    """The net, and what its file says of its training."""
    from bicameral.engines.hf.load import device as found
    from bicameral.engines.vdt import checkpoint, load

    if precision not in ("auto", "float32", "bfloat16"):
        raise RequestError(f"--precision {precision}: it is float32, bfloat16 or auto")
    file, chip = load.find(model), found("vdt eval", device)
    half = precision == "bfloat16" or (precision == "auto" and chip.type != "cpu")
    return load.load(file, chip, half=half), checkpoint.read(file)[2]


def _show(scores: Scores) -> None:
    from bicameral.engines.vdt.score import table

    room = terminal.out.is_terminal and terminal.out.width >= _ROOM
    for grid in table.grids(scores):
        if room:
            terminal.out.print(grid.rich(), soft_wrap=False)
        else:  # a table that is squeezed shows half of each number
            terminal.out.print(grid.markdown(), markup=False, soft_wrap=True)
    for line in (table.NOTE, *table.verdicts(scores)):
        terminal.out.print(line, markup=False)


def _write(out: Path, told: dict[str, object], strips: list[Strip]) -> None:
    import msgspec

    from bicameral.engines.vdt.learn import sheet

    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / SCORES).write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=1))
        sheet.write(out / SHEET, strips)
    except OSError as error:
        raise RequestError(f"--out {out}: {error.strerror}") from error
    terminal.out.print(f"{out / SCORES}, {out / SHEET}", markup=False)


def _data(data: str, about: dict[str, object]) -> str:
    """What was asked for, or what the net says that it learned from, if that can be opened."""
    learned = str(about.get("data", ""))
    if data:
        return data
    if learned.startswith(("balls:", "moving-mnist:")):
        return learned
    raise ConfigError(f"say which clips to score it on by --data: it learned from {learned}")


def _tasks(text: str) -> tuple[VideoTask, ...]:
    from bicameral.engines.vdt.masks import TASKS

    if text == "all":
        return TASKS
    names = text.split(",")
    unknown = [name for name in names if name not in TASKS]
    if unknown:
        raise RequestError(f"--tasks: there is no {unknown[0]}; there are {', '.join(TASKS)}")
    return tuple(task for task in TASKS if task in names)


def _needed() -> None:
    missing = [name for name in ("torch", "safetensors", "PIL") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"scoring needs {', '.join(missing)}: run `pip install 'bicameral[video]'`"
        )


@contextmanager
def _watching() -> Iterator[Watched]:
    """A bar; a line now and then where there is no terminal."""
    if not terminal.err.is_terminal:
        yield _lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=terminal.err, transient=True) as bar:
        task = bar.add_task("scoring", total=None)
        yield lambda what, done, total: bar.update(
            task, description=what, completed=done, total=total
        )


def _lines() -> Watched:
    last = time.monotonic()

    def tell(what: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _LINE or done == total:
            last = now
            text = f"{what}: {done:,} of {total:,} steps of a clip"
            terminal.err.print(text, markup=False)

    return tell
