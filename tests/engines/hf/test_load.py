"""What folders of weights are taken, and what is said of the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bicameral.errors import BicameralError, ChipError, ConfigError, WeightsError
from bicameral.types import Modality
from tests.engines import nets
from tests.engines.hf.serving import copied, hello, refused, say, served

torch = pytest.importorskip("torch", reason="needs `make torch`: see the Makefile")
pytest.importorskip("transformers", reason="needs `make torch`: see the Makefile")
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("transformers")]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nets.reader(tmp_path_factory.mktemp("reader"))


@pytest.fixture
def copy(reader: Path, tmp_path: Path) -> Path:
    return copied(reader, tmp_path)


async def test_the_card_comes_from_the_folder(reader: Path) -> None:
    async with served(reader) as model:
        card = model.card
    assert (card.context, card.chip, card.serves) == (nets.CONTEXT, "cpu", reader.name)
    assert card.accepts == {Modality.TEXT}
    assert card.price
    assert card.price.free


@pytest.mark.parametrize(
    ("keys", "error", "words"),
    [
        ({"context": 1024}, ConfigError, "made for 512"),
        ({"slots": 0}, ConfigError, "slots"),
        ({"dtype": "int3"}, ConfigError, "dtype"),
        ({"device": "toaster"}, ConfigError, "toaster"),
        ({"device": "meta:x"}, ConfigError, "device"),
        ({"chat_template": "/nowhere.jinja"}, ConfigError, "chat_template"),
        ({"chat_template": "{{ messages[7].content }}"}, WeightsError, "cannot speak"),
    ],
)
async def test_options_that_cannot_work_are_refused(
    reader: Path, keys: dict[str, Any], error: type[BicameralError], words: str
) -> None:
    await refused(reader, error, words, **keys)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is such a chip")
async def test_a_chip_that_is_not_there(reader: Path) -> None:
    await refused(reader, ChipError, "finds no cuda:0", device="cuda:0")


async def test_pickled_weights_are_refused(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    await refused(copy, WeightsError, "safetensors")


@pytest.mark.parametrize("cut", [0, 5, 400, -1])
async def test_weights_that_are_cut_off_are_refused(copy: Path, cut: int) -> None:
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:cut])
    await refused(copy, WeightsError, r"model\.safetensors.*cut off")


async def test_a_shard_that_is_not_there_is_named(copy: Path) -> None:
    index = {"metadata": {}, "weight_map": {"a": "model.safetensors", "b": "../b.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    await refused(copy, WeightsError, r"\.\./b\.safetensors, which is not there")


async def test_tensors_that_are_missing_are_not_made_up(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    await refused(copy, WeightsError, "1 tensors are missing.*up_proj")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("config.json", "{", "config.json"),
        ("config.json", '{"model_type": "nonesuch"}', "nonesuch"),
        ("config.json", '{"model_type": "llama", "hidden_size": "big"}', "cannot load"),
        ("tokenizer.json", "{}", "cannot load"),
    ],
)
async def test_folders_that_make_no_sense(copy: Path, name: str, text: str, words: str) -> None:
    (copy / name).write_text(text)
    await refused(copy, WeightsError, words)


async def test_what_is_no_folder_of_weights(tmp_path: Path) -> None:
    await refused(tmp_path / "model.gguf", WeightsError, "llama_cpp")
    await refused(tmp_path, WeightsError, r"config\.json")
    (tmp_path / "adapter_config.json").write_text("{}")
    await refused(tmp_path, WeightsError, "merge it")


async def test_code_that_comes_with_weights_runs_only_if_told_to(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}
    (copy / "config.json").write_text(json.dumps(config))
    proof = copy / "proof"
    (copy / "own.py").write_text(f"open({str(proof)!r}, 'w').close()\nraise OSError('it ran')\n")
    await refused(copy, WeightsError, "remote_code = true")
    assert not proof.exists()
    await refused(copy, WeightsError, "it ran", remote_code=True)
    assert proof.exists()


async def test_a_base_model_wants_a_template(tmp_path: Path) -> None:
    folder = nets.reader(tmp_path, template=None)
    await refused(folder, ConfigError, "base model")
    async with served(folder, chat_template="plain") as model:
        assert (await say(model, hello())).text
