"""Serves a net with random weights, small enough to make a clip in a blink, and asks it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bicameral.model import Model, collect
from bicameral.types import (
    Answer,
    Event,
    Image,
    Message,
    Modality,
    Part,
    Request,
    Sampling,
    Text,
    Video,
    VideoSpec,
)
from tests.engines.models import opened

FRAMES, SIDE, CELL = 4, 8, 2
SHAPE: dict[str, Any] = {"frames": FRAMES, "height": SIDE, "width": SIDE, "patch": CELL}
SIZE: dict[str, Any] = {"depth": 1, "dim": 16, "heads": 2}


def tiny(folder: Path, name: str = "model.safetensors", **design: Any) -> Path:
    """A checkpoint with weights that do something, though nothing sensible."""
    import torch

    from bicameral.engines.vdt import checkpoint, codec
    from bicameral.engines.vdt.design import Design
    from bicameral.engines.vdt.network import build

    made = Design(**{"kind": "modern", **SHAPE, **SIZE, **design})
    torch.manual_seed(0)
    tensors = {n: torch.randn(p.shape) / 10 for n, p in build(made).named_parameters()}
    path = folder / name
    checkpoint.save(path, made, {**tensors, **codec.tensors(codec.build(made))})
    return path


def served(path: Path, **keys: Any) -> AbstractAsyncContextManager[Model]:
    usual = {"device": "cpu", "threads": 1, "steps": 3}
    return opened("vdt", path=str(path), **{**usual, **keys})


@contextmanager
def watched(model: Any, hook: Any) -> Iterator[None]:
    """The worker calls `hook` with what the net gets, before each pass of it."""

    def before(net: Any, inputs: Any) -> None:
        hook(*inputs)

    handle = model._loaded.net.register_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()


def wanting(*parts: Part, seed: int | None = 7, **spec: Any) -> Request:
    """A request for a clip, as npz unless `spec` says otherwise."""
    return Request(
        messages=(Message("user", (Text(""), *parts)),),
        output=Modality.VIDEO,
        sampling=Sampling(seed=seed),
        video=VideoSpec(**{"format": "npz", **spec}),
    )


async def made(model: Model, request: Request) -> Answer:
    answer = await collect(model, request)
    if answer.error:
        raise answer.error
    return answer


async def film(model: Model, *parts: Part, **spec: Any) -> NDArray[np.uint8]:
    """The frames of the clip that is made."""
    answer = await made(model, wanting(*parts, **spec))
    return frames(answer.videos[0])


async def events_of(model: Model, request: Request) -> list[Event]:
    async with aclosing(model.run(request)) as events:
        return [event async for event in events]


def frames(video: Video) -> NDArray[np.uint8]:
    with np.load(io.BytesIO(video.data or b"")) as found:
        return np.asarray(found["frames"])


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(1, 256, shape, np.uint8)


def packed(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def saved(array: NDArray[Any]) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def clip(values: NDArray[np.uint8]) -> Video:
    return Video(data=packed(frames=values, fps=5.0), media_type="application/x-npz")


def picture(values: NDArray[np.uint8], kind: str = "PNG") -> Image:
    from PIL import Image as pictures

    out = io.BytesIO()
    pictures.fromarray(values).save(out, kind)
    return Image(data=out.getvalue(), media_type=f"image/{kind.lower()}")
