"""The recipe `llama-server` for real, wherever that program and the small weights are at hand."""

from __future__ import annotations

import os
import shutil
import signal

import pytest

from bicameral.engines.launch.child import log_path
from bicameral.engines.weights import locate
from bicameral.errors import WeightsError
from bicameral.model import collect
from bicameral.types import Request, Sampling
from tests.engines.launch.starting import HASTE, answered
from tests.engines.models import opened

ASKED = Request.ask("Say hello, zebra.", sampling=Sampling(max_tokens=8))


@pytest.mark.skipif(shutil.which("llama-server") is None, reason="there is no llama-server")
async def test_it_answers_is_killed_and_is_up_again() -> None:
    try:
        model = str(locate("smollm2-135m"))
    except WeightsError as error:
        pytest.skip(str(error))
    args = ["--threads", "1", "--ctx-size", "512"]
    keys = {**HASTE, "hung_seconds": 30.0, "served": "smollm2", "chip": "cpu", "args": args}
    async with opened("launched", recipe="llama-server", model=model, **keys) as server:
        answer = await collect(server, ASKED)
        assert answer.error is None
        assert answer.text
        os.kill(server.pid, signal.SIGKILL)
        await answered(server)
    assert b"zebra" not in log_path("m").read_bytes()
