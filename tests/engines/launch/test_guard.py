from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from bicameral.engines.launch import listening
from bicameral.engines.launch.child import Child, Order, log_path, tail
from bicameral.engines.launch.guard import Log
from bicameral.engines.launch.keeper import Deaths
from bicameral.engines.launch.version import version
from bicameral.errors import ConfigError
from tests.engines.launch.starting import alive

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def order(tmp_path: Path, code: str, grace: float = 5.0) -> Order:
    return Order(
        command=(sys.executable, "-c", code),
        env=dict(os.environ),
        log=tmp_path / "log",
        folder=tmp_path / "folder",
        mask="the-key",
        grace=grace,
        cwd=str(tmp_path),
    )


async def test_what_it_prints_and_how_it_ends(tmp_path: Path) -> None:
    code = "import sys; print('one'); print('two the-key', file=sys.stderr); sys.exit(4)"
    (tmp_path / "folder").mkdir()
    child = await Child.start(order(tmp_path, code))
    assert await child.ended(30) == "exit code 4"
    await child.stop()
    assert not (tmp_path / "folder").exists()
    assert sorted(child.tail().split(" | ")) == ["one", "two [key]"]


async def test_stopping_is_gentle_first(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "print('ready', flush=True)\ntime.sleep(3600)"
    )
    child = await Child.start(order(tmp_path, code))
    while "ready" not in child.tail():
        await asyncio.sleep(0.02)
    await child.stop()
    assert await child.ended(0) == "exit code 0"


async def test_a_program_that_is_none(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no program")
    with pytest.raises(ConfigError, match="cannot be run"):
        await Child.start(replace(order(tmp_path, ""), command=(str(text),)))


@linux
async def test_whoever_left_the_group_ends_too(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys\n"
        "sleeper = [sys.executable, '-c', 'import time; time.sleep(3600)']\n"
        "print(subprocess.Popen(sleeper, start_new_session=True).pid)"
    )
    child = await Child.start(order(tmp_path, code))
    assert await child.ended(30) == "exit code 0"
    await child.stop()
    assert not alive(int(child.tail()))


def test_a_log_keeps_to_its_limit_and_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = Log(str(path), 1000, b"the-key")
    for number in range(200):
        log.write(f"line {number} the-".encode())
        log.write(b"key\n")
    assert path.stat().st_size <= 1000
    assert (tmp_path / "log.1").stat().st_size <= 1000
    assert tail(path).endswith("line 199 [key]")
    assert b"the-key" not in path.read_bytes() + (tmp_path / "log.1").read_bytes()


def test_a_line_without_an_end_fills_no_memory_and_hides_no_key(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = Log(str(path), 10**6, b"the-key")
    for _ in range(3000):
        log.write(b"x" * 7 + b"the-key")
    log.end()
    assert b"the-key" not in path.read_bytes()
    assert max(map(len, tail(path).split(" | "))) <= 200


def test_a_bar_drawn_over_itself_counts_as_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = Log(str(path), 10**6, b"")
    log.write(b"10%\r20%\r\n30%\r")
    assert tail(path) == "10% | 20% | 30%"


def test_no_name_leads_out_of_the_folder() -> None:
    assert log_path("team/a:b").parent == log_path("x").parent
    assert log_path("team/a:b").name == "team%2Fa%3Ab.log"


@linux
def test_who_listens_and_where() -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours:
        port = ours.getsockname()[1]
        assert listening.taken(port)
        assert listening.exposed(port) is None
        assert listening.strangers(port, 1)
        assert not listening.strangers(port, os.getsid(0))
    assert not listening.taken(port)
    assert not listening.strangers(port, 1)
    with socket.create_server(("0.0.0.0", 0)) as wide:
        assert listening.exposed(wide.getsockname()[1]) == "0.0.0.0"


def test_pauses_grow_and_end() -> None:
    now = 0.0
    deaths = Deaths(4, 100.0, clock=lambda: now)
    assert [deaths.another() for _ in range(4)] == [0.5, 1.0, 2.0, None]
    now = 101.0
    assert deaths.another() == 0.5


async def test_a_version_is_a_line_or_unknown() -> None:
    say = (sys.executable, "-c", "print('  '); print('engine 1.2'); print('more')")
    assert await version(say, dict(os.environ)) == "engine 1.2"
    assert await version((sys.executable, "-c", "raise SystemExit(1)"), {}) is None
    assert await version(("/no/such/program",), {}) is None
