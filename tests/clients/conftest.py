"""Each test module has its own servers, so modules can run side by side."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bicameral.engines import weights
from tests.clients.serving import REAL, SCRIPTED, Server, keyed


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Scripted models."""
    with keyed(SCRIPTED) as server:
        yield server


@pytest.fixture(scope="module")
def local_server() -> Iterator[Server]:
    """SmolLM2 as `smollm2`."""
    if "smollm2-135m" not in weights.pulled(weights.catalogue()):
        pytest.skip("SmolLM2 has not been pulled: run `bicameral pull smollm2-135m`")
    with keyed(REAL) as server:
        yield server
