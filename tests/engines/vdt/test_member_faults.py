"""What goes wrong with the engine vdt, and what it says then."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

torch = pytest.importorskip("torch", reason="needs `make torch`: see the Makefile")

from bicameral.engines.vdt import checkpoint  # noqa: E402
from bicameral.errors import (  # noqa: E402
    Broken,
    ChipError,
    ConfigError,
    ModelError,
    RequestError,
    WeightsError,
)
from bicameral.model import Model  # noqa: E402
from bicameral.types import Text, Video  # noqa: E402
from tests.engines.vdt.serving import (  # noqa: E402
    FRAMES,
    SIDE,
    clip,
    film,
    made,
    noise,
    served,
    tiny,
    wanting,
    watched,
)

torch.set_num_threads(1)
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("modern"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model(path: Path) -> AsyncIterator[Model]:
    async with served(path) as model:
        yield model


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), ModelError, "8 x 8 pixels does not fit"),
        (RuntimeError("device-side assert\nmore"), Broken, "broke off: device-side assert$"),
    ],
)
async def test_a_chip_that_fails_is_an_error_of_ours(
    model: Model, error: Exception, kind: type[ModelError], words: str
) -> None:
    def fail(*inputs: Any) -> None:
        raise error

    with watched(model, fail), pytest.raises(kind, match=words):
        await made(model, wanting())
    assert (await film(model)).shape == (FRAMES, SIDE, SIDE, 3)


async def test_what_is_no_number_is_no_clip(tmp_path: Path) -> None:
    async with served(tiny(tmp_path)) as model:
        model._loaded.net.out.weight.fill_(float("nan"))  # type: ignore[attr-defined]
        with pytest.raises(Broken, match="no number"):
            await made(model, wanting())


@pytest.mark.parametrize(
    ("param", "parts", "spec"),
    [
        ("prompt", [Text("a ball")], {}),
        ("messages", [Video(data=b"no clip")], {}),
        ("mask", [clip(noise(2, SIDE, SIDE, 3))], {"mask": b"no mask"}),
        ("width", [], {"width": SIDE + 1}),
        ("steps", [], {"steps": 201}),
    ],
)
async def test_wrong_requests_are_refused_by_name(
    model: Model, param: str, parts: list[Any], spec: Any
) -> None:
    with pytest.raises(RequestError) as caught:
        await made(model, wanting(*parts, **spec))
    assert caught.value.param == param


async def refused(error: type[Exception], words: str, path: Path | str, **keys: Any) -> None:
    with pytest.raises(error, match=words):
        async with served(Path(path), **keys):
            pass


async def test_options_that_cannot_work_are_refused(path: Path) -> None:
    await refused(ConfigError, "200 at most", path, steps=201)
    await refused(ConfigError, "max_frames", path, max_frames=3)
    await refused(ConfigError, "max_pixels", path, max_pixels=SIDE)
    await refused(ConfigError, "device", path, device="toaster")
    await refused(ChipError, "cuda:99", path, device="cuda:99")


async def test_weights_that_are_missing_or_wrong_are_refused(tmp_path: Path) -> None:
    await refused(WeightsError, "not there", tmp_path)
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    await refused(WeightsError, "cannot be read", tmp_path / "junk.safetensors")
    design, tensors, _ = checkpoint.read(tiny(tmp_path))
    name, first = next(iter(tensors.items()))
    for wrong in ({name: first[:1]}, {"more": first.clone()}):
        checkpoint.save(tmp_path / "wrong.safetensors", design, {**tensors, **wrong})
        await refused(WeightsError, "1 tensors", tmp_path / "wrong.safetensors")
    tensors.pop(name)
    checkpoint.save(tmp_path / "model.safetensors", design, tensors)
    await refused(WeightsError, name, tmp_path)
