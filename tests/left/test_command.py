"""A command as a checker: how it gets the answer, what it may see, and how it is ended."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import psutil
import pytest

from bicameral.errors import ConfigError
from bicameral.left.command import FILE, Command
from bicameral.types import Answer, Request

PLAIN = Request.ask("hello")
READ = "import sys; text = sys.stdin.read(); "


def command(code: str, *more: str, **options) -> Command:
    return Command([sys.executable, "-I", "-c", code, *more], **options)


def check(checker: Command, text: str = "", request: Request = PLAIN):
    return asyncio.run(checker.check(request, Answer(model="m", text=text)))


def shows(checker: Command, text: str = ""):
    return asyncio.run(checker.shows(PLAIN, Answer(model="m", text=text)))


@pytest.mark.parametrize(("text", "passes"), [("4", True), ("5", False), ("six", None)])
def test_the_exit_status_is_the_verdict(text, passes):
    judge = command(READ + "sys.exit({'4': 0, '5': 1}.get(text, 3))")
    assert check(judge, text) is passes


def test_the_answer_can_come_as_a_file():
    judge = command(
        "import sys; print(open(sys.argv[1]).read(), sys.argv[1][-3:])", FILE, suffix=".py"
    )
    assert shows(judge, "é = 1") == "é = 1 .py\n"


def test_only_the_code_is_run_if_so_wished():
    judge = Command([sys.executable, "-I", FILE], code=True)
    assert shows(judge, "Sure:\n```python\nprint(2 * 21)\n```\nThat prints 42.") == "42\n"
    assert shows(judge, "```python\nraise SystemExit(1)\n```") is None
    assert check(judge, "```python\nassert 1 + 1 == 3\n```") is False


def test_it_sees_no_secret_and_leaves_nothing_behind(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    seen = shows(command("import os; print(sorted(os.environ), os.getcwd())"))
    assert "OPENAI_API_KEY" not in seen
    assert "PATH" in seen
    folder = seen.rsplit(maxsplit=1)[-1]
    assert "bicameral-check-" in folder
    assert not Path(folder).exists()


def test_one_that_does_not_end_in_time_is_wrong():
    assert check(command("import time; time.sleep(60)", seconds=0.2)) is False


def test_the_end_of_the_requests_time_tells_nothing():
    judge = command("import time; time.sleep(60)")
    late = PLAIN.but(deadline=time.monotonic() + 0.2)
    assert check(judge, request=late) is None


def test_one_that_does_not_start_tells_nothing():
    assert check(Command(["/no/such/program"])) is None
    with pytest.raises(ConfigError):
        Command([])


def test_endless_output_is_not_kept_and_unread_input_does_not_block():
    much = command("print('x' * 10_000_000)")
    assert len(shows(much)) == 64 * 1024
    assert check(command("pass"), "x" * 10_000_000) is True


def test_a_killed_one_is_wrong():
    assert check(command("import os; os.kill(os.getpid(), 9)")) is False


async def test_cancelling_ends_it_and_what_it_started(tmp_path):
    note = tmp_path / "pid"
    code = (
        "import subprocess, sys, time;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "open(sys.argv[1], 'w').write(f'{child.pid}.'); time.sleep(60)"
    )
    judge = command(code, str(note), seconds=60)
    task = asyncio.create_task(judge.check(PLAIN, Answer(model="m")))
    while not (note.exists() and note.read_text().endswith(".")):
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    while _alive(int(note.read_text()[:-1])):
        await asyncio.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
