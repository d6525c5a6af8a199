"""`bicameral bakeoff` as its user types it, over scripted members and a server of our own."""

from __future__ import annotations

import json
import sys

import pytest
import typer

from bicameral.chips.bakeoff import decode, parse
from bicameral.chips.summary import cells, remarks
from bicameral.chips_cli import plot
from bicameral.chips_cli.bakeoff import bakeoff
from bicameral.chips_cli.contest import contest
from bicameral.chips_cli.machine import Energy
from bicameral.errors import ChipError, ConfigError, RequestError
from tests.chips.bakeoffs import baked as made
from tests.chips.bakeoffs import load_rows
from tests.chips.test_bakeoff import MLPERF
from tests.upstream import HANG, Reply, Upstream, chat, error

HEAD = """
name = "small"
repeats = 3
[load]
rates = [200]
count = 6
warmup = 1
deadline = 5
"""
FAST = """
[[contestants]]
name = "fast"
[contestants.member]
engine = "scripted"
reply = "Paris"
watts = 10
"""
SLOW = """
[[contestants]]
name = "slow"
chip = "a slow chip"
[contestants.member]
engine = "scripted"
reply = "London"
delay = 0.02
"""
FAILS = """
[[contestants]]
name = "fails"
[contestants.member]
engine = "scripted"
fail = "overloaded"
"""
REMOTE = """
[[contestants]]
name = "other"
{more}
[contestants.member]
engine = "openai"
url = "{url}"
model = "asked-for"
breaker_failures = 1000
retries = 0
"""
TASKS = """
[tasks]
file = "{path}"
count = 4
"""


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs `bicameral bakeoff WORDS…`; gives stdout and stderr, errors fly."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(bakeoff)

    def typed(*words):
        monkeypatch.setattr(sys, "argv", ["bakeoff", *map(str, words)])
        app(standalone_mode=False)
        shown = capsys.readouterr()
        return shown.out, shown.err

    return typed


@pytest.fixture
def workload(tmp_path):
    """Writes a workload, with tasks that all ask for Paris."""

    def write(*parts, asked=True):
        tasks = tmp_path / "tasks.jsonl"
        rows = (
            {"id": str(n), "question": f"Capital of France? ({n})", "answers": ["Paris"]}
            for n in range(12)
        )
        tasks.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        told = TASKS.format(path=tasks) if asked else ""
        path = tmp_path / "workload.toml"
        path.write_text(HEAD + told + "".join(parts), encoding="utf-8")
        return path

    return write


def test_who_is_fast_and_right_wins(run, workload, tmp_path):
    out, err = run(workload(FAST, SLOW), "--out", tmp_path / "out")
    assert "fast is better than every other" in out or "slow loses on quality" in out
    assert "slow loses on quality" in out
    assert "*measured*" in out
    assert "repeat 3 of 3" in err
    baked = decode((tmp_path / "out" / "bakeoff.json").read_bytes(), "x")
    assert len(baked.rows) == 2 * 3 * (6 + 4)
    assert (tmp_path / "out" / "report.md").read_text(encoding="utf-8") in out
    assert (tmp_path / "out" / "bakeoff.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("rates", ["rates = [200]", "rates = [200, 300]"])
def test_everyone_takes_turns_there_and_back(run, workload, tmp_path, rates):
    path = workload(FAST, SLOW)
    path.write_text(path.read_text("utf-8").replace("rates = [200]", rates), encoding="utf-8")
    run(path, "--out", tmp_path)
    baked = decode((tmp_path / "bakeoff.json").read_bytes(), "x")
    for rate in (*baked.workload.load.rates, None):
        first = [block.contestant for block in baked.blocks if block.rate == rate][::2]
        assert first in (["fast", "slow", "fast"], ["slow", "fast", "slow"])


def test_no_text_is_written(run, workload, tmp_path):
    run(workload(FAST), "--out", tmp_path, "--repeat", "1")
    written = (tmp_path / "bakeoff.json").read_text(encoding="utf-8")
    rows = json.loads(written)["rows"]
    assert len(rows) == 10
    assert all("Paris" not in json.dumps(row) for row in rows)
    assert "France" not in json.dumps(rows)


def test_a_result_can_be_shown_and_run_again(run, workload, tmp_path):
    first, _ = run(workload(FAST, asked=False), "--out", tmp_path)
    again, err = run(tmp_path / "bakeoff.json", "--show")
    assert again == first
    assert "repeat" not in err
    _, err = run(tmp_path / "bakeoff.json", "--repeat", "1")
    assert "repeat 1 of 1" in err


def test_two_results_are_compared(run, workload, tmp_path):
    run(workload(FAST, asked=False), "--out", tmp_path / "a")
    slow = FAST.replace("watts = 10", "delay = 0.05")
    run(workload(slow, asked=False), "--out", tmp_path / "b")
    out, _ = run("--compare", tmp_path / "a" / "bakeoff.json", tmp_path / "b" / "bakeoff.json")
    assert "NOT the same member: fast" in out
    assert "| A is better |" in out
    with pytest.raises(RequestError, match="two files"):
        run("--compare", tmp_path / "a" / "bakeoff.json")


def test_declared_watts_are_called_declared(run, workload):
    out, _ = run(workload(FAST, asked=False), "--repeat", "1")
    assert "declared watts, not read" in out


def test_who_fails_every_warm_up_is_left_out(run, workload):
    out, _ = run(workload(FAST, FAILS, asked=False), "--repeat", "1")
    assert "fails is left out: it cannot be asked" in out
    with pytest.raises(ChipError, match="no contestant can be measured"):
        run(workload(FAILS))


def test_an_unreachable_url_is_left_out(run, workload):
    there = """
[[contestants]]
name = "nowhere"
[contestants.member]
engine = "openai"
url = "http://127.0.0.1:9/v1"
model = "m"
retries = 0
"""
    out, _ = run(workload(FAST, there, asked=False), "--repeat", "1")
    assert "nowhere is left out" in out


def test_a_wrong_member_is_refused_before_anything_runs(run, workload):
    wrong = FAST.replace("watts", "wats")
    with pytest.raises(ConfigError, match="did you mean 'watts'"):
        run(workload(SLOW, wrong))


def test_a_file_that_is_not_there(run, tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        run(tmp_path / "none.toml")


def test_without_matplotlib_the_rest_works(run, workload, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    _, err = run(workload(FAST, asked=False), "--repeat", "1", "--out", tmp_path)
    assert "no picture" in err
    assert "bicameral[learn]" in err
    assert (tmp_path / "bakeoff.json").is_file()


async def test_another_model_than_asked_for_is_left_out():
    head = HEAD.replace("repeats = 3", "repeats = 1") + "[tasks]\ncount = 1\n" + FAST
    async with Upstream() as server:
        baked = await contest(parse(head + REMOTE.format(url=server.url, more=""), "w"), "w")
        other = next(each for each in baked.found if each.name == "other")
        assert "asked for asked-for and served" in other.left_out
        assert {cell.contestant for cell in cells(baked)} == {"fast"}
        anyway = REMOTE.format(url=server.url, more="any_model = true")
        baked = await contest(parse(head + anyway, "w"), "w")
        assert {cell.contestant for cell in cells(baked)} == {"fast", "other"}


@pytest.mark.parametrize(
    ("then", "kind"), [(error(429), "Overloaded"), (Reply(steps=(HANG,)), "Timeout")]
)
async def test_a_failure_is_counted_and_is_not_fast(then, kind):
    """Well while it is tried out, ill ever after: each request has failed, none has a latency."""
    async with Upstream() as server:
        server.script(chat("Hello"), then)
        member = REMOTE.format(url=server.url, more="any_model = true")
        head = HEAD.replace("deadline = 5", "deadline = 0.1\ngive_up = 0.3")
        head = head.replace("warmup = 1", "warmup = 0").replace("repeats = 3", "repeats = 1")
        baked = await contest(parse(head + "[tasks]\ncount = 1\n" + FAST + member, "w"), "w")
    other = next(cell for cell in cells(baked) if cell.contestant == "other")
    assert (other.failed, other.p50.value, other.good.value) == (6, None, 0)
    assert any(f"other: 7 failed with {kind}" in remark for remark in remarks(baked))


async def test_a_block_that_cannot_be_opened_has_failed_all_of_it():
    async with Upstream() as server:
        server.script(chat("Hello"), error(429))
        member = REMOTE.format(url=server.url, more="any_model = true")
        head = HEAD.replace("repeats = 3", "repeats = 1")  # and its warm-up fails
        baked = await contest(parse(head + "[tasks]\ncount = 1\n" + FAST + member, "w"), "w")
    rows = [row for row in baked.rows if row.contestant == "other"]
    assert [row.error for row in rows] == ["Overloaded"] * 7
    assert any("broken off" in remark for remark in remarks(baked))


def test_energy_is_read_where_there_are_counters(tmp_path):
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "energy_uj").write_text("1000000", encoding="ascii")
    (zone / "max_energy_range_uj").write_text("5000000", encoding="ascii")
    energy = Energy(tmp_path)
    (zone / "energy_uj").write_text("3500000", encoding="ascii")
    assert energy.joules() == 2.5
    (zone / "energy_uj").write_text("500000", encoding="ascii")  # the counter has turned over
    assert energy.joules() == 4.5
    assert Energy(tmp_path / "none").joules() is None


def test_the_picture_leaves_out_what_failed(tmp_path):
    one = made(load_rows("up", 1.0) + load_rows("down", None), ["up", "down"])
    plot.draw(one, tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 10_000


SHAPE = {
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}


def test_published_and_modelled_stand_apart_from_what_was_measured(run, workload, tmp_path):
    (tmp_path / "big.json").write_text(json.dumps(SHAPE), encoding="utf-8")
    (tmp_path / "mlperf_v5.1_llm.csv").write_text(MLPERF, encoding="utf-8")
    beside = f"""
[published]
models = ["llama"]
[[modelled]]
chip = "h100-sxm"
config = "{tmp_path}/big.json"
[[modelled]]
chip = "h1000"
config = "{tmp_path}/big.json"
"""
    path = workload(beside, FAST, asked=False)
    out, _ = run(path, "--repeat", "1", "--published", tmp_path)
    measured, rest = out.split("| *published*, not by us |")
    published, modelled = rest.split("| *modelled*, nobody measured it |")
    assert "| fast |" in measured
    assert "Chip X" not in measured
    assert "100 tokens/s" in published
    assert "fast" not in published
    assert "| h100-sxm | big | bf16, 1 chips, 1 at once | 0." in modelled
    assert "no forecast: no chip 'h1000'" in modelled


def test_no_published_results_is_said(run, workload, monkeypatch):
    monkeypatch.delenv("BICAMERAL_DATA", raising=False)
    path = workload('[published]\nmodels = ["llama"]\n', FAST, asked=False)
    out, _ = run(path, "--repeat", "1")
    assert "No published results: " in out
