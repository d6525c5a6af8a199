"""A member on Ray passes the suite that every Model passes; opened once, as that takes long."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bicameral.cluster import member
from bicameral.cluster.settings import Settings
from bicameral.model import Model
from tests.engines import test_contract as contract

pytestmark = pytest.mark.asyncio(loop_scope="module")
TABLE = {"engine": "scripted", "reply": "well hello there", "usage": False}

globals().update({name: test for name, test in vars(contract).items() if name.startswith("test_")})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model(options) -> AsyncIterator[Model]:
    settings = Settings(num_cpus=0.05)
    async with member.open("m", TABLE, settings, options, "test") as far:
        yield far


async def test_the_suite_is_here() -> None:
    assert "test_fifty_concurrent_runs" in globals()
