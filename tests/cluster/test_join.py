"""Joining and leaving, in a process of its own, as Ray has one connection per process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from tempfile import TemporaryDirectory

import pytest

PROGRAM = """
import asyncio, json
from bicameral.cluster import member
from bicameral.cluster.settings import Settings
from bicameral.errors import ConfigError
from bicameral.model import collect
from bicameral.options import ClusterOptions
from bicameral.types import Request

TABLE = {"engine": "scripted", "reply": "hello there"}

def opened(address, **settings):
    where = ClusterOptions(address=address, resources={"CPU": 1, "ascend910b": 2})
    return member.open("m", TABLE, Settings(**settings), where, "test")

async def refused(address):
    try:
        async with opened(address):
            return "opened"
    except ConfigError as error:
        return str(error)

async def main():
    found = {}
    settings = {"resources": {"ascend910b": 1}, "num_cpus": 0}
    async with opened("local", **settings) as one, opened("local", **settings) as two:
        found["said"] = [(await collect(each, Request.ask("?"))).text for each in (one, two)]
        found["reach"] = one.card.reach.name
        import ray
        found["nodes"] = [node["NodeManagerAddress"] for node in ray.nodes()]
        found["other"] = await refused("127.0.0.1:2")
    found["left"] = not ray.is_initialized()
    found["nobody"] = await refused("127.0.0.1:1")
    print(json.dumps(found))

asyncio.run(main())
"""


@pytest.mark.skipif(not find_spec("ray"), reason="needs pip install 'bicameral[cluster]'")
def test_one_connection_is_shared_local_is_local_and_none_is_a_clear_error() -> None:
    program = [sys.executable, "-c", PROGRAM]
    with TemporaryDirectory(prefix="bcr", dir="/tmp", ignore_cleanup_errors=True) as folder:
        more = {"PYTHONPATH": os.pathsep.join(sys.path), "RAY_TMPDIR": folder}
        environment = {**os.environ, **more}
        environment.pop("RAY_ADDRESS", None)
        done = subprocess.run(program, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert "nothing answers at 127.0.0.1:1" in found["nobody"]
    assert found["said"] == ["hello there"] * 2
    assert found["reach"] == "DEVICE"
    assert found["nodes"] == ["127.0.0.1"]
    assert "has joined local already" in found["other"]
    assert found["left"]
