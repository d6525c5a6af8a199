"""chip = "auto" of a launched member: what its weights say, and which chip it then starts on."""

from __future__ import annotations

import json
import logging
import struct
from pathlib import Path
from typing import Any

import pytest

from bicameral.chips.catalogue import shipped
from bicameral.chips.find import Found, Look
from bicameral.chips.probes.device import Device
from bicameral.engines.launch.auto import held, placed
from bicameral.engines.launch.options import Options
from bicameral.engines.launch.recipe import recipe
from bicameral.engines.launch.shape import shape
from bicameral.errors import ChipError, ConfigError, WeightsError
from tests.chips.shapes import DEEPSEEK_V3, GPT_OSS, LLAMA_8B
from tests.engines.launch.starting import ask, faked
from tests.engines.models import opened

TOML = {"date": "2026-11-01", "source": "our lab", "input": 500, "output": 100}


def look(*rows: str) -> Look:
    """A machine with these cards of NVIDIA's."""
    cpu = Device(vendor="cpu", name="A CPU", index=0, told_by="cpu", kind="cpu")
    cards = [
        Found(
            device=Device(vendor="nvidia", name=row, index=n, told_by="nvidia-smi"),
            chip=shipped().chip(row),
        )
        for n, row in enumerate(rows)
    ]
    return Look(found=(Found(device=cpu), *cards), blind=(), narrowed={})


def place(*rows: str, **keys: Any) -> Options:
    options = Options(engine="launched", recipe="vllm", chip="auto", **{"model": "a/b", **keys})
    return placed("big", options, recipe("vllm", "big"), lambda: look(*rows))


def folder(at: Path, table: dict[str, Any], size: int = 0) -> str:
    at.mkdir(parents=True, exist_ok=True)
    (at / "config.json").write_text(json.dumps(table))
    if size:
        with (at / "model.safetensors").open("wb") as file:
            file.truncate(size)
    return str(at)


def gguf(at: Path, size: int, **fields: int) -> Path:
    """A file with that header and nothing behind it, as long as one with weights."""
    whole = {"block_count": 2, "embedding_length": 512, "attention.head_count": 8, **fields}
    whole |= {"feed_forward_length": 1024, "vocab_size": 1000}
    body = struct.pack("<4sIQQ", b"GGUF", 3, 0, len(whole) + 1)
    body += text("general.architecture") + struct.pack("<I", 8) + text("llama")
    for key, value in whole.items():
        body += text(f"llama.{key}") + struct.pack("<II", 4, value)
    with at.open("wb") as file:
        file.write(body)
        file.truncate(size)
    return at


def text(word: str) -> bytes:
    return struct.pack("<Q", len(word)) + word.encode()


def test_the_planner_goes_by_a_folders_config(tmp_path: Path) -> None:
    options = place("a30", "h200-sxm", model=folder(tmp_path, LLAMA_8B))
    assert options.chip == "cuda:1"
    assert options.env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    with pytest.raises(ChipError, match=r"\[models.big\] chip = \"auto\".*weights take 1,342 GB"):
        place("a30", "h200-sxm", model=folder(tmp_path, DEEPSEEK_V3))


def test_and_by_what_is_given() -> None:
    assert place("a30", "h200-sxm", network=LLAMA_8B).chip == "cuda:1"
    row = {**TOML, "chip": "cpu", "first_token_s": 0.1, "token_s": 0.0001}
    options = place("a30", "h200-sxm", network=LLAMA_8B, measured=(row,))
    assert (options.chip, options.env) == ("cpu", {})
    assert place("a30", "h200-sxm", network=LLAMA_8B, env={"A": "b"}).env["A"] == "b"


def test_of_what_is_not_known_it_says_what_to_give() -> None:
    with pytest.raises(ConfigError, match=r"give network, the path of its config.json"):
        place("a30", "h200-sxm")
    with pytest.raises(ConfigError, match=r"\[models.big\]: \[measured 1\] .*'token_s'"):
        place("a30", "h200-sxm", measured=({**TOML, "chip": "cpu", "tokens_s": 1.0},))


def test_members_are_spread_over_chips_alike() -> None:
    with held("cuda:0,1"):
        assert place("h100-sxm", "h100-sxm", "h100-sxm", network=LLAMA_8B).chip == "cuda:2"
    assert place("h100-sxm", "h100-sxm", network=LLAMA_8B).chip == "cuda:0"


def test_an_explicit_network_may_be_a_file(tmp_path: Path) -> None:
    path = folder(tmp_path, LLAMA_8B)
    for given in (path, f"{path}/config.json"):
        assert shape("m", "a/b", given).network.layers == 32
    with pytest.raises(ConfigError, match=r"no config.json that can be read"):
        shape("m", path, str(tmp_path / "nothing"))


def test_the_hubs_cache_is_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert shape("m", "org/net", None) is None
    there = tmp_path / "models--org--net"
    folder(there / "snapshots" / "abc", LLAMA_8B)
    (there / "refs").mkdir()
    (there / "refs" / "main").write_text("abc\n")
    assert shape("m", "org/net", None).network.layers == 32


@pytest.mark.parametrize(
    ("table", "size", "dtype"),
    [
        (LLAMA_8B, 16_060_000_000, "bf16"),
        (LLAMA_8B, 32_100_000_000, "bf16"),
        (LLAMA_8B | {"quantization_config": {"quant_method": "awq", "bits": 4}}, 0, "int4"),
        (LLAMA_8B | {"quantization_config": {"quant_method": "fp8"}}, 0, "fp8"),
        (LLAMA_8B | {"quantization_config": {"config_groups": {}}}, 9_080_000_000, "fp8"),
        (LLAMA_8B | {"quantization_config": {"quant_method": "awq"}}, 5_730_000_000, "int4"),
        (GPT_OSS | {"quantization_config": {"quant_method": "mxfp4"}}, 0, "fp4"),
    ],
)
def test_the_format_of_the_weights(
    tmp_path: Path, table: dict[str, Any], size: int, dtype: str
) -> None:
    assert shape("m", folder(tmp_path, table, size), None).precision.weights == dtype


@pytest.mark.parametrize(("bits", "dtype"), [(16, "bf16"), (8.5, "int8"), (4.8, "int4")])
def test_a_gguf_files_header_and_size(tmp_path: Path, bits: float, dtype: str) -> None:
    parameters = shape("m", str(gguf(tmp_path / "m.gguf", 10**6)), None).network.parameters
    path = gguf(tmp_path / "m.gguf", int(parameters * bits / 8))
    assert shape("m", str(path), None).precision.weights == dtype


def test_weights_in_several_files_count_together(tmp_path: Path) -> None:
    first = gguf(tmp_path / "m-00001-of-00002.gguf", 10**6)
    parameters = shape("m", str(first), None).network.parameters
    for number in (1, 2):
        gguf(tmp_path / f"m-0000{number}-of-00002.gguf", int(parameters))
    assert shape("m", str(first), None).precision.weights == "bf16"


def test_damaged_weights_are_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(WeightsError, match="cut off"):
        shape("m", str(tmp_path / "m.gguf"), None)


async def test_it_starts_on_the_chip_that_was_chosen(caplog: pytest.LogCaptureFixture) -> None:
    """On this machine as it is: the recipe runs on its CPU only."""
    caplog.set_level(logging.INFO, "bicameral")
    async with faked(chip="auto") as model:
        assert model.card.chip == "cpu"
        assert (await ask(model)).text == "well hello there"
    assert "big: chip cpu, as it is the only one here" in caplog.messages


async def test_where_there_is_no_chip_for_it_the_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ChipError, match=r'^test: \[models.m\] chip = "auto": there is no chip'):
        async with opened("launched", recipe="sglang", model="a/b", chip="auto"):
            pass
