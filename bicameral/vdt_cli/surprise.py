"""`bicameral vdt surprise`: whether what happens in a clip follows from what went before."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from bicameral import terminal
from bicameral.errors import ConfigError, RequestError

if TYPE_CHECKING:
    from bicameral.engines.vdt.calibration import Verdict
    from bicameral.engines.vdt.load import Loaded

_NAME = "surprise"
_MOST = 4096  # frames of a clip


def surprise(
    clip: Annotated[
        Path | None, typer.Argument(help="A .mp4, .webm, .gif or .npz; none to calibrate only.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="A model.safetensors, a folder with one, or nano.")
    ] = "nano",
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure anew what is usual, and keep it.")
    ] = False,
    data: Annotated[
        str | None, typer.Option(help="What to calibrate by; else what the net was trained on.")
    ] = None,
    clips: Annotated[int, typer.Option(min=20, help="How many of them to calibrate by.")] = 300,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda:0, or auto.")] = "auto",
    precision: Annotated[str, typer.Option(help="float32, bfloat16, or auto.")] = "auto",
) -> None:
    """Say how surprising a clip is to a net that has learned how things move in its world.

    It says so where a clip looks unlike all that the net was trained on, and so surprises anyway.
    """
    if clip is None and not calibrate:
        raise RequestError("name a clip, or --calibrate")
    if precision not in ("auto", "float32", "bfloat16"):
        raise RequestError(f"--precision {precision}: write float32, bfloat16 or auto")
    content = None if clip is None else _read(clip)
    loaded, file = _loaded(model, device, precision)
    if calibrate:
        _calibrate(file, loaded, clips, data)
    if content is not None:
        _show(_judged(file, loaded, content), as_json=as_json)


def _loaded(model: str, where: str, precision: str) -> tuple[Loaded, Path]:
    try:
        from bicameral.engines.hf.load import device
        from bicameral.engines.vdt.load import find, load
    except ImportError as error:
        raise ConfigError("surprise needs torch: run `pip install 'bicameral[video]'`") from error
    file, chip = find(model), device(_NAME, where)
    half = precision == "bfloat16" or (precision == "auto" and chip.type != "cpu")
    return load(file, chip, half=half), file


def _calibrate(file: Path, loaded: Loaded, clips: int, data: str | None) -> None:
    from bicameral.engines.vdt import calibration

    with terminal.waiting(f"looking at {clips:,} clips…"):
        usual = calibration.calibrated(file, loaded, clips=clips, data=data)
    try:
        path = calibration.write(file, usual)
    except OSError as error:
        raise RequestError(f"{calibration.beside(file)}: {error.strerror}") from error
    terminal.err.print(f"{path}: {clips:,} clips of {usual.data}", markup=False)


def _judged(file: Path, loaded: Loaded, content: bytes) -> tuple[Verdict, float | None, int]:
    """The verdict, frames a second if the file tells them, and of how many clips it is."""
    from bicameral.engines.vdt import calibration
    from bicameral.engines.vdt.film import decode
    from bicameral.engines.vdt.fit import Shape
    from bicameral.engines.vdt.surprise import of_film

    usual = calibration.read(file)
    if usual is None:
        raise ConfigError(
            f"{file} has no calibration: run `bicameral vdt surprise --calibrate --model {file}`"
        )
    design = loaded.design
    shape = Shape(design.height, design.width, design.channels)
    found = decode(content, fit=lambda frame: shape.fit(frame, "clip"), most=_MOST, param="clip")
    verdict = calibration.judged(of_film(_NAME, loaded, found.film, usual.way, usual.scale), usual)
    return verdict, found.fps, len(usual.scores)


def _show(judged: tuple[Verdict, float | None, int], *, as_json: bool) -> None:
    verdict, fps, of = judged
    frame = verdict.surprise.frame
    if as_json:
        seconds = None if fps is None else frame / fps
        whole = {**msgspec.to_builtins(verdict), "seconds": seconds, "of": of}
        sys.stdout.write(msgspec.json.encode(whole).decode() + "\n")
        return
    if verdict.strange:
        terminal.out.print(
            "unlike what the net was trained on: its first frames are as strange as those of "
            f"{_rarely(verdict.p_past, of)}, so the rest says little",
            markup=False,
        )
    terminal.out.print(
        f"surprise {verdict.z:+.1f}: as surprising as {_rarely(verdict.p, of)} "
        f"(p {verdict.p:.2g}); most at frame {frame}"
        f"{'' if fps is None else f', {frame / fps:.2f} s'}",
        markup=False,
    )


def _rarely(p: float, of: int) -> str:
    """How many possible clips are so; less than one of those looked at cannot be told."""
    if p < 1.5 / (of + 1):
        share = f"fewer than 1 in {of:,}"
    else:
        share = f"1 in {1 / p:.1f}" if p > 0.1 else f"1 in {1 / p:,.0f}"
    return f"{share} of the clips it could have been trained on"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror}") from error
