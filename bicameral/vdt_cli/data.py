"""`bicameral vdt data`: clips of small worlds, written down once and learned from many times."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bicameral import terminal
from bicameral.errors import ConfigError, RequestError

if TYPE_CHECKING:
    pass

app = typer.Typer(no_args_is_help=True, help="Write clips of small worlds as .npz or .npy.")

Count = Annotated[int, typer.Option(min=1, help="How many clips.")]
Out = Annotated[
    Path, typer.Option(help="A .npz, packed and small, or a .npy, larger and never read whole.")
]
Seed = Annotated[int, typer.Option(min=0, help="The same seed writes the same bytes.")]
Frames = Annotated[int | None, typer.Option(min=1, help="Frames of a clip.")]
Size = Annotated[int | None, typer.Option(min=8, help="Pixels a side.")]


@app.command()
def balls(
    out: Out,
    count: Count = 2000,
    world: Annotated[str, typer.Option(help="box, uniform, parabola or collision.")] = "box",
    frames: Frames = None,
    size: Size = None,
    seed: Seed = 0,
) -> None:
    """Balls that fly, fall, bounce and collide, exactly simulated."""
    _write(out, f"balls:{world}", count, frames, size, seed)


@app.command("moving-mnist")
def moving_mnist(
    digits: Annotated[Path, typer.Argument(help="An npz with the digits as x (n, 28, 28).")],
    out: Out,
    count: Count = 2000,
    frames: Frames = None,
    size: Size = None,
    seed: Seed = 0,
    test: Annotated[
        bool, typer.Option("--test", help="Of digits that training never sees.")
    ] = False,
) -> None:
    """Two handwritten digits that bounce, 20 frames of 64 x 64."""
    _write(out, f"moving-mnist:{digits}", count, frames, size, seed, held=test)


def _write(
    out: Path,
    what: str,
    count: int,
    frames: int | None,
    size: int | None,
    seed: int,
    *,
    held: bool = False,
) -> None:
    if out.suffix not in (".npz", ".npy"):
        raise RequestError(f"--out {out}: name a .npz or a .npy file")
    try:
        from bicameral.engines.vdt.learn.clips import Shape
        from bicameral.engines.vdt.learn.sources import opened
        from bicameral.engines.vdt.learn.store import store
    except ImportError as error:
        raise ConfigError("clips need numpy: run `pip install 'bicameral[video]'`") from error
    pile = opened(what)
    found = pile.found
    shape = Shape(
        frames=frames or found.frames,
        height=size or found.height,
        width=size or found.width,
        channels=found.channels,
    )
    with terminal.waiting(f"{count:,} clips…"):
        try:
            store(out, pile.within(shape, held=held), shape, count, seed)
        except OSError as error:
            raise RequestError(f"--out {out}: {error.strerror}") from error
    terminal.out.print(str(out), markup=False)
