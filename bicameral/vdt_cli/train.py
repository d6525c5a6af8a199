"""`bicameral vdt train`: from films to a net by one command, in pieces of any length."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import replace

from bicameral import terminal
from bicameral.errors import ConfigError, RequestError
from bicameral.vdt_cli.screen import Screen

if TYPE_CHECKING:
    from bicameral.engines.vdt.learn.order import Order, Wishes


def train(
    data: Annotated[
        str,
        typer.Argument(
            help="A folder of films or of folders of pictures, a film, a .npz or .npy of clips, "
            "balls:box, or moving-mnist:DIGITS.npz."
        ),
    ],
    config: Annotated[
        str, typer.Option(help="KIND-SIZE, such as modern-s or faithful-nano; or a TOML file.")
    ] = "modern-s",
    out: Annotated[
        Path | None, typer.Option(help="The run's folder; else runs/DATA-CONFIG.")
    ] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Frames of a clip.")] = None,
    size: Annotated[str | None, typer.Option(help="Pixels a side: 64, or 64x96.")] = None,
    channels: Annotated[int | None, typer.Option(min=1, max=3, help="1 is grey, 3 colour.")] = None,
    patch: Annotated[int | None, typer.Option(min=1, help="Pixels a side of a token.")] = None,
    stride: Annotated[int, typer.Option(min=1, help="Take every n-th frame.")] = 1,
    codec: Annotated[
        int | None, typer.Option(help="Train an autoencoder first, of factor 2, 4 or 8.")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE of the schedule or the design, such as rate=1e-3."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Stop and save after so long; then run it again.")
    ] = None,
    every: Annotated[
        int, typer.Option(min=0, help="Steps between sheets of samples; 0 for none.")
    ] = 500,
    half: Annotated[bool, typer.Option("--half", help="Write the weights as bfloat16.")] = False,
    compiled: Annotated[bool, typer.Option("--compile", help="Use torch's compiler.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; else what is there.")] = None,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs, or processes on a CPU.")] = 0,
) -> None:
    """Train a video diffusion transformer; the same command goes on where it stopped.

    Ctrl-C saves first. The folder gets model.safetensors, a log, curves and sheets of samples.
    """
    _needed()
    from bicameral.engines.vdt.learn.launch import launch
    from bicameral.engines.vdt.learn.order import Wishes
    from bicameral.engines.vdt.learn.pieces import ASKED, TIME
    from bicameral.engines.vdt.learn.run import MODEL

    wishes = Wishes(
        config=config,
        frames=frames,
        size=_size(size),
        channels=channels,
        patch=patch,
        stride=stride,
        factor=codec,
        sets=tuple(sets or ()),
    )
    folder = out or Path("runs") / f"{_plain(data)}-{Path(config).stem}"
    order = replace(
        _order(data, folder, wishes, device),
        minutes=minutes,
        every=every,
        half=half,
        compiled=compiled,
        gpus=gpus,
    )
    why = launch(order, Screen)
    if os.environ.get("RANK", "0") != "0":  # of torchrun's processes one answers
        return
    if why == ASKED:
        terminal.err.print(f"saved in {folder}: the same command goes on from here", markup=False)
        raise KeyboardInterrupt
    if why == TIME:
        terminal.err.print(
            f"{minutes:g} minutes are up, saved in {folder}: the same command goes on", markup=False
        )
    if (folder / MODEL).exists():  # not if a codec was all there was time for
        terminal.out.print(str(folder / MODEL), markup=False)


def _order(data: str, folder: Path, wishes: Wishes, device: str | None) -> Order:
    """The data looked at, and what follows for the net."""
    import torch

    from bicameral.engines.vdt.learn.order import Order, planned
    from bicameral.engines.vdt.learn.run import INDEX
    from bicameral.engines.vdt.learn.sources import opened

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with terminal.waiting("looking at the data…"):
        found = opened(data, index=folder / INDEX).found
    precision = "bfloat16" if device.startswith("cuda") else "float32"
    design, schedule, codec = planned(wishes, found, precision)
    return Order(
        data=data,
        design=design,
        schedule=schedule,
        codec=codec,
        stride=wishes.stride,
        out=str(folder),
        device=device,
    )


def _needed() -> None:
    """Said before the data are looked at."""
    missing = [name for name in ("torch", "safetensors", "PIL") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"training needs {', '.join(missing)}: run `pip install 'bicameral[video]'`"
        )


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    high, _, wide = text.partition("x")
    try:
        found = int(high), int(wide or high)
    except ValueError as error:
        raise RequestError(f"--size {text}: write 64, or 64x96 for high x wide") from error
    if min(found) < 1:
        raise RequestError(f"--size {text}: a clip has at least one pixel a side")
    return found


def _plain(data: str) -> str:
    """A folder's name for the data."""
    name = Path(data).stem or Path(data).resolve().name
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
