from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bicameral.engines.launch import listening
from bicameral.engines.launch.child import log_path
from bicameral.engines.launch.recipe import recipes
from bicameral.errors import Broken, ChipError, ConfigError, Overloaded, Unreachable
from bicameral.model import collect
from bicameral.types import Reach, Request
from tests.engines.launch.starting import FAKE, alive, answered, ask, faked, gone
from tests.engines.models import opened

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


async def test_a_server_of_ours_answers_and_ends_with_us(tmp_path: Path) -> None:
    child = tmp_path / "child"
    async with faked("--child", str(child)) as model:
        assert (await ask(model)).text == "well hello there"
        assert model.card.reach is Reach.DEVICE
        assert model.card.engine == "launched"
        pids = model.pid, int(child.read_text())
        assert all(map(alive, pids))
    assert not any(map(alive, pids))


async def test_a_config_of_ours_in_a_process_of_its_own(tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(
        '[server]\nkeys_env = "BICAMERAL_KEYS"\n[journal]\nenabled = false\n'
        '[models.parrot]\nengine = "scripted"\nreply = "from the other side"\n'
    )
    args = ["--config", str(other)]
    async with opened("launched", recipe="bicameral", model="parrot", args=args) as model:
        assert (await ask(model)).text == "from the other side"
        while model.version is None:
            await asyncio.sleep(0.02)
        assert "bicameral" in model.version


async def test_a_server_that_ignores_sigterm_is_killed() -> None:
    async with faked("--stubborn", stop_seconds=0.2) as model:
        pid = model.pid
    assert not alive(pid)


async def test_killed_it_is_started_again() -> None:
    async with faked() as model:
        first = model.pid
        os.kill(first, signal.SIGKILL)
        assert (await answered(model)).text == "well hello there"
        assert model.restarts == 1
        assert model.pid != first


async def test_while_it_is_down_requests_are_told_when_to_come_again() -> None:
    async with faked() as model:
        os.kill(model.pid, signal.SIGKILL)
        while not isinstance(error := (await ask(model)).error, Overloaded):
            await asyncio.sleep(0.01)
        assert error.status == 503
        assert error.retry_after > 0
        assert "SIGKILL" in str(error)


async def test_hung_it_is_killed_and_started_again() -> None:
    async with faked(stop_seconds=60.0) as model:
        first = model.pid
        os.kill(first, signal.SIGSTOP)
        asking = asyncio.create_task(ask(model))
        await gone(first)
        assert isinstance((await asking).error, Broken | Overloaded | Unreachable)
        assert (await answered(model)).text == "well hello there"


async def test_a_death_amid_an_answer_is_broken_and_nothing_is_said_twice() -> None:
    async with faked() as model:
        answer = await ask(model, "die")
        assert isinstance(answer.error, Broken)
        assert "SIGKILL) as it answered" in str(answer.error)
        assert answer.text == "well "


async def test_a_death_before_the_first_word_is_broken_too() -> None:
    async with faked() as model:
        asking = asyncio.create_task(ask(model, "mute"))
        while b"mute" not in log_path("big").read_bytes():
            await asyncio.sleep(0.02)
        os.kill(model.pid, signal.SIGKILL)
        assert isinstance((await asking).error, Broken)


async def test_crash_after_crash_it_is_given_up(tmp_path: Path) -> None:
    count = tmp_path / "count"
    flags = ("--count", str(count), "--exit", "3", "--exit-from", "2", "--say", "no memory left")
    async with faked(*flags, deaths=3) as model:
        assert (await ask(model, "my secret")).error is None
        os.kill(model.pid, signal.SIGKILL)
        while not isinstance(error := (await ask(model)).error, Unreachable):
            await asyncio.sleep(0.02)
        assert "3 times" in str(error)
        assert "exit code 3" in str(error)
        assert "no memory left" in str(error)
        assert "my secret" not in str(error)
        assert str(log_path("big")) in str(error)
    assert count.read_text() == "3"


async def test_a_server_that_was_asked_shows_none_of_its_lines() -> None:
    async with faked(deaths=1) as model:
        await ask(model, "my secret")
        assert b"my secret" in log_path("big").read_bytes()
        os.kill(model.pid, signal.SIGKILL)
        while "given up" not in str(error := (await ask(model, "my secret")).error):
            await asyncio.sleep(0.02)
        assert "my secret" not in str(error)


async def test_a_server_that_does_not_start_says_why() -> None:
    with pytest.raises(
        ConfigError, match=r"(?s)exit code 7.*weights not found.*big\.log"
    ) as caught:
        async with faked("--exit", "7", "--say", "weights not found"):
            pass
    assert "never run by us" not in str(caught.value)


async def test_an_untested_recipe_says_so_when_it_fails() -> None:
    with pytest.raises(ConfigError, match=r"'vllm' was never run by us: .*https://docs\.vllm\.ai"):
        async with faked("--exit", "1", recipe="vllm"):
            pass


async def test_a_slow_server_is_waited_for_but_not_for_ever() -> None:
    async with faked("--slow", "1") as model:
        assert (await ask(model)).error is None
    with pytest.raises(ConfigError, match=r"was not up after 0\.3 s"):
        async with faked("--slow", "30", start_seconds=0.3):
            pass


async def test_another_model_than_configured_is_an_error_that_names_both() -> None:
    with pytest.raises(ConfigError, match=r"serves 'llama', not 'm' as configured"):
        async with faked("--serves", "llama"):
            pass


async def test_a_given_port_that_is_taken_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port: {port} is taken .*choose another"):
            async with faked(port=port):
                pass


async def test_a_stranger_on_the_port_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody is quicker than our server: another port is taken, the stranger gets no text."""
    env = {**os.environ, "BICAMERAL_KEYS": "x"}
    port = listening.free_port()
    stranger = await asyncio.create_subprocess_exec(
        sys.executable, FAKE, "--port", str(port), env=env, stdout=subprocess.PIPE
    )
    while not listening.strangers(port, 1):
        await asyncio.sleep(0.02)
    ports = iter([port])
    free = listening.free_port
    monkeypatch.setattr(listening, "free_port", lambda: next(ports, None) or free())
    try:
        async with faked() as model:
            assert (await ask(model)).text == "well hello there"
    finally:
        stranger.kill()
        assert await stranger.stdout.read() == b""
        await stranger.wait()


async def test_a_server_that_others_can_reach_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"listens on 0\.0\.0\.0, where others can reach it"):
        async with faked("--host", "0.0.0.0"):
            pass


async def test_a_missing_program_says_what_to_install() -> None:
    with pytest.raises(ConfigError, match=r"there is no 'text-embeddings-router' here: install"):
        async with opened("launched", recipe="tei", model="m", kind="embeddings"):
            pass


async def test_a_chip_that_is_not_there() -> None:
    with pytest.raises(ChipError, match=r"Its chip cuda:7 was not found"):
        async with faked(
            "--exit",
            "1",
            "--say",
            "no CUDA-capable device is detected",
            recipe="vllm",
            chip="cuda:7",
        ):
            pass


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"url": "http://127.0.0.1:1"}, r"url: the launcher chooses it; .*engine = \"openai\""),
        ({"retries": 1}, "retries: "),
        ({"recipe": "vlm"}, "did you mean 'vllm'"),
        ({"chip": "npu:0"}, r"chip: 'npu:0' is not for this recipe; write \"cpu\""),
        ({"recipe": "tei"}, r"the recipe 'tei' serves kind = \"embeddings\""),
        ({"env": {"HF_TOKEN": "x"}}, r"env: keep secrets such as HF_TOKEN out"),
        ({"secrets": ["NO_SUCH_TOKEN"]}, "NO_SUCH_TOKEN is not set"),
    ],
)
async def test_options_that_cannot_work(keys: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        async with faked(**keys):
            pass


async def test_what_the_server_gets_to_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_API_KEY", "theirs")
    monkeypatch.setenv("HF_TOKEN", "let in")
    monkeypatch.setenv("SOME_URL", "http://me:secret@example.com")
    dump = tmp_path / "dump"
    keys = {"recipe": "vllm", "chip": "cuda:1,2", "env": {"PLAIN": "1"}, "secrets": ["HF_TOKEN"]}
    with pytest.raises(ConfigError):
        async with faked("--dump", str(dump), "--exit", "1", **keys):
            pass
    argv, env = json.loads(dump.read_text())
    assert env["CUDA_VISIBLE_DEVICES"] == "1,2"
    assert (env["PLAIN"], env["HF_TOKEN"]) == ("1", "let in")
    assert not {"OTHER_API_KEY", "SOME_URL"} & set(env)
    assert len(env["VLLM_API_KEY"]) >= 32
    assert not any(env["VLLM_API_KEY"] in word for word in argv)


async def test_the_log_is_private_and_holds_no_key(tmp_path: Path) -> None:
    async with faked() as model:
        await ask(model)
    log = log_path("big")
    assert log.stat().st_mode & 0o077 == 0
    assert b"with Bearer [key]" in log.read_bytes()


async def test_many_at_once_while_it_dies() -> None:
    async with faked() as model:
        asking = [asyncio.create_task(ask(model)) for _ in range(20)]
        await asyncio.sleep(0)
        os.kill(model.pid, signal.SIGKILL)
        for answer in await asyncio.gather(*asking):
            assert answer.error is None or isinstance(
                answer.error, Broken | Overloaded | Unreachable
            )
        assert (await answered(model)).text == "well hello there"


_OWNER = """
import asyncio, sys
from tests.engines.launch.starting import faked
async def main():
    async with faked("--child", sys.argv[1], "--stubborn", stop_seconds=0.3) as model:
        print(model.pid, flush=True)
        await asyncio.sleep(3600)
asyncio.run(main())
"""


async def test_nothing_is_left_when_we_are_killed(tmp_path: Path) -> None:
    child = tmp_path / "child"
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _OWNER, str(child), stdout=subprocess.PIPE
    )
    pid = int(await owner.stdout.readline())
    guards = [each.pid for each in psutil.Process(owner.pid).children()]
    assert alive(pid)
    assert guards
    owner.kill()
    await owner.wait()
    await gone(pid, int(child.read_text()), *guards)


async def test_nothing_is_left_when_the_guard_is_killed() -> None:
    async with faked() as model:
        pid = model.pid
        psutil.Process(pid).parent().kill()
        await gone(pid)
        assert (await answered(model)).text == "well hello there"


async def test_cancelling_the_start_leaves_nothing(tmp_path: Path) -> None:
    child = tmp_path / "child"

    async def start() -> None:
        async with faked("--slow", "60", "--child", str(child), stop_seconds=0.3):
            pass

    starting = asyncio.create_task(start())
    while not (child.exists() and child.read_text()):
        await asyncio.sleep(0.02)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not alive(int(child.read_text()))


async def test_a_request_without_a_server_never_waits() -> None:
    async with faked() as model:
        pass
    assert isinstance((await collect(model, Request.ask("hi"))).error, Unreachable)


def test_only_what_we_ran_is_called_tested() -> None:
    for name, row in recipes().items():
        assert row.source.startswith("https://"), name
        assert row.tested == bool(row.where), name
        assert row.install, name
