"""aider against our server: it edits a file, looks at a picture, gives up on errors."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.clients.installed import ENVIRONMENTS, need
from tests.clients.pictures import png
from tests.clients.program import SECONDS, environment
from tests.clients.serving import REPLY, Server

QUIET = (
    "--yes-always",
    "--no-git",
    "--no-check-update",
    "--no-show-release-notes",
    "--analytics-disable",
    "--no-detect-urls",
    "--no-fancy-input",
    "--no-pretty",
    "--no-auto-lint",
    "--no-suggest-shell-commands",
    "--map-tokens=0",
)


class Aider:
    """The installed command in a folder of its own, told what our models are."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder = folder
        self._env = environment(
            HOME=str(folder),
            OPENAI_API_BASE=server.url,
            OPENAI_API_KEY=server.key,
            LITELLM_LOCAL_MODEL_COST_MAP="True",
        )
        self._path = need(ENVIRONMENTS / "aider" / "bin" / "aider")

    def start(self, model: str, *arguments: str) -> subprocess.Popen[str]:
        """Without the model's data at hand, aider would look for it on the network."""
        name = f"openai/{model}"
        settings = [{"name": name, "extra_params": {"max_tokens": 40}}]
        told = (
            f"--model={name}",
            f"--model-metadata-file={self._write('models.json', {name: DATA})}",
            f"--model-settings-file={self._write('settings.yml', settings)}",
        )
        return subprocess.Popen(
            [self._path, *QUIET, *told, *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._env,
        )

    def _write(self, name: str, value: Any) -> Path:
        path = self.folder / name
        path.write_text(json.dumps(value))
        return path

    def run(self, model: str, *arguments: str) -> str:
        """All it said."""
        with self.start(model, *arguments) as process:
            output, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, output
        return output


DATA = {
    "litellm_provider": "openai",
    "mode": "chat",
    "max_input_tokens": 2048,
    "max_output_tokens": 512,
    "input_cost_per_token": 0,
    "output_cost_per_token": 0,
    "supports_vision": True,
}


@pytest.fixture
def aider(tmp_path: Path, server: Server) -> Aider:
    return Aider(tmp_path, server)


@pytest.mark.parametrize(
    ("model", "how"),
    [("edits", ("--edit-format=diff",)), ("writes", ("--edit-format=whole", "--no-stream"))],
    ids=["diff-streamed", "whole-file"],
)
def test_a_file_is_edited(aider: Aider, model: str, how: tuple[str, ...]):
    file = aider.folder / "greet.py"
    file.write_text('print("hello")\n')
    said = aider.run(model, *how, "--message=Say goodbye instead.", "greet.py")
    assert file.read_text() == 'print("goodbye")\n', said
    assert "Applied edit to greet.py" in said


def test_a_picture_is_seen(aider: Aider):
    (aider.folder / "dot.png").write_bytes(png())
    said = aider.run("sees", "--edit-format=ask", "--message=What is this?", "dot.png")
    assert REPLY in said


def test_wrong_key(tmp_path: Path, server: Server):
    said = Aider(tmp_path, server.with_key("sk-wrong")).run("says", "--message=Hello?")
    assert "AuthenticationError" in said


def test_a_stream_that_breaks_is_tried_again(aider: Aider, server: Server):
    """It would go on for a minute; the first retry shows that it saw the error."""
    before = server.runs("dies")
    with aider.start("dies", "--edit-format=ask", "--message=Hello?") as process:
        assert process.stdout
        said = ""
        while "Retrying" not in said and (line := process.stdout.readline()):
            said += line
        process.kill()
    assert "died after 3 pieces" in " ".join(said.split())
    assert "Retrying" in said
    assert server.runs("dies") > before


def test_interrupt_stops_the_model(aider: Aider, server: Server):
    before = server.cancelled("slow")
    with aider.start("slow", "--edit-format=ask", "--message=Count.") as process:
        assert server.sees_running("slow")
        process.send_signal(signal.SIGINT)
        assert server.sees_cancelled("slow", before + 1)
        process.kill()


def test_real_weights(tmp_path: Path, local_server: Server):
    message = "--message=Say hello."
    said = Aider(tmp_path, local_server).run("smollm2", "--edit-format=ask", message)
    assert "Tokens:" in said
    assert "Hello" in said
