"""`bicameral vdt sample`: one clip of a trained net, into a file."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from bicameral import build, terminal
from bicameral.engines.media.header import measure
from bicameral.errors import RequestError
from bicameral.types import (
    Delta,
    Image,
    Message,
    Modality,
    Progress,
    Request,
    Sampling,
    Video,
    VideoFormat,
    VideoSpec,
)

_NAME = "sample"


def sample(
    out: Annotated[Path, typer.Argument(help="The clip: a .mp4, .gif, .npz or .png file.")],
    model: Annotated[
        str, typer.Option(help="A model.safetensors, a folder with one, or nano.")
    ] = "nano",
    given: Annotated[
        list[Path] | None,
        typer.Option("--given", help="Pictures, or one clip, to go from; twice for two."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="predict, backward, interpolate, image, frames or complete."),
    ] = None,
    keep: Annotated[
        str | None, typer.Option(help="The numbers of the frames given: 0,4,8.")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="What to complete: .npy, .npz or a picture; 1 or white.")
    ] = None,
    frames: Annotated[int | None, typer.Option(help="Of the whole clip.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    height: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames a second.")] = None,
    steps: Annotated[int | None, typer.Option(help="Of the sampler.")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Above 1: nearer to what is given.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Equal seeds make equal clips.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda:0, or auto.")] = "auto",
    precision: Annotated[str, typer.Option(help="float32, bfloat16, or auto.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(help="Of a CPU; fewer are faster where it is busy.")
    ] = None,
) -> None:
    """Generate a clip from nothing, or from what is given of it.

    What is given comes back as it was; .npz shows that bit for bit, .mp4 and .gif nearly.
    """
    spec = _spec(
        frames=frames,
        width=width,
        height=height,
        fps=fps,
        steps=steps,
        guidance=guidance,
        task=task,
        keep=_numbers(keep),
        mask=None if mask is None else _read(mask),
        format=_format(out),
    )
    seed = secrets.randbits(32) if seed is None else seed
    request = Request(
        messages=(Message("user", tuple(map(_part, given or ()))),),
        output=Modality.VIDEO,
        sampling=Sampling(seed=seed),
        video=spec,
    )
    table: dict[str, Any] = {"engine": "vdt", "path": model, "device": device}
    table["precision"] = precision
    if threads is not None:
        table["threads"] = threads
    clip = asyncio.run(_made(table, request))
    try:
        out.write_bytes(clip.data or b"")
    except OSError as error:
        raise RequestError(f"{out}: cannot be written: {error.strerror}") from error
    terminal.out.print(f"{out}, seed {seed}", markup=False)


def _spec(**fields: Any) -> VideoSpec:
    try:
        return msgspec.convert(fields, VideoSpec)
    except msgspec.ValidationError as error:
        raise RequestError(str(error)) from error


def _numbers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError as error:
        raise RequestError(f"--keep {text}: write numbers of frames, such as 0,4,8") from error


def _format(out: Path) -> str:
    kinds = get_args(VideoFormat)
    kind = out.suffix.lower().removeprefix(".")
    if kind not in kinds:
        raise RequestError(f"{out}: name it .{', .'.join(kinds)}: the suffix says which it is")
    return kind


def _part(path: Path) -> Image | Video:
    """A moving GIF is a clip."""
    data = _read(path)
    header = measure(data)
    if header is None or header.media_type == "image/gif":
        return Video(data=data)
    return Image(data=data, media_type=header.media_type)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror}") from error


async def _made(table: dict[str, Any], request: Request) -> Video:
    clip = Video()
    with _bar() as bar:
        async with (
            build.member(_NAME, table, "bicameral vdt sample") as model,
            aclosing(model.run(request)) as events,
        ):
            async for event in events:
                if not isinstance(event, Delta):
                    continue
                if isinstance(event.part, Progress):
                    bar(event.part)
                elif isinstance(event.part, Video):
                    clip = event.part
    return clip


@contextmanager
def _bar() -> Iterator[Any]:
    """A bar to feed with Progress; nothing where there is no terminal."""
    if not terminal.err.is_terminal:
        yield lambda progress: None
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar("steps", *columns, console=terminal.err, transient=True) as bar:
        task = bar.add_task("steps", total=None)
        yield lambda progress: bar.update(task, completed=progress.done, total=progress.total)
