"""What every test shares. The network is closed but for loopback (see addopts in pyproject)."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Decisions of tests go to a journal of their own, those of the processes they start as well.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="bicameral-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own settings must not leak into a test."""
    for name in ("BICAMERAL_CONFIG", "BICAMERAL_KEYS"):
        monkeypatch.delenv(name, raising=False)
    return


@pytest.fixture
def config_file(tmp_path: Path):
    """Writes a config file and gives its path."""

    def write(text: str) -> Path:
        path = tmp_path / "bicameral.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write
