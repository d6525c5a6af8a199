"""Finds the book that a command is about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from bicameral.brain import load_config
from bicameral.config import Config
from bicameral.errors import ConfigError
from bicameral.ledger.engine import where
from bicameral.ledger.store import Store

ConfigPath = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="The config file; else $BICAMERAL_CONFIG, ./bicameral.toml."
    ),
]


@contextmanager
def opened(config: Path | None) -> Iterator[tuple[Config, Store]]:
    """The config and its open book; ConfigError if it has none. LedgerError if it is shut."""
    loaded = load_config(config)
    if loaded.ledger is None or not loaded.ledger.enabled:
        raise ConfigError(f"{loaded.source}: there is no ledger; add a [ledger] table")
    store = Store(where(loaded.ledger))
    try:
        yield loaded, store
    finally:
        store.close()
