"""`bicameral explain` and `feedback`: what a person sees of a decision, and taking it again."""

from __future__ import annotations

import io
import json
import sys

import pytest
from msgspec.structs import replace
from rich.console import Console

from bicameral import account, cli
from bicameral.decision import Asked, Considered, Decision, Turn
from bicameral.journal.store import Entry, Store

CONFIG = """
[models.small]
engine = "scripted"
reply = "maybe"
confidence = 0.2
[models.big]
engine = "scripted"
reply = "it is 42"
price_input = "1"
price_output = "2"
[models.blind]
engine = "scripted"
features = []
[minds.default]
policy = "cascade"
members = ["small", "blind", "big"]
threshold = 0.5
[minds.fuse]
policy = "fuse"
members = ["small", "big"]
judge = "big"
[journal]
path = "{path}"
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite3"


@pytest.fixture
def bicameral(config_file, path, monkeypatch, capsys):
    """Runs `bicameral WORDS… --config FILE`; gives (exit code, stdout, stderr)."""

    def run(*words, more="", without=""):
        config = config_file(CONFIG.format(path=path).replace(without, "") + more)
        monkeypatch.setattr(sys, "argv", ["bicameral", *words, "--config", str(config)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return ended.value.code, shown.out, shown.err

    return run


def asked(bicameral, *words) -> str:
    """The id of an answer."""
    code, out, _ = bicameral("ask", "what?", "--json", "--seed", "1", *words)
    assert code == 0
    return json.loads(out)["decisions"][0]["id"]


def test_an_answer_is_explained(bicameral):
    name = asked(bicameral)
    code, out, _ = bicameral("explain", name)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith(name)
    assert "cascade of default" in lines
    (small,) = (line.split() for line in lines if line.startswith("  small"))
    assert small == ["small", "0.50", "?", "?", "?", "0.00", "0.20", "A"]
    (big,) = (line for line in lines if line.startswith("✓ big"))
    assert "$0.000" in big
    assert big.split()[-2:] == ["streamed", "100%"]
    assert "  blind left out: blind does not support 'seed'" in lines
    assert "  2. asked big, the answer itself: small was 0.20 sure, below 0.5" in lines
    assert "question" not in out


def test_without_an_id_the_last_is_explained_by_its_answers_id_too(bicameral):
    asked(bicameral)
    last = asked(bicameral, "--mind", "fuse")
    assert bicameral("explain")[1] == bicameral("explain", f"chatcmpl-{last}")[1]
    assert "fuse of fuse" in bicameral("explain")[1]


def test_as_json_it_is_the_whole_record(bicameral):
    name = asked(bicameral)
    entry = json.loads(bicameral("explain", name, "--json")[1])
    assert entry["id"] == name
    assert entry["decisions"][0]["considered"][0] == {
        "model": "small", "quality": 0.5, "known": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("mind", ["default", "fuse"])
def test_a_decision_is_taken_again(bicameral, mind):
    name = asked(bicameral, "--mind", mind)
    code, _, err = bicameral("explain", name, "--replay")
    assert (code, err) == (0, f"{mind}: decided again: the same\n")


@pytest.mark.parametrize(
    ("without", "more", "said"),
    [
        ("threshold = 0.5", "", ['"threshold":0.5', '"threshold":0.8', "because"]),
        (CONFIG[CONFIG.index("[minds.default]") : CONFIG.index("[minds.fuse]")], "", ["no mind"]),
    ],
)
def test_a_config_that_changed_is_noticed(bicameral, without, more, said):
    name = asked(bicameral)
    code, _, err = bicameral("explain", name, "--replay", without=without, more=more)
    assert code == 1
    assert "default: decided again, it is different" in err
    assert all(words in err for words in said)


def test_an_answer_is_rated(bicameral, path):
    name = asked(bicameral)
    assert bicameral("feedback", name, "0.25") == (0, "", "")
    assert bicameral("feedback", f"chatcmpl-{name}", "0.75") == (0, "", "")
    assert "rated 0.75" in bicameral("explain", name)[1].splitlines()[0]
    store = Store(path)
    assert [entry.score for entry in store.rated()] == [0.75]
    store.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["explain", "nobody\x1b[31m"], "is known by the id 'nobody\N{REPLACEMENT CHARACTER}[31m'"),
        (["explain", "\udcff"], "is known by the id '\N{REPLACEMENT CHARACTER}'"),
        (["feedback", "nobody", "1"], "is known by the id 'nobody'"),
        (["feedback", "x", "1.5"], "1.5 is no score"),
        (["feedback", "x", "nan"], "nan is no score"),
    ],
)
def test_errors_are_one_clear_line(bicameral, words, said):
    asked(bicameral)
    code, out, err = bicameral(*words)
    assert (code, out) == (2, "")
    assert said in " ".join(err.split())


def test_a_journal_that_is_not_there_or_broken_says_so(bicameral, path):
    code, _, err = bicameral("explain")
    assert code == 2
    assert "no mind has answered yet" in " ".join(err.split())
    path.write_bytes(b"no database at all" * 100)
    code, _, err = bicameral("explain")
    assert code == 2
    assert "cannot be used: file is not a database" in " ".join(err.split())


def test_no_config_is_needed_to_explain(bicameral, path, monkeypatch, tmp_path, capsys):
    """Nor any model: the journal lies where it lies."""
    asked(bicameral)
    state = tmp_path / "state" / "bicameral"
    state.mkdir(parents=True)
    path.rename(state / "journal.sqlite3")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("BICAMERAL_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path / "state")
    monkeypatch.setattr(sys, "argv", ["bicameral", "explain"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert "cascade of default" in capsys.readouterr().out


def test_ask_names_the_answer_and_what_was_expected(bicameral):
    code, out, err = bicameral("ask", "what?", "--explain")
    assert (code, out) == (0, "it is 42\n")
    assert "default, req_" in err
    assert "streamed" in err


ODD = Decision(
    id="x",
    mind="m\x1b[2J",
    policy="auto",
    considered=(
        Considered(model="a", quality=0.5, known=0.25),
        Considered(model="a+b", arm=True, quality=0.75, cost=10, seconds=1.0),
        Considered(model="c", refused="bad [red]field[/red] \x07"),
        Considered(model="idle"),
    ),
    turns=(Turn(models=("a", "a"), why="[b]?\n"),),
    asked=(
        Asked(model="a", key="1", share=1.0, cut=True, checked=True),
        Asked(model="a", key="2"),
        Asked(model="judge", error="Timeout (total)"),
        Asked(model="judge"),
    ),
    by="a",
)


def shown(entry: Entry) -> str:
    text = io.StringIO()
    account.show(Console(file=text, width=200), entry)
    return text.getvalue()


def test_nothing_in_a_record_commands_the_terminal():
    out = shown(Entry(id="x", at=0.0, decisions=(ODD,), prompt="\x1b]0;title\x07 [red]hm"))
    assert not {"\x1b", "\x07", "\r"} & set(out)
    assert "bad [red]field[/red]" in out
    assert "1. asked a + a: [b]?" in out
    assert "[red]hm" in out


def test_every_time_a_member_was_asked_is_a_row():
    rows = [line.split() for line in shown(Entry(id="x", at=0.0, decisions=(ODD,))).splitlines()]
    assert ["✓", "a", "0.50", "(25%", "known)", "?", "?", "?", "?", "?", "A", "passed", "(cut)",
            "100%"] in rows  # fmt: skip
    assert ["a", "?", "?", "?", "B"] in rows
    assert ["a+b", "(together)", "0.75", "$0.000000", "1.00"] in rows
    assert ["judge", "?", "?", "?", "Timeout", "(total)"] in rows
    assert ["judge", "?", "?", "?", "nothing"] in rows
    assert ["idle"] in rows


def test_many_answers_have_names_too():
    many = tuple(Asked(model=f"m{i}", key=str(i), share=float(not i)) for i in range(28))
    out = shown(Entry(id="x", at=0.0, decisions=(replace(ODD, considered=(), asked=many),)))
    assert " Z" in out
    assert "#28" in out
