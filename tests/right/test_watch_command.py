"""`bicameral watch` as a person or a program calls it."""

from __future__ import annotations

import json

import pytest

from bicameral.errors import RequestError
from bicameral.watching import watch
from tests.right.streams import movie, save_video

CONFIG = """
[models.eyes]
engine = "scripted"
reply = "yes, \\u001b[31ma box"
accepts = ["text", "image"]
[journal]
enabled = false
"""


@pytest.fixture
def door(tmp_path):
    return str(save_video(tmp_path / "door.avi", movie(8, [(4.0, 6.0)])))


def test_a_program_reads_lines_of_json(door, config_file, tmp_path, capsys) -> None:
    log = tmp_path / "quiet.jsonl"
    watch(door, ask="a box", json=True, log=log, config=config_file(CONFIG))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["event"] == "opened"
    stats = lines[-1]
    assert (stats["event"], stats["yes"]) == ("stats", 1)
    assert len(log.read_text().splitlines()) == sum(stats["suppressed"].values())


def test_a_person_reads_lines_a_terminal_cannot_obey(door, config_file, tmp_path, capsys) -> None:
    watch(door, ask="a box", evidence=tmp_path / "clips", config=config_file(CONFIG))
    out = capsys.readouterr().out
    assert "ALARM" in out
    assert "80 frames: 1 woke" in out
    assert "\x1b[31ma" not in out
    assert len(list((tmp_path / "clips").iterdir())) == 1


@pytest.mark.parametrize(
    ("given", "param"),
    [({"ask": " "}, "ask"), ({"gate": "laser"}, "gate"), ({"wakes": -1.0}, "wakes")],
)
def test_what_is_wrong_is_said_before_anything_is_opened(door, config_file, given, param) -> None:
    with pytest.raises(RequestError) as caught:
        watch(door, config=config_file(CONFIG), **{"ask": "a box", **given})
    assert caught.value.param == param
