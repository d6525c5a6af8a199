"""The spiking engine for the contract suite: a tiny net, and a recording that it fires on."""

from __future__ import annotations

import io
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from bicameral.engines import spiking as engine
from bicameral.engines.spike.exchange import write
from bicameral.engines.spike.graph import LIF, Flatten, Linear, chain
from bicameral.model import Model
from bicameral.types import Video


def recording() -> Video:
    """Half a second in which one pixel of four flickers."""
    times = np.arange(0, 500_000, 100)
    zeros = np.zeros_like(times)
    out = io.BytesIO()
    np.savez(out, x=zeros, y=zeros, t=times, p=zeros, width=np.array(2), height=np.array(2))
    return Video(data=out.getvalue(), media_type=engine.MEDIA_TYPE)


@asynccontextmanager
async def spiking() -> AsyncIterator[Model]:
    """A net of one neuron that fires on any event, under the name "spiking"."""
    pytest.importorskip("nir", reason="needs pip install 'bicameral[spiking]'")
    one = np.ones(1)
    cells = LIF(tau=2e-3 * one, r=20 * one, v_leak=0 * one, v_threshold=one, v_reset=0 * one)
    net = chain((1, 2, 2), Flatten(), Linear(weight=np.full((1, 4), 0.4)), cells)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.nir"
        write(net, path)
        options = engine.Options(engine="spiking", weights=str(path), labels=("busy",))
        async with engine.open("spiking", options) as model:
            yield model
