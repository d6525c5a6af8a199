"""Workloads, results and verdicts of bake-offs: who wins, who loses, and when nobody can tell."""

from __future__ import annotations

import math

import pytest
from msgspec.structs import replace

from bicameral.chips.bakeoff import Contestant, Prompt, Tasks, decode, encode, parse
from bicameral.chips.published import claims, folder, matching
from bicameral.chips.resample import holm, matched, percentile, plans, share, sign_test
from bicameral.chips.summary import cells, qualities, remarks
from bicameral.chips.tasks import Task, prompts, tasks, text
from bicameral.chips.verdict import losses, told, verdicts
from bicameral.errors import ConfigError
from tests.chips.bakeoffs import baked, load_rows, task_rows

WORKLOAD = """
name = "small"
[load]
rates = [0.5, 2]
deadline = 5
[[contestants]]
name = "a"
[contestants.member]
engine = "scripted"
"""


# --- the file ----------------------------------------------------------------------------------


def test_a_workload_is_read_with_its_defaults():
    read = parse(WORKLOAD, "w.toml")
    assert read.load.rates == (0.5, 2.0)
    assert read.repeats == 3
    assert read.contestants[0].settings == "default"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("rates = [0.5, 2]", "rates = []", "load.rates: is empty"),
        ("rates = [0.5, 2]", "rates = [0]", "> 0.0"),
        ("rates = [0.5, 2]", "rates = [2, 2]", "'2' twice"),
        ("rates = [0.5, 2]", "rates = [inf]", "finite"),
        ("deadline = 5", "deadline = 0", "> 0.0"),
        ("deadline = 5", "deadline = 500", "give_up"),
        ("deadline = 5", "deadlin = 5", "deadlin"),
        ('name = "small"', 'nam = "small"', "did you mean 'name'"),
        ('name = "a"', 'name = "a"\nsettings = "best"', "best"),
    ],
)
def test_a_wrong_workload_is_refused(old, new, says):
    with pytest.raises(ConfigError, match=r"w\.toml") as refused:
        parse(WORKLOAD.replace(old, new), "w.toml")
    assert says in str(refused.value)


def test_no_contestant_is_refused():
    with pytest.raises(ConfigError, match="contestants"):
        parse(WORKLOAD.partition("[[contestants]]")[0] + "", "w.toml")


def test_a_result_is_read_back_as_it_was():
    one = baked(load_rows("a", 1.0) + task_rows("a", 3, 5), ["a"])
    assert decode(encode(one), "a.json") == one


def test_no_secret_of_a_member_is_written():
    one = baked(load_rows("a", 1.0), ["a"])
    member = {"url": "https://me:hidden@host:1/v1?key=hidden", "headers": {"x": "hidden"}}
    workload = replace(one.workload, contestants=(Contestant(name="a", member=member),))
    written = encode(replace(one, workload=workload))
    assert b"hidden" not in written
    assert b"https://host:1/v1" in written


@pytest.mark.parametrize("data", [b"{}", b"[1]", b"nonsense", b'{"schema": 99}', b'{"schema": 1}'])
def test_what_is_no_result_is_refused(data):
    with pytest.raises(ConfigError, match=r"x\.json"):
        decode(data, "x.json")


# --- prompts and tasks -------------------------------------------------------------------------


def test_no_two_prompts_begin_alike():
    openings = {text(Prompt(name="p", tokens=64), f"seed {n}")[:14] for n in range(200)}
    assert len(openings) == 200


def test_a_longer_prompt_is_longer():
    short, long = (text(Prompt(name="p", tokens=n), "s") for n in (32, 512))
    assert 10 < len(long.split()) / len(short.split()) < 25


def test_the_shares_of_prompts_are_kept():
    kinds = (Prompt(name="short", share=3), Prompt(name="long", share=1))
    drawn = [kind.name for kind in prompts(kinds, 10, "s")]
    assert sorted(drawn.count(name) for name in ("short", "long")) in ([2, 8], [3, 7])
    assert len(drawn) == 10


def test_tasks_are_the_same_everywhere_and_new_in_each_repeat():
    made = tasks(Tasks(count=12), 3, seed=1)
    assert made == tasks(Tasks(count=12), 3, seed=1)
    questions = [task.question for part in made for task in part]
    assert len(questions) == 36
    assert len(set(questions)) >= 35


@pytest.mark.parametrize(
    ("said", "right"),
    [("Paris.", True), ("It is paris", True), ("Parisian", False), ("Lyon", False), ("", False)],
)
def test_an_answer_must_hold_the_words(said, right):
    assert Task(id="1", kind="facts", question="?", answers=("Paris",)).right(said) is right


@pytest.mark.parametrize(
    ("said", "right"),
    [("12 + 30 = 42", True), ("42", True), ("42 - 12 = 30", False), ("1,042", False), ("", False)],
)
def test_a_calculation_is_right_by_its_last_number(said, right):
    task = Task(id="1", kind="arithmetic", question="?", answers=("42",), last=True)
    assert task.right(said) is right


def test_tasks_of_a_file(tmp_path):
    path = tmp_path / "tasks.jsonl"
    path.write_text('{"id": "q", "question": "Sky?", "answers": ["blue"]}\n', encoding="utf-8")
    ((task,),) = tasks(Tasks(file=str(path)), 1, seed=0)
    assert task.right("it is blue")
    path.write_text('{"question": "Sky?"}\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="line 1"):
        tasks(Tasks(file=str(path)), 1, seed=0)


# --- statistics --------------------------------------------------------------------------------


def test_holm_is_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))


def test_the_sign_test_is_exact():
    assert sign_test(0, 5) == pytest.approx(2 / 32)
    assert sign_test(3, 3) == 1.0
    assert sign_test(0, 0) == 1.0


def test_an_interval_of_a_share_never_leaves_0_to_1():
    assert share(0, 5).low == 0
    assert share(5, 5).high == 1
    assert share(5, 5).low == pytest.approx(0.566, abs=0.001)  # Wilson's own formula


def test_more_comparisons_widen_an_interval():
    one, many = matched(2, 10, 40), matched(2, 10, 40, among=20)
    assert many.low < one.low < one.value < one.high < many.high


def test_a_percentile_is_one_of_the_values():
    assert percentile([1, 2, 3, 4], 0.5) == 2
    assert percentile([1, 2, 3, math.inf], 0.95) == math.inf


def test_a_plan_draws_one_repeat_fewer_and_every_rate_of_it():
    counts = {(repeat, rate): 9 for repeat in range(3) for rate in (1.0, 2.0)}
    for plan in plans(counts, 20, "s"):
        assert len(plan) == 4
        assert all(len(which) == 9 and set(which) <= set(range(9)) for _, which in plan)
        assert plan[0][0][0] == plan[1][0][0]


# --- verdicts ----------------------------------------------------------------------------------


def test_a_clear_difference_is_found():
    one = baked(load_rows("fast", 0.5) + load_rows("slow", 1.0), ["slow", "fast"])
    (verdict,) = verdicts(one)
    assert verdict.ranks == (("fast",), ("slow",))
    assert verdict.winner == "fast"
    assert "fast is better than every other" in " ".join(told(one))


def test_equals_are_not_told_apart():
    """Twelve contests of two that are alike: one wrong claim may happen."""
    wrong = 0
    for seed in range(12):
        rows = load_rows("a", 1.0, seed=seed) + load_rows("b", 1.0, seed=seed)
        (verdict,) = verdicts(baked(rows, ["a", "b"]))
        wrong += bool(verdict.winner)
    assert wrong <= 1


def test_a_difference_in_one_repeat_only_is_none():
    """One repeat in which something else ran must not make a winner."""
    rows = [*load_rows("a", 1.0, noise=0.01), *load_rows("b", 1.0, noise=0.01)]
    rows = [row if row.contestant == "a" or row.repeat != 2 else _slower(row, 20.0) for row in rows]
    one = baked(rows, ["a", "b"], deadline=60.0)
    (verdict,) = verdicts(one)
    assert not verdict.winner
    assert "no significant difference" in " ".join(told(one))


def _slower(row, seconds):
    return replace(row, ended=row.ended + seconds)


def test_fast_but_wrong_loses():
    rows = [
        *load_rows("wrong", 0.1),
        *load_rows("right", 1.0),
        *task_rows("wrong", 2, 10),
        *task_rows("right", 9, 10),
    ]
    one = baked(rows, ["wrong", "right"])
    assert [loss.name for loss in losses(one)] == ["wrong"]
    assert all("wrong" not in rank for verdict in verdicts(one) for rank in verdict.ranks)
    assert "wrong loses on quality" in " ".join(told(one))


def test_a_little_worse_is_no_loss():
    """Significant, but within the margin."""
    rows = [
        *load_rows("a", 1.0),
        *load_rows("b", 1.0),
        *task_rows("a", 96, 100),
        *task_rows("b", 100, 100),
    ]
    assert [loss.name for loss in losses(baked(rows, ["a", "b"], margin=0.1))] == []
    assert [loss.name for loss in losses(baked(rows, ["a", "b"], margin=0.0))] == ["a"]


def test_few_tasks_cannot_condemn():
    """All five wrong, all five right: with two to compare that may still be chance."""
    answers = [*task_rows("a", 0, 5, repeats=1), *task_rows("b", 5, 5, repeats=1)]
    rows = [*load_rows("a", 1.0), *load_rows("b", 1.0)]
    assert not losses(baked(rows + answers, ["a", "b"]))


def test_a_failed_request_is_not_a_fast_one():
    one = baked(load_rows("down", None) + load_rows("up", 1.0), ["down", "up"])
    (verdict,) = verdicts(one)
    assert verdict.winner == "up"
    down = next(cell for cell in cells(one) if cell.contestant == "down")
    assert down.failed == 60
    assert down.p50.value is None
    assert down.good.value == 0
    assert any("Overloaded" in remark for remark in remarks(one))
    assert verdict.pairs[1].value.value is None  # infinitely slower, and JSON has no infinity


def test_fewer_than_three_repeats_give_no_verdict():
    rows = load_rows("a", 0.1, repeats=2) + load_rows("b", 1.0, repeats=2)
    (verdict,) = verdicts(baked(rows, ["a", "b"]))
    assert not verdict.judged
    assert not verdict.winner


def test_default_and_tuned_are_judged_apart():
    rows = load_rows("a", 0.5) + load_rows("b", 1.0) + load_rows("c", 0.2)
    found = {v.settings: v for v in verdicts(baked(rows, ["a", "b", "c"], tuned=["c"]))}
    assert found["default"].winner == "a"
    assert not found["tuned"].judged


def test_who_is_left_out_is_not_judged():
    one = baked(load_rows("a", 1.0), ["a", "b"], left_out=["b"])
    assert {cell.contestant for cell in cells(one)} == {"a"}
    assert any(remark.startswith("b is left out") for remark in remarks(one))


def test_a_deadline_that_nobody_meets_is_said():
    one = baked(load_rows("a", 3.0) + load_rows("b", 4.0), ["a", "b"], deadline=0.5)
    assert any("nobody met the deadline" in remark for remark in remarks(one))
    (verdict,) = verdicts(one)
    assert verdict.winner == "a"  # by latency


@pytest.mark.parametrize(("count", "says"), [(4, "p95 and p99 are"), (20, "p99 is"), (40, None)])
def test_a_percentile_of_few_is_called_that(count, says):
    said = [r for r in remarks(baked(load_rows("a", 1.0, count=count), ["a"])) if "slowest" in r]
    assert [says in remark for remark in said] == ([True] if says else [])


def test_energy_is_the_sum_of_blocks_or_unknown():
    (cell,) = cells(baked(load_rows("a", 1.0), ["a"], watts=5.0))
    assert cell.joules == 15.0
    (cell,) = cells(baked(load_rows("a", 1.0), ["a"]))
    assert cell.joules is None


def test_latency_counts_from_the_plan():
    rows = [replace(row, sent=row.planned + 0.9) for row in load_rows("a", 1.0, noise=0.0)]
    one = baked(rows, ["a"])
    (cell,) = cells(one)
    assert cell.p50.value == pytest.approx(1.0)
    assert any("sent 0.900 s late" in remark for remark in remarks(one))


def test_quality_is_told_by_kind():
    (quality,) = qualities(baked(task_rows("a", 3, 10), ["a"]))
    assert quality.right.value == pytest.approx(0.3)
    assert quality.kinds == {"copy": pytest.approx(0.3)}


# --- published ---------------------------------------------------------------------------------

MLPERF = (
    "model,scenario,accel,n_accel,nodes,result,units,dtype,submitter,system,id,category,"
    "has_power,power,software\n"
    "whisper,Offline,Chip X,8,2,1600,Samples/s,fp8,Me,S,1-1,closed,False,,e\n"
    "llama-99,Offline,Chip X,8,1,800,Tokens/s,fp8,Me,S,1-2,closed,False,,e\n"
    "llama-99.9,Offline,Chip X,8,1,800,Tokens/s,fp8,Me,S,1-2,closed,False,,e\n"
    'llama-99,Offline,"X (1), Y (2)",8,1,800,Tokens/s,fp8,Me,S,1-3,closed,False,,e\n'
    "llama-99,Interactive,Chip X,8,1,80,Queries/s,fp8,Me,S,1-4,closed,False,,e\n"
    "llama-99,Offline,,,1,80,Tokens/s,INT8,Me,Two CPUs,1-5,closed,False,,e\n"
)


def test_published_results_are_per_accelerator_and_their_defects_left_out(tmp_path):
    (tmp_path / "mlperf_v5.1_llm.csv").write_text(MLPERF, encoding="utf-8")
    found, left = claims(folder(tmp_path))
    assert [(c.model, c.value, c.unit, c.per) for c in found] == [
        ("whisper", 100.0, "tokens/s", "accelerator"),
        ("llama-99", 100.0, "tokens/s", "accelerator"),
        ("llama-99", 80.0, "tokens/s", "node"),
    ]
    assert sum(left.values()) == 3
    assert all(claim.kind == "published" for claim in found)
    assert [c.chip for c in matching(found, models=["LLAMA"], chips=["cpus"])] == ["Two CPUs"]


def test_no_published_results_is_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("BICAMERAL_DATA", raising=False)
    with pytest.raises(ConfigError, match="BICAMERAL_DATA"):
        folder()
    with pytest.raises(ConfigError, match="holds none"):
        folder(tmp_path)
