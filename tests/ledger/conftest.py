"""Books on both databases. PostgreSQL's tests are skipped where there is no server program."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ledger.postgres import Server, binaries


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One for each worker of pytest."""
    programs = binaries()
    if programs is None:
        why = "no PostgreSQL server program: apt-get install postgresql"
        if os.environ.get("BICAMERAL_REQUIRE_POSTGRES") == "1":
            pytest.fail(why)
        pytest.skip(why)
    server = Server(programs)
    yield server
    server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of its own for each test."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'book.sqlite3'}"
    return request.getfixturevalue("server").database()
