"""A tiny Llava that sees pictures, held against transformers' own processor and generate()."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from bicameral.errors import ConfigError, RequestError
from bicameral.model import Model
from bicameral.types import Image, Message, Modality, Request, Text
from tests.engines import nets
from tests.engines.hf.serving import SHORT, refused, say, served

transformers = pytest.importorskip("transformers", reason="needs `make torch`: see the Makefile")
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("transformers")]


@pytest.fixture(scope="module")
def seer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nets.seer(tmp_path_factory.mktemp("seer"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seeing(seer: Path) -> AsyncIterator[Model]:
    async with served(seer) as model:
        yield model


def shown(*parts: Any) -> Request:
    return Request(messages=(Message("user", parts),), sampling=SHORT)


def drawn(colour: str) -> tuple[Any, Image]:
    from PIL import Image as pictures

    picture, out = pictures.new("RGB", (48, 40), colour), io.BytesIO()
    picture.paste("white", (0, 0, 20, 20))
    picture.save(out, "PNG")
    return picture, Image(data=out.getvalue(), media_type="image/png")


async def test_what_it_sees_changes_what_it_says(seeing: Model, seer: Path) -> None:
    assert Modality.IMAGE in seeing.card.accepts
    said = {}
    for colour in ("red", "blue"):
        picture, image = drawn(colour)
        answer = await say(seeing, shown(Text("Look: "), image, Text(" What is it?")))
        assert answer.text == their_view(seer, picture)
        assert answer.usage.images == 1
        said[colour] = answer.text
    assert said["red"] != said["blue"]


def their_view(folder: Path, picture: Any) -> str:
    net = transformers.AutoModelForImageTextToText.from_pretrained(folder)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    prompt = "<|start|>user:Look: <image> What is it?<|end|><|start|>"
    inputs = processor(text=prompt, images=picture, return_tensors="pt")
    ids = net.generate(**inputs, max_new_tokens=24, do_sample=False)
    said: str = processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return said


async def test_several_pictures_none_and_broken_ones(seeing: Model) -> None:
    _, image = drawn("red")
    one, two = await say(seeing, shown(image)), await say(seeing, shown(image, image))
    assert two.usage.images == 2
    assert two.usage.prompt_tokens == (one.usage.prompt_tokens or 0) + 16
    assert (await say(seeing, shown(Text("hi <image>")))).usage.images == 0
    for bad in (Image(data=b"\x89PNG"), Image(url="http://localhost/x.png")):
        with pytest.raises(RequestError) as caught:
            await say(seeing, shown(bad))
        assert caught.value.param == "messages"


async def test_a_net_that_sees_answers_one_at_a_time(seer: Path) -> None:
    await refused(seer, ConfigError, "one at a time", slots=2)
