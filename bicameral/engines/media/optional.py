"""Optional libraries, imported when they are first needed."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from bicameral.errors import ConfigError


def library(name: str, *, extra: str = "see") -> Any:
    """The module called `name`; ConfigError that says what to install if it is not there."""
    try:
        return import_module(name)
    except ImportError as error:
        raise _missing(name, extra) from error


def present(name: str, *, extra: str = "see") -> None:
    """ConfigError, as from `library`, if it is not installed; it is not imported yet."""
    if find_spec(name) is None:
        raise _missing(name, extra)


def _missing(name: str, extra: str) -> ConfigError:
    return ConfigError(f"{name} is not installed: run `pip install 'bicameral[{extra}]'`")
