"""Members for minds under test."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from bicameral.ledger.meter import Meter
from tests.engines.models import opened


@pytest.fixture
async def member():
    """Opens metered scripted members; `.leaf` is the model inside."""
    async with AsyncExitStack() as stack:

        async def open_one(name: str, **keys):
            leaf = await stack.enter_async_context(opened("scripted", name, **keys))
            meter = Meter(leaf, lambda call, booking: None)
            meter.leaf = leaf
            return meter

        yield open_one
