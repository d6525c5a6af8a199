"""The `llm` command line against our server: chat, streams, schema, the tool loop, errors."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.clients.installed import ENVIRONMENTS, need
from tests.clients.pictures import png
from tests.clients.program import SECONDS, environment
from tests.clients.serving import REPLY, WORDS, Server

MODELS = ("says", "sees", "calls", "person", "slow", "dies", "sayz", "smollm2")
WEATHER = """
def get_weather(city: str) -> str:
    "The weather in a city."
    return "sunny in " + city
"""


class Llm:
    """The installed command, told of our server by its own settings folder."""

    def __init__(self, folder: Path, server: Server) -> None:
        folder.mkdir(exist_ok=True)
        abilities = {"supports_tools": True, "supports_schema": True, "vision": True}
        rows = [
            {"model_id": name, "model_name": name, "api_base": server.url}
            | {"api_key_name": "bicameral"}
            | abilities
            for name in MODELS
        ]
        # YAML reads JSON.
        (folder / "extra-openai-models.yaml").write_text(json.dumps(rows))
        (folder / "keys.json").write_text(json.dumps({"bicameral": server.key}))
        self._env = environment(LLM_USER_PATH=str(folder))
        self._path = need(ENVIRONMENTS / "llm" / "bin" / "llm")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self._path, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._env,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Its exit code, output and error output."""
        with self.start(*arguments) as process:
            output, errors = process.communicate(timeout=SECONDS)
        return process.returncode, output, errors


@pytest.fixture
def llm(tmp_path: Path, server: Server) -> Llm:
    return Llm(tmp_path / "llm", server)


@pytest.mark.parametrize("how", [(), ("--no-stream",)], ids=["streamed", "whole"])
def test_chat_with_usage(llm: Llm, how: tuple[str, ...]):
    code, output, errors = llm.run("-m", "says", "--usage", *how, "Hello?")
    assert (code, output.strip()) == (0, REPLY)
    assert f"1 input, {WORDS} output" in errors


def test_tool_loop(llm: Llm):
    code, output, errors = llm.run("-m", "calls", "--functions", WEATHER, "--td", "Weather?")
    assert (code, output.strip()) == (0, "It is sunny.")
    assert "sunny in New York" in errors


def test_schema(llm: Llm):
    code, output, _ = llm.run("-m", "person", "--schema", "name, born int", "Who?")
    assert code == 0
    assert json.loads(output) == {"name": "Ada", "born": 1815}


def test_image_by_card(llm: Llm, tmp_path: Path):
    dot = tmp_path / "dot.png"
    dot.write_bytes(png())
    code, output, _ = llm.run("-m", "sees", "What is this?", "-a", str(dot))
    assert (code, output.strip()) == (0, REPLY)
    code, output, errors = llm.run("-m", "says", "What is this?", "-a", str(dot))
    assert (code, output.strip()) == (1, "")
    assert "400" in errors
    assert "image" in errors


def test_interrupt_stops_the_model(llm: Llm, server: Server):
    before = server.cancelled("slow")
    with llm.start("-m", "slow", "Count.") as process:
        assert process.stdout
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=SECONDS)
    assert server.sees_cancelled("slow", before + 1)


def test_unknown_model(llm: Llm):
    code, output, errors = llm.run("-m", "sayz", "Hello?")
    assert (code, output) == (1, "")
    assert "404" in errors
    assert "says" in errors


def test_wrong_key(llm: Llm):
    code, _, errors = llm.run("-m", "says", "--key", "sk-wrong", "Hello?")
    assert code == 1
    assert "401" in errors


def test_a_stream_that_breaks_is_an_error(llm: Llm):
    code, _, errors = llm.run("-m", "dies", "Hello?")
    assert code == 1
    assert "died after 3 pieces" in errors


def test_real_weights(tmp_path: Path, local_server: Server):
    llm = Llm(tmp_path / "llm", local_server)
    few = ("-o", "max_tokens", "8", "-o", "temperature", "0")
    code, output, _ = llm.run("-m", "smollm2", *few, "Say hello.")
    assert code == 0
    assert "Hello" in output
