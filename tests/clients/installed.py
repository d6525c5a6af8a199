"""Where the clients are, and what happens when one is not installed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parents[1] / ".venv-clients"
NODE = HERE / "node"


def need(path: Path) -> Path:
    """The path; without it the test is skipped, or fails where clients are required."""
    if path.exists():
        return path
    reason = f"{path} is missing: run `make clients`"
    if os.environ.get("BICAMERAL_REQUIRE_CLIENTS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
