"""The planner's benchmark: what it mends, what it holds out, and that it ends without the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def data(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    import chips_data

    return chips_data


@pytest.fixture
def trial(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    import chips_trial

    return chips_trial


def record(**fields: Any) -> dict[str, Any]:
    return {
        "id": "one",
        "silicon_data_source": "source_file=2026-04-06.csv; silicon_concurrency=16",
        "model_path": "deepseek-ai/DeepSeek-R1",
        "system": "h200_sxm",
        "precision": "fp8",
        "backend": "trtllm",
        "isl": 1024,
        "osl": 1024,
        "batch_size": 16,
        "tp_size": 8,
        "attention_dp_size": 1,
        "moe_tp_size": 8,
        "moe_ep_size": 1,
        "silicon_ttft_ms": 500.0,
        "silicon_tpot_ms": 20.0,
    } | fields


def test_one_measurement_under_two_layouts_becomes_one(data) -> None:
    plain = record(moe_tp_size=1, moe_ep_size=8)
    multiplied = record(tp_size=64, moe_tp_size=8, moe_ep_size=8)
    one, other = (data._silicon(r, True) for r in (plain, multiplied))
    assert other.mended
    assert not one.mended
    assert data._measured(one) == data._measured(other)
    assert data._silicon(multiplied, False).layout.chips == 64


def test_groups_that_attend_alone_are_mended_too(data) -> None:
    plain = record(tp_size=1, attention_dp_size=8, moe_tp_size=1, moe_ep_size=8)
    multiplied = record(tp_size=1, attention_dp_size=64, moe_tp_size=8, moe_ep_size=8, batch_size=2)
    one, other = (data._silicon(r, True) for r in (plain, multiplied))
    assert (one.layout, one.load.concurrency) == (other.layout, 128)


def test_other_sources_are_left_as_they_are(data) -> None:
    told = record(silicon_data_source="source_file=/x.csv", tp_size=4, moe_tp_size=2, moe_ep_size=2)
    assert data._silicon(told, True).layout.tensor == 4


def test_the_group_held_out_is_not_fitted_on(data, trial, monkeypatch) -> None:
    """Neither by the fit that forecasts it, nor by those that choose the form and the band."""
    chips = ("h100_sxm", "h200_sxm", "b200_sxm", "gb200")
    told = [record(system=chip, model_path="Llama-3.1-8B") for chip in chips]
    token, _, _ = trial.trials([data._silicon(r, True) for r in told for _ in range(30)])
    groups, whole = token.of(lambda r: r.chip), np.ones(120, bool)
    seen = []

    def fit(self, form, rows):
        seen.append(set(groups[rows]))
        return np.ones(self.columns.shape[1])

    monkeypatch.setattr(trial.Trial, "fit", fit)
    held = trial.held_out(token, groups, whole, groups == "h200-sxm", "chip")
    inner = len(trial.TOKEN_FORMS) * 3
    assert len(seen) == inner + 1
    assert all("h200-sxm" not in chips for chips in seen)
    assert sorted(map(len, seen)) == [2] * inner + [3]
    assert np.isfinite(held.forecast).sum() == 30


def test_weights_that_do_not_fit_are_left_out(data, trial) -> None:
    rows = [data._silicon(record(system=s), True) for s in ("h100_sxm", "h200_sxm")]
    token, first, left = trial.trials(rows)
    assert [r.chip for r in left] == ["h100-sxm"]
    assert len(token.rows) == len(first.rows) == 1


def test_without_the_data_it_says_so_and_ends(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.syspath_prepend(BENCH)
    monkeypatch.setenv("BICAMERAL_DATA", str(tmp_path))
    import chips

    assert chips.main([]) == 0
    assert "skipped: no chips in" in capsys.readouterr().out
