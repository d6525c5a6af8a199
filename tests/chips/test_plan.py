from __future__ import annotations

from collections import Counter

import pytest
from msgspec.structs import replace

from bicameral.chips.plan import plan
from bicameral.chips.planned import Plan
from bicameral.errors import BicameralError, ChipError, ConfigError
from tests.chips.work import CPU, ENCODER, GOAL, H100, H200, LOAD, MODEL, row, work

PICTURES = f"{LOAD}\npictures = 2"


def measured(**values: object) -> str:
    given: dict[str, object] = {"input": 1024, "output": 256, "concurrency": 8}
    return row("small", "cpu", **(given | values))


def why(found: Plan, of: str) -> str:
    return "; ".join(reason.why for reason in found.reasons if reason.of == of)


def test_a_plan_takes_the_load_with_chips_that_exist() -> None:
    found = plan(work(H200, H100))
    assert found.requests.value >= 20000
    used = Counter[str]()
    for group in found.groups:
        used[group.pool] += group.chips
        assert isinstance(group.replicas, int)
        assert group.arrivals <= group.capacity.value * (1 + 1e-9)
        assert group.weights_gb
        assert group.cache_gb
        assert group.weights_gb + group.cache_gb <= (group.usable_gb or 0)
    assert all(used[pool] <= 8 for pool in used)
    assert sum(g.arrivals * g.replicas for g in found.groups) == pytest.approx(20000 / 3600)


def test_every_figure_has_a_band_and_says_how_it_is_known() -> None:
    found = plan(work(H200))
    (seen,) = found.seen
    for figure in (seen.first, seen.first_at, seen.token, seen.token_at, found.requests):
        assert figure.way == "modelled"
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low < figure.value < figure.high
    assert found.cost
    assert found.cost.low
    assert found.cost.low <= found.cost.value <= (found.cost.high or 0)
    assert found.energy
    assert (found.energy.low, found.energy.high) == (None, found.energy.value)
    assert "at most" in found.energy_trust


def test_the_goal_is_kept() -> None:
    (seen,) = plan(work(H200)).seen
    assert seen.first_at.value <= 2.0
    assert seen.token_at.value <= 0.05
    (sure,) = plan(work(H200, goal=f"{GOAL}\nsure = true")).seen
    assert sure.token_at.high is not None
    assert sure.token_at.high <= 0.05


def test_the_cheaper_chip_is_taken_and_why_is_said() -> None:
    (group,) = plan(work(H200, H100)).groups
    assert group.pool == "h100-sxm"
    (other,) = plan(work(H200, H100.replace('"2.00"', '"9.00"'))).groups
    assert other.pool == "h200-sxm"
    said = why(plan(work(H200, H100)), "small on h100-sxm")
    for part in ("next best h200-sxm", "layout: fp8 tp1", "at once:", "count:"):
        assert part in said


def test_cost_is_what_the_chips_cost() -> None:
    found = plan(work(H100))
    assert found.cost
    assert found.cost.value == found.chips * 2_000_000_000 * 1000 // 20000


def test_the_band_of_the_cost_is_that_of_the_chips_needed() -> None:
    idle = plan(work(H100, load=LOAD.replace("20000", "20"))).cost
    assert idle
    assert idle.low == idle.value == idle.high
    tight = plan(work(H100, load=LOAD.replace("20000", "200000"))).cost
    assert tight
    assert tight.low
    assert tight.low < tight.value < (tight.high or 0)


def test_the_baseline_is_always_among_the_alternatives() -> None:
    for parts in ((H200,), (H200, H100), (H200, ENCODER, row("eye", "h200-sxm", items_s=50))):
        names = [other.name for other in plan(work(*parts)).alternatives]
        assert names[0] == "replicas"


def test_a_split_of_alike_chips_gains_nothing() -> None:
    one = H200.replace("count = 8", "count = 8\nper_node = 1")
    found = plan(work(one))
    assert found.chosen == "replicas"
    assert "a split" in why(found, "plan")


def test_a_measurement_beats_every_forecast() -> None:
    rows = [
        row(
            "small", "h200-sxm", input=1024, output=256, concurrency=n, token_s=t, first_token_s=0.1
        )
        for n, t in ((1, 0.004), (64, 0.012))
    ]
    found = plan(work(H200, *rows))
    (group,) = found.groups
    assert group.token
    assert (group.token.way, group.token.low) == ("measured", None)
    assert 0.004 < group.token.value < 0.012
    assert group.places <= 64
    assert "our lab" in group.source
    assert found.requests.way == "measured"
    published = [r.replace("source", 'kind = "published"\nsource') for r in rows]
    assert plan(work(H200, *published)).groups[0].capacity.way == "published"


def test_the_newer_measurement_counts() -> None:
    old = row("small", "h200-sxm", input=1024, output=256, token_s=0.001, first_token_s=0.1)
    new = old.replace("2026-11-01", "2026-11-02").replace("0.001", "0.003")
    alone = work(H200.replace("count = 8", "count = 1"), new, old, load=LOAD.replace("20000", "20"))
    found = plan(alone).groups[0].token
    assert found
    assert found.value == pytest.approx(0.003)


def test_a_measurement_of_another_load_does_not_count() -> None:
    other = row("small", "h200-sxm", input=64, output=256, token_s=0.001, first_token_s=0.1)
    found = plan(work(H200, other))
    assert found.groups[0].capacity.way == "modelled"
    assert any("another load" in note for note in found.notes)


def test_a_cpu_is_planned_by_measurements_only() -> None:
    with pytest.raises(ChipError, match="measure"):
        plan(work(CPU))
    few = LOAD.replace("20000", "200")
    found = plan(work(CPU, measured(token_s=0.04, first_token_s=0.5, watts=100), load=few))
    (group,) = found.groups
    assert (group.pool, group.first.way) == ("cpu", "measured")
    assert found.energy
    assert found.energy.value == pytest.approx(found.chips * 100 * 3600 * 1000 / 200)
    assert found.energy.way == "measured"
    unknown = plan(work(CPU, measured(token_s=0.04, first_token_s=0.5), load=few))
    assert unknown.energy is None


def test_an_encoder_goes_where_it_costs_least() -> None:
    rates = [row("eye", "h200-sxm", items_s=15), row("eye", "cpu", items_s=15)]
    found = plan(work(H200, CPU.replace("4", "40", 1), ENCODER, *rates, load=PICTURES))
    assert found.chosen == "encoders apart"
    assert {g.pool for g in found.groups if g.does == "encode"} == {"cpu"}
    (cut,) = found.cuts
    assert cut.bytes_each == 2e6
    assert cut.bytes_s == pytest.approx(2e6 * 20000 / 3600)
    (seen,) = found.seen
    assert seen.first.value > next(g.first.value for g in found.groups if g.does == "all")
    quick = [row("eye", "h200-sxm", items_s=5000), row("eye", "cpu", items_s=15)]
    beside = plan(work(H200, CPU.replace("4", "40", 1), ENCODER, *quick, load=PICTURES))
    assert beside.chosen != "encoders apart"
    assert not beside.cuts


def test_prompts_are_read_apart_only_over_a_known_network() -> None:
    known = [part + "\nnetwork_gbs = 50" for part in (H200, H100)]
    assert "prompts apart" in [a.name for a in plan(work(*known)).alternatives]
    assert "prompts apart" not in [a.name for a in plan(work(H200, H100)).alternatives]


@pytest.mark.parametrize(
    ("parts", "change", "says"),
    [
        ((H200,), {"load": LOAD.replace("20000", "90000000")}, "they take at most"),
        ((H200,), {"goal": "[goal]\ntoken_s = 1e-6"}, "speed of light"),
        ((H200,), {"goal": "[goal]\nfirst_token_s = 1e-6"}, "speed of light"),
        ((H200,), {"goal": "[goal]\ntoken_s = 0.0009"}, "Loosen the goal"),
        (
            (H200.replace("count = 8", "count = 1"),),
            {"model": MODEL.replace("hidden_layers = 32", "hidden_layers = 3200")},
            "all chips together have only",
        ),
        ((H200.replace('price_per_hour = "3.50"', ""),), {}, "price_per_hour: is missing"),
        ((H200, ENCODER), {"load": PICTURES}, "neither a network"),
    ],
)
def test_the_impossible_is_refused(
    parts: tuple[str, ...], change: dict[str, str], says: str
) -> None:
    with pytest.raises(BicameralError, match=says) as raised:
        plan(work(*parts, **change))
    assert isinstance(raised.value, ConfigError | ChipError)


def test_energy_and_latency_may_be_least_instead() -> None:
    free = [part.replace("price_per_hour", "# price") for part in (H200, H100)]
    frugal = plan(work(*free, goal=f'{GOAL}\nminimise = "energy"'))
    quick = plan(work(*free, goal=f'{GOAL}\nminimise = "latency"'))
    assert frugal.cost is None
    assert frugal.energy
    assert quick.energy
    assert frugal.energy.value <= quick.energy.value
    assert quick.seen[0].token.value < frugal.seen[0].token.value


def test_the_fastest_chip_is_taken_for_a_single_request_too() -> None:
    """What a slow chip could take, had it more to do, speaks neither for nor against it."""
    rare = LOAD.replace("20000", "1")
    goal = '[goal]\nminimise = "latency"'
    slow = measured(concurrency=1, first_token_s=0.2, token_s=0.1)
    for parts in ((H200, CPU, slow), (CPU, H200, slow)):
        (group,) = plan(work(*parts, load=rare, goal=goal)).groups
        assert group.pool == "h200-sxm"


def test_no_plan_rests_on_more_than_is_there() -> None:
    """With one chip less than it takes, it is refused."""
    needed = plan(work(H100, load=LOAD.replace("20000", "200000"))).chips
    assert needed > 1
    fewer = H100.replace("count = 8", f"count = {needed - 1}")
    with pytest.raises(ChipError):
        plan(work(fewer, load=LOAD.replace("20000", "200000")))


def test_the_same_workload_gives_the_same_plan() -> None:
    given = work(H200, H100)
    assert plan(given) == plan(replace(given))
