"""The docs are true: code runs as printed, configs load, generated pages are current."""

from __future__ import annotations

import ast
import asyncio
import re
import sys
import tomllib
from pathlib import Path

import pytest

from bicameral import Brain
from bicameral.config import parse

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [code for kind, code in BLOCK.findall(text) if kind == language]


async def test_the_engine_in_the_docs_runs(tmp_path, monkeypatch):
    (code,) = blocks("docs/engines.md", "python")
    published, config = blocks("docs/engines.md", "toml")
    (tmp_path / "backwards.py").write_text(code, encoding="utf-8")
    name, module = next(
        iter(tomllib.loads(published)["project"]["entry-points"]["bicameral.engines"].items())
    )
    info = tmp_path / "backwards-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: backwards\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[bicameral.engines]\n{name} = {module}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    async with Brain.open(parse(config, "engines.md")) as brain:
        assert (await brain.ask("one two three")).text == "three two one "
        assert (await brain.ask("one two three", max_tokens=1)).reason == "length"
    monkeypatch.delitem(sys.modules, "backwards")


STAND_INS = """
[models.small]
engine = "scripted"
reply = "Paris."
[models.big]
engine = "scripted"
reply = "The capital of France is Paris."
[minds.default]
policy = "cascade"
members = ["small", "big"]
"""


@pytest.mark.parametrize("code", blocks("README.md", "python"))
def test_the_readmes_code_runs(code, config_file, monkeypatch, capsys):
    """With scripted stand-ins for the members that the README's config names."""
    monkeypatch.setenv("BICAMERAL_CONFIG", str(config_file(STAND_INS)))
    compiled = compile(code, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    made = eval(compiled, {})
    if made is not None:
        asyncio.run(made)
    assert "Paris" in capsys.readouterr().out


@pytest.mark.parametrize("text", blocks("README.md", "toml"))
def test_the_readmes_configs_are_valid(text):
    config = parse(text, "README.md")
    assert config.models
    for name, table in config.models.items():
        from bicameral import engines
        from bicameral.config import convert

        convert(table, engines.find(table["engine"]).Options, "README.md", f"models.{name}")


def test_the_readme_has_code_to_run():
    assert blocks("README.md", "python")
    assert blocks("README.md", "toml")


def test_the_config_page_is_current(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import generate

    shown = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    assert shown == generate.page(), "run `python docs/generate.py`"
