"""`bicameral bakeoff`: the same workload on everything that can be reached, and who is better."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from msgspec.structs import replace
from rich.markup import escape

from bicameral import terminal
from bicameral.chips.bakeoff import Bakeoff, Workload, check, decode, encode, parse
from bicameral.errors import ConfigError, RequestError


def bakeoff(
    workload: Annotated[
        list[Path],
        typer.Argument(help="WORKLOAD.toml, or a result's JSON to run its workload again."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="A folder for bakeoff.json, report.md and bakeoff.png.")
    ] = None,
    repeat: Annotated[
        int | None, typer.Option(min=1, help="Repeats; a verdict wants three.")
    ] = None,
    compare: Annotated[
        bool, typer.Option(help="Run nothing: compare two results, A.json B.json.")
    ] = False,
    show: Annotated[bool, typer.Option(help="Run nothing: show one result again.")] = False,
    published: Annotated[
        Path | None, typer.Option(help="The folder of published results; else $BICAMERAL_DATA.")
    ] = None,
) -> None:
    """Put the same open-loop load and the same questions to every contestant, and tell who wins.

    WORKLOAD.toml has [load] with rates and a deadline, [tasks], and [[contestants]] with a
    [contestants.member] table each, in the keys of a [models.NAME] table. Latency counts from when
    a request was due. Differences are told with 95 % intervals, or that there are none.
    """
    if compare:
        _compare(workload)
        return
    if len(workload) != 1:
        raise RequestError("bakeoff: give one file; two are for --compare")
    if show:
        baked = _read(workload[0])
    else:
        loaded = _workload(workload[0])
        if repeat is not None:
            loaded = replace(loaded, repeats=repeat)
        if out is not None:
            _folder(out)
        baked = _run(loaded, str(workload[0]))
    _show(baked, out, published)


def _run(workload: Workload, source: str) -> Bakeoff:
    from bicameral.chips_cli.contest import contest

    with _telling() as said:
        return asyncio.run(contest(workload, source, said))


def _show(baked: Bakeoff, out: Path | None, published: Path | None) -> None:
    """The JSON first: what was measured must not be lost to a picture that cannot be drawn."""
    from bicameral.chips_cli.baked import report
    from bicameral.chips_cli.plot import draw

    if out is not None:
        _folder(out)
        (out / "bakeoff.json").write_bytes(encode(baked))
    text = report(baked, published)
    terminal.out.print(text, markup=False)
    if out is None:
        return
    (out / "report.md").write_text(text, encoding="utf-8")
    terminal.err.print(f"{out / 'bakeoff.json'}\n{out / 'report.md'}", markup=False)
    try:
        draw(baked, out / "bakeoff.png")
    except ConfigError as error:
        terminal.err.print(f"no picture: {error}", markup=False)
    else:
        terminal.err.print(str(out / "bakeoff.png"), markup=False)


def _compare(files: list[Path]) -> None:
    from bicameral.chips_cli.baked import compared

    if len(files) != 2:
        raise RequestError("--compare: give two files, A.json B.json")
    terminal.out.print(compared(_read(files[0]), _read(files[1])), markup=False)


def _workload(path: Path) -> Workload:
    """From TOML, or out of the result of another run."""
    if path.suffix == ".json":
        return check(_read(path).workload, str(path))
    return parse(_bytes(path).decode(errors="replace"), str(path))


def _read(path: Path) -> Bakeoff:
    return decode(_bytes(path), str(path))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error


def _folder(path: Path) -> None:
    """Made before the work rather than missed after it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"--out {path}: cannot be made ({error.strerror})") from error


@contextmanager
def _telling() -> Iterator[Callable[[str], None]]:
    """What is being run: beside a spinner on a terminal, else a line each."""
    if not terminal.err.is_terminal:
        yield lambda text: terminal.err.print(text, markup=False)
        return
    with terminal.err.status("") as status:
        yield lambda text: status.update(escape(text))
