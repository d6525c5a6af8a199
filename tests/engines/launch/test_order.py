from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bicameral.engines.launch.options import Options
from bicameral.engines.launch.order import Orders, fill
from bicameral.engines.launch.recipe import Recipe, recipe, recipes
from bicameral.errors import ConfigError


def orders(name: str, row: Recipe | None = None, **keys: Any) -> Orders:
    """As for a member of that recipe, whose program is here."""
    row = row or recipe(name, "m")
    row = replace(row, command=("python3", *row.command[1:]))
    options = Options(engine="launched", recipe=name, **{"model": "/models/qwen", **keys})
    return Orders("m", options, row, "the-key")


def test_braces_around_anything_else_stay() -> None:
    assert fill('{"a": {model}, {x y}, {other}}', {"model": "m"}) == '{"a": m, {x y}, {other}}'


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_is_for_one_port_of_this_machine_only(name: str, tmp_path: Path) -> None:
    settings, folder = tmp_path / "given.json", tmp_path / "private"
    settings.write_text(json.dumps(MINDIE))
    folder.mkdir()
    order = orders(name, settings=str(settings)).order(4321, folder)
    words = [*order.command, *order.env.values(), *(p.read_text() for p in folder.iterdir())]
    assert any("4321" in word for word in words)
    assert any("127.0.0.1" in word for word in words)
    assert not any("0.0.0.0" in word for word in words)
    assert not any("the-key" in word for word in order.command), "others can see arguments"
    assert not any("{" in word for word in order.command)
    assert order.mask == "the-key"


def test_arguments_of_the_member_come_where_the_recipe_says() -> None:
    order = orders("vllm", args=("--max-model-len", "8192")).order(1, Path())
    assert order.command[-2:] == ("--max-model-len", "8192")
    order = orders("vllm", command=("python3", "{args}", "{served}"), args=("x",)).order(1, Path())
    assert order.command[1:] == ("x", "qwen"), "answers show no path"
    assert "Qwen/Qwen3-8B" in orders("vllm", model="Qwen/Qwen3-8B").order(1, Path()).command


@pytest.mark.parametrize(
    ("name", "chip", "variable", "value"),
    [
        ("vllm", "cuda:0", "CUDA_VISIBLE_DEVICES", "0"),
        ("vllm", "rocm:1", "HIP_VISIBLE_DEVICES", "1"),
        ("vllm-ascend", "npu:2,3", "ASCEND_RT_VISIBLE_DEVICES", "2,3"),
        ("vllm-musa", "musa:0", "MUSA_VISIBLE_DEVICES", "0"),
        ("vllm-mlu", "mlu:7", "MLU_VISIBLE_DEVICES", "7"),
    ],
)
def test_a_chip_is_chosen_by_its_vendors_variable(
    name: str, chip: str, variable: str, value: str
) -> None:
    assert orders(name, chip=chip).order(1, Path()).env[variable] == value


def test_without_a_chip_the_choice_made_outside_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    assert orders("vllm").order(1, Path()).env["CUDA_VISIBLE_DEVICES"] == "5"
    assert orders("vllm", chip="cuda").order(1, Path()).env["CUDA_VISIBLE_DEVICES"] == "5"


MINDIE: dict[str, Any] = {
    "ServerConfig": {"ipAddress": "0.0.0.0", "port": 1025, "httpsEnabled": True, "maxLinkNum": 7},
    "BackendConfig": {
        "npuDeviceIds": [[0]],
        "ModelDeployConfig": {"ModelConfig": [{"modelName": "x", "worldSize": 1}]},
    },
}


def test_a_settings_file_is_copied_with_what_the_launcher_decides(tmp_path: Path) -> None:
    given = tmp_path / "config.json"
    given.write_text(json.dumps(MINDIE))
    keys = {"settings": str(given), "chip": "npu:2,3", "served": 'a "name"'}
    order = orders("mindie", **keys).order(4321, tmp_path)
    path = Path(order.env["MIES_CONFIG_JSON_PATH"])
    assert path.stat().st_mode & 0o077 == 0
    written = json.loads(path.read_text())
    assert written["ServerConfig"]["port"] == 4321
    assert written["ServerConfig"]["httpsEnabled"] is False
    assert written["ServerConfig"]["maxLinkNum"] == 7
    assert written["BackendConfig"]["npuDeviceIds"] == [[2, 3]]
    model = written["BackendConfig"]["ModelDeployConfig"]["ModelConfig"][0]
    assert model == {"modelName": 'a "name"', "modelWeightPath": "/models/qwen", "worldSize": 2}
    assert json.loads(given.read_text()) == MINDIE


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "is missing"), ("{", "cannot be read"), ("[]", "no place"), ("{}", "no place")],
)
def test_settings_that_cannot_work(text: str | None, words: str, tmp_path: Path) -> None:
    given = tmp_path / "config.json"
    if text is not None:
        given.write_text(text)
    with pytest.raises(ConfigError, match=rf"\[models\.m\] settings: .*{words}"):
        orders("mindie", settings=str(given) if text is not None else None).order(1, tmp_path)


def test_a_key_that_has_no_variable_is_in_a_private_file(tmp_path: Path) -> None:
    order = orders("sglang").order(1, tmp_path)
    path = Path(order.command[order.command.index("--config") + 1])
    assert path.read_text() == "api-key: the-key\n"
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("chip", ["cuda:", "cuda:a", "CUDA:0", "cuda:0,", "cuda 0", "tpu:0"])
def test_chips_that_are_none(chip: str) -> None:
    with pytest.raises(ConfigError, match=r"chip: .*write \"cuda:0\""):
        orders("vllm", chip=chip)
