"""Opens an engine's model for a test, from plain keys as in the config file."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from bicameral import build
from bicameral.model import Model


def opened(engine: str, name: str = "m", **keys: Any) -> AbstractAsyncContextManager[Model]:
    """The model of `[models.NAME]` with these keys."""
    return build.member(name, {"engine": engine, **keys}, "test")
