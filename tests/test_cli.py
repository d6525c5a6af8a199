"""The command line as its user types it: what it prints, where, and how it exits."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys

import pytest

from bicameral import cli

CONFIG = """
[models.small]
engine = "scripted"
reply = "not sure"
confidence = 0.2
[models.big]
engine = "scripted"
reply = "it is 42"
[models.slow]
engine = "scripted"
reply = "one two three four five six seven eight nine ten"
delay = 0.2
[models.dead]
engine = "scripted"
fail = "unreachable"
[minds.default]
policy = "cascade"
members = ["small", "big"]
"""


@pytest.fixture
def bicameral(config_file, monkeypatch, capsys):
    """Runs `bicameral WORDS… --config FILE`; gives (exit code, stdout, stderr)."""
    path = config_file(CONFIG)

    def run(*words, stdin=""):
        monkeypatch.setattr(sys, "argv", ["bicameral", *words, "--config", str(path)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return ended.value.code, shown.out, shown.err

    return run


def test_ask_prints_the_answer_and_nothing_else(bicameral):
    assert bicameral("ask", "what") == (0, "it is 42\n", "")


def test_ask_reads_stdin(bicameral):
    code, out, _ = bicameral("ask", "-", "--mind", "big", stdin="what")
    assert (code, out) == (0, "it is 42\n")


def test_ask_json_is_one_line(bicameral):
    code, out, _ = bicameral("ask", "what", "--json", "--max-tokens", "2")
    answer = json.loads(out)
    assert code == 0
    assert answer["text"] == "it is "
    assert answer["finish_reason"] == "length"
    assert [call["model"] for call in answer["calls"]] == ["small", "big"]


def test_ask_explains_on_stderr(bicameral):
    _, out, err = bicameral("ask", "what", "--explain")
    assert out == "it is 42\n"
    assert "✓ big" in err
    assert "0.20 sure" in err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["ask", "x", "--mind", "bigg"], 2, "did you mean 'big'"),
        (["ask", "x", "--mind", "dead"], 1, "dead: fails"),
        (["ask", "x", "--reach", "moon"], 2, "device, site, private or public"),
        (["ask", "x", "--budget", "ten"], 2, "'ten' is no price"),
        (["ask", "x", "--budget", "1"], 2, "no known price"),
        (["ask", "x", "--image", "nowhere.png"], 2, "nowhere.png"),
    ],
)
def test_errors_are_one_clear_line_and_an_exit_code(bicameral, words, code, said):
    got, out, err = bicameral(*words)
    assert (got, out) == (code, "")
    assert said in " ".join(err.split())
    assert "Traceback" not in err


def test_models_lists_and_probes(bicameral):
    code, out, _ = bicameral("models")
    assert code == 0
    assert "* default" in out
    assert "no: dead" in out
    code, out, _ = bicameral("models", "--json", "--no-probe")
    cards = [json.loads(line)["card"]["name"] for line in out.splitlines()]
    assert cards == ["default", "small", "big", "slow", "dead"]


def test_check_probes_every_member_and_fails_if_one_does(bicameral):
    code, out, _ = bicameral("check")
    assert code == 1
    assert "✓ small: answered" in out
    assert "✗ dead: dead: fails" in out
    assert "mind default: small + big" in out


def test_check_names_what_is_wrong_with_the_file(config_file, monkeypatch, capsys):
    path = config_file("[models.a]\nengin = 'scripted'")
    monkeypatch.setattr(sys, "argv", ["bicameral", "check", "-c", str(path)])
    with pytest.raises(SystemExit):
        cli.main()
    said = " ".join((shown := capsys.readouterr()).out.split() + shown.err.split())
    assert "[models.a]" in said
    assert "engine" in said


def test_chat_keeps_the_history_and_survives_errors(bicameral):
    lines = "hello\n/mind big\nagain\n/mind nobody\n/mind dead\nhm\n/new\n"
    code, out, err = bicameral("chat", "--explain", stdin=lines)
    assert code == 0
    assert out.count("it is 42") == 2
    assert "there is no model 'nobody'" in err
    assert "dead: fails" in err


def test_pull_lists_the_catalogue(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("BICAMERAL_CACHE", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["bicameral", "pull"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "smollm2-135m" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["bicameral", "pull", "smolm2-135m"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "did you mean 'smollm2-135m'" in " ".join(capsys.readouterr().err.split())


def test_ctrl_c_in_a_chat_stops_the_answer_every_time(config_file):
    """On a real terminal: two stopped answers, then the chat still answers."""
    path = config_file(CONFIG)
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "bicameral", "chat", "--config", str(path), "-m", "slow"]
    chat = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, start_new_session=True
    )
    os.close(follower)
    seen = ""

    def until(text):
        nonlocal seen
        while text not in seen:
            seen += os.read(leader, 4096).decode(errors="replace")
        seen = seen.partition(text)[2]

    try:
        for _ in range(2):
            until("slow> ")
            os.write(leader, b"go\n")
            until("two")
            chat.send_signal(signal.SIGINT)
            until("stopped")
        until("slow> ")
        os.write(leader, b"/mind big\n")
        until("big> ")
        os.write(leader, b"go\n")
        until("it is 42")
        until("big> ")
        os.write(leader, b"\x04")
        assert chat.wait(timeout=30) == 0
    finally:
        chat.kill()
        chat.wait()
        os.close(leader)
