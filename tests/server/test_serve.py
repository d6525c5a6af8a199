"""The process: started, reloaded by SIGHUP, drained by SIGTERM; and what it logs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bicameral.config import ServerOptions, parse
from bicameral.errors import ConfigError
from bicameral.server import log
from bicameral.server.serve import Server, serve
from tests.server.client import HI, call, chat
from tests.server.live import Live, serving

CONFIG = """
[server]
port = 0
drain_timeout = {drain}

[models.echo]
engine = "scripted"

[models.slow]
engine = "scripted"
reply = "{reply}"
delay = 0.1

[minds.mind]
policy = "route"
members = ["echo"]
"""
START = "import sys; from bicameral.server.serve import serve; serve(sys.argv[1])"
SECRET = "tell nobody about my sk-secret-0123456789"


@dataclass
class Process:
    """A server in a process of its own."""

    process: asyncio.subprocess.Process
    url: str = ""
    log: list[dict[str, Any]] = field(default_factory=list)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def said(self, part: str) -> dict[str, Any]:
        """The next log line whose message holds `part`."""
        assert self.process.stderr
        async with asyncio.timeout(20):
            while line := await self.process.stderr.readline():
                self.log.append(json.loads(line))
                if part in self.log[-1].get("message", ""):
                    return self.log[-1]
        raise AssertionError(f"it ended without saying {part!r}: {self.log}")

    async def ended(self) -> int:
        assert self.process.stderr
        rest = await asyncio.wait_for(self.process.stderr.read(), 20)
        self.log += [json.loads(line) for line in rest.splitlines()]
        return await self.process.wait()


@asynccontextmanager
async def running(path: Path) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", START, str(path), stderr=asyncio.subprocess.PIPE
    )
    server = Process(process)
    try:
        server.url = (await server.said("listening on")).get("message", "").split()[-1]
        yield server
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def write(path: Path, *, words: int = 20, drain: float = 20.0) -> Path:
    path.write_text(CONFIG.format(reply="w " * words, drain=drain))
    return path


async def stream(server: Process) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream that has begun."""
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps({"model": "slow", "messages": HI, "stream": True}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
    writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
    await asyncio.wait_for(reader.readuntil(b'"content":"w '), 20)
    return reader, writer


async def get(server: Process, path: str) -> Any:
    return await call(server, "GET", path)  # type: ignore[arg-type]


async def test_sigterm_lets_a_stream_finish(tmp_path: Path) -> None:
    async with running(write(tmp_path / "c.toml")) as server:
        reader, writer = await stream(server)
        server.signal(signal.SIGTERM)
        await server.said("stopping")
        assert (await get(server, "/readyz")).status == 503
        assert (await get(server, "/healthz")).status == 200
        refused = await chat(server)  # type: ignore[arg-type]
        assert (refused.status, refused.error["code"]) == (503, "shutting_down")
        assert refused.headers["retry-after"]
        rest = await asyncio.wait_for(reader.read(), 20)
        assert rest.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert await server.ended() == 0
        writer.close()


async def test_what_does_not_end_in_time_is_ended_with_an_error(tmp_path: Path) -> None:
    async with running(write(tmp_path / "c.toml", words=2000, drain=0.3)) as server:
        reader, writer = await stream(server)
        server.signal(signal.SIGTERM)
        rest = await asyncio.wait_for(reader.read(), 20)
        assert b'"code":"shutting_down"' in rest
        assert b"[DONE]" not in rest
        assert rest.endswith(b"0\r\n\r\n")
        assert await server.ended() == 0
        writer.close()


async def test_a_second_signal_skips_the_wait(tmp_path: Path) -> None:
    async with running(write(tmp_path / "c.toml", words=2000)) as server:
        reader, writer = await stream(server)
        server.signal(signal.SIGINT)
        await server.said("stopping")
        server.signal(signal.SIGINT)
        assert b"shutting_down" in await asyncio.wait_for(reader.read(), 20)
        assert await server.ended() == 0
        writer.close()


async def test_sighup_reloads_and_a_wrong_config_changes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "c.toml")
    async with running(path) as server:
        reader, writer = await stream(server)
        path.write_text('[models.new]\nengine = "scripted"\nreplay = "x"\n')
        server.signal(signal.SIGHUP)
        told = (await server.said("the old config stays"))["message"]
        assert "[models.new] has an unknown key 'replay'" in told
        assert (await get(server, "/v1/models/slow")).status == 200

        path.write_text('[models.new]\nengine = "scripted"\n')
        server.signal(signal.SIGHUP)
        await server.said("reloaded")
        assert (await get(server, "/v1/models/slow")).status == 404
        assert (await chat(server, model="new")).status == 200  # type: ignore[arg-type]

        rest = await asyncio.wait_for(reader.readuntil(b"[DONE]"), 20)
        assert rest.count(b'"content":"w ') == 19
        writer.close()
        server.signal(signal.SIGTERM)
        assert await server.ended() == 0


async def test_logs_are_json_without_user_text(tmp_path: Path) -> None:
    async with running(write(tmp_path / "c.toml")) as server:
        asked = [{"role": "user", "content": SECRET}]
        headers = {"Authorization": f"Bearer {SECRET}", "x-request-id": "mine-1"}
        await chat(server, headers, messages=asked)  # type: ignore[arg-type]
        await chat(server, model=SECRET)  # type: ignore[arg-type]
        minds = {"x-request-id": "mine-2"}
        await chat(server, minds, model="mind", messages=asked)  # type: ignore[arg-type]
        await call(server, "POST", f"/v1/chat/completions?key={SECRET}", b"{" + SECRET.encode())  # type: ignore[arg-type]
        await get(server, f"/v1/{SECRET}")
        server.signal(signal.SIGTERM)
        assert await server.ended() == 0
        assert "secret" not in json.dumps(server.log)
        line = next(line for line in server.log if line.get("request") == "mine-1")
        assert (line["route"], line["model"], line["by"]) == ("chat", "echo", "echo")
        assert (line["status"], line["prompt_tokens"]) == (200, 5)
        assert 0 < line["seconds"] < 60
        (line,) = (line for line in server.log if line.get("logger") == "bicameral.decisions")
        assert (line["level"], line["request"], line["mind"]) == ("INFO", "mine-2", "mind")
        assert (line["asked"], line["by"]) == (["echo"], "echo")


def test_an_unexpected_error_is_logged_without_its_words(capsys) -> None:
    import logging

    try:
        raise ValueError(SECRET)
    except ValueError:
        record = logging.LogRecord("uvicorn.error", 40, "", 0, "failed\r\n\x1b[31m", None, None)
        record.exc_info = sys.exc_info()
    line = log.Lines().format(record)
    assert "secret" not in line
    assert "\n" not in line
    assert "\x1b" not in line
    assert json.loads(line)["error"] == "ValueError"
    assert json.loads(line)["at"][0].startswith("test_serve.py:")


async def test_a_taken_port_is_a_config_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with serving() as live:
            with pytest.raises(ConfigError, match="choose another port"):
                Server(live.brain, ServerOptions(port=port))


def test_other_addresses_need_keys_before_anything_is_bound(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="keys_env"):
        serve(write(tmp_path / "c.toml"), host="0.0.0.0")


async def test_the_ipv6_loopback_can_be_served() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with contextlib.suppress(ConfigError):
        async with serving(host="::1") as live:
            assert live.url.startswith("http://[::1]:")
            assert (await chat(live)).status == 200


async def test_reload_in_process_keeps_unchanged_members(live: Live) -> None:
    echo = live.scripted("echo")
    await live.brain.reload(
        parse('[models.echo]\nengine = "scripted"\n[models.b]\nengine = "scripted"', "t")
    )
    assert live.scripted("echo") is echo
    assert (await chat(live, model="b")).status == 200


async def test_without_a_file_a_reload_looks_for_the_config_again(
    live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BICAMERAL_CACHE", str(tmp_path))
    live.server.reload(None)  # nothing to be found: what runs stays
    await asyncio.gather(*live.server._reloading)
    assert (await chat(live, model="echo")).status == 200
    (tmp_path / "bicameral.toml").write_text('[models.found]\nengine = "scripted"\n')
    live.server.reload(None)
    await asyncio.gather(*live.server._reloading)
    assert list(live.brain.models) == ["found"]


@pytest.fixture
async def live() -> AsyncIterator[Live]:
    async with serving() as live:
        yield live


async def test_metrics_are_counted(live: Live) -> None:
    await chat(live, stream=True)
    await chat(live, model="none")
    await chat(live, model="x" * 200 + '"\n')
    lines = (await call(live, "GET", "/metrics")).body.decode().splitlines()
    assert 'bicameral_requests_total{route="chat",model="echo",status="200"} 1' in lines
    assert 'bicameral_requests_total{route="chat",model="",status="404"} 2' in lines
    assert 'bicameral_tokens_total{model="echo",kind="prompt"} 3' in lines
    assert 'bicameral_request_seconds_count{route="chat",model="echo"} 1' in lines
    assert 'bicameral_first_token_seconds_bucket{route="chat",model="echo",le="+Inf"} 1' in lines
    assert "bicameral_in_flight 0" in lines
