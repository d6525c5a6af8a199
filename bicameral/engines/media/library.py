"""Optional libraries, imported when they are first needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from bicameral.errors import ConfigError


def library(name: str, *, extra: str = "see") -> Any:
    """The module called `name`; ConfigError that says what to install if it is not there."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"{name} is not installed: run `pip install 'bicameral[{extra}]'`"
        ) from error
