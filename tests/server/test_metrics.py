"""What is counted of every call, as Prometheus reads it."""

from __future__ import annotations

import re
from contextlib import aclosing

import pytest

from bicameral.brain import Brain
from bicameral.config import parse
from bicameral.errors import BicameralError
from bicameral.server.call_metrics import BUCKETS, SECONDS, TOKENS
from bicameral.server.metrics import Metrics
from bicameral.types import Request
from bicameral.usage import Call, Usage

LINE = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)(?:\{((?:[a-z_]+="(?:[^"\\]|\\.)*",?)+)\})? (\S+)')
GEN_AI = 'gen_ai_operation_name="chat",gen_ai_provider_name="bicameral",gen_ai_request_model="a"'


def scraped(*calls, **options):
    """By series, what a scrape reads; each is there once."""
    metrics = Metrics()
    for call in calls:
        metrics.called(call)
    return read(metrics.text(0, 0, **options))


def read(text):
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name, labels, value = LINE.fullmatch(line).groups()
        series = f"{name}{{{labels}}}" if labels else name
        assert series not in found
        found[series] = value
    return found


def call(model="a", prompt=100, completion=7, **fields):
    fields = {"cost": 5, "seconds": 0.3} | fields
    return Call(
        model=model, usage=Usage(prompt_tokens=prompt, completion_tokens=completion), **fields
    )


def test_calls_are_counted_by_how_they_ended():
    found = scraped(call(), call(), call(ended="failed"), call("b", ended="abandoned"))
    assert found['bicameral_calls_total{model="a",ended="finished"}'] == "2"
    assert found['bicameral_calls_total{model="a",ended="failed"}'] == "1"
    assert found['bicameral_calls_total{model="b",ended="abandoned"}'] == "1"


def test_cost_is_exact_where_a_float_is_not():
    big = 9_007_199_254_740_993  # 2**53 + 1
    found = scraped(call(cost=big), call(cost=1, ended="failed"))
    assert found['bicameral_cost_dollars_total{model="a"}'] == "9007199.254740994"


def test_what_is_unknown_is_counted_as_that():
    found = scraped(call(cost=None, completion=None), call(mismatch=True))
    assert found['bicameral_unpriced_calls_total{model="a"}'] == "1"
    assert found['bicameral_unmetered_calls_total{model="a"}'] == "1"
    assert found['bicameral_mismatches_total{model="a"}'] == "1"
    assert found['bicameral_cost_dollars_total{model="a"}'] == "0.000000005"
    labels = f'{GEN_AI},gen_ai_token_type="output"'
    assert found[f"gen_ai_client_token_usage_count{{{labels}}}"] == "1"


def test_tokens_are_counted_by_kind_and_estimates_apart():
    usage = Usage(prompt_tokens=9, completion_tokens=8, cached_tokens=7, reasoning_tokens=6)
    guess = Usage(prompt_tokens=5, completion_tokens=4)
    found = scraped(Call(model="a", usage=usage), Call(model="a", estimate=guess, cost=3))
    kinds = {
        kind: found[f'bicameral_call_tokens_total{{model="a",kind="{kind}"}}']
        for kind in ("prompt", "completion", "cached", "reasoning", "estimated_prompt")
    }
    assert list(kinds.values()) == ["9", "8", "7", "6", "5"]
    assert found['bicameral_estimated_cost_dollars_total{model="a"}'] == "0.000000003"


@pytest.mark.parametrize("seconds", [0.0, 0.005, 0.01, 0.3, 0.32, 1.0, 1.1, 81.92, 119.0, 1000.0])
def test_both_histograms_have_each_call_in_the_right_bucket(seconds):
    found = scraped(call(seconds=seconds))
    for bounds, name, labels in (
        (BUCKETS, "bicameral_call_seconds", 'model="a",ended="finished"'),
        (SECONDS, "gen_ai_client_operation_duration_seconds", GEN_AI),
    ):
        for bound in bounds:
            series = f'{name}_bucket{{{labels},le="{bound}"}}'
            assert found[series] == str(int(seconds <= bound))
        assert found[f'{name}_bucket{{{labels},le="+Inf"}}'] == "1"
        assert found[f"{name}_sum{{{labels}}}"] == f"{seconds:.6f}"


def test_the_boundaries_are_those_that_opentelemetry_advises():
    assert SECONDS[:3] == (0.01, 0.02, 0.04)
    assert SECONDS[-1] == 81.92
    assert (TOKENS[0], TOKENS[-1], len(TOKENS)) == (1, 67_108_864, 14)


def test_tokens_have_a_histogram_for_each_direction():
    found = scraped(call(prompt=4), call(prompt=5, ended="failed"))
    labels = f'{GEN_AI},gen_ai_token_type="input"'
    name = "gen_ai_client_token_usage"
    assert found[f'{name}_bucket{{{labels},le="4"}}'] == "1"
    assert found[f'{name}_bucket{{{labels},le="16"}}'] == "2"
    assert found[f"{name}_sum{{{labels}}}"] == "9"


@pytest.mark.parametrize(
    ("ledger", "up", "waiting"), [(None, None, None), ((True, 0), "1", "0"), ((False, 7), "0", "7")]
)
def test_the_ledger_is_up_or_down_or_not_there(ledger, up, waiting):
    found = scraped(ledger=ledger)
    assert found.get("bicameral_ledger_up") == up
    assert found.get("bicameral_ledger_waiting") == waiting


CONFIG = """
[journal]
enabled = false
[models.good]
engine = "scripted"
reply = "a b c"
price_input = "1"
price_output = "2"
[models.dead]
engine = "scripted"
fail = "timeout"
"""


async def test_a_brain_tells_of_every_call():
    metrics = Metrics()
    async with Brain.open(parse(CONFIG, "here"), note=metrics.called) as brain:
        await brain.ask("hello you", mind="good")
        with pytest.raises(BicameralError):
            await brain.ask("hello you", mind="dead")
        async with aclosing(brain.run(Request.ask("hello you"), "good")) as events:
            await anext(events)
        found = read(metrics.text(0, 0, models=brain.models))
    assert found['bicameral_calls_total{model="good",ended="finished"}'] == "1"
    assert found['bicameral_calls_total{model="good",ended="abandoned"}'] == "1"
    assert found['bicameral_calls_total{model="dead",ended="failed"}'] == "1"
    assert found['bicameral_call_tokens_total{model="good",kind="completion"}'] == "3"
    assert any('gen_ai_provider_name="scripted"' in series for series in found)
    assert not any("hello" in series for series in found)
