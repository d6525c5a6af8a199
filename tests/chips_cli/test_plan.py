from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from bicameral import terminal
from bicameral.chips_cli.plan import plan
from bicameral.errors import ChipError
from tests.chips.work import ENCODER, GOAL, H100, H200, LOAD, MODEL, row

APP = typer.Typer()
APP.command()(plan)
TEXT = "\n".join((LOAD, GOAL, MODEL, H200, H100))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "w.toml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def run(*args: str) -> str:
    result = CliRunner().invoke(APP, list(args))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0
    return result.output


def test_a_plan_fits_80_columns_and_says_why(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal.out, "width", 80)
    shown = run(str(file), "--simulate")
    assert max(map(len, shown.splitlines())) <= 80
    for part in ("h100-sxm", "replicas", "modelled", "at most", "next best", "simulated (seed 0)"):
        assert part in shown


def test_json_has_all_of_it(file: Path) -> None:
    found = json.loads(run(str(file), "--json", "--simulate", "--seed", "7"))
    assert found["plan"]["groups"][0]["capacity"]["way"] == "modelled"
    assert found["plan"]["alternatives"][0]["name"] == "replicas"
    assert found["plan"]["reasons"]
    assert found["simulated"]["seed"] == 7
    assert found["simulated"]["groups"][0]["first"]["p99"] > 0
    assert "simulated" not in json.loads(run(str(file), "--json"))


def test_what_moves_over_a_cut_is_shown(file: Path) -> None:
    cheap = '[[chips]]\nchip = "l4"\ncount = 80\nper_node = 1\nprice_per_hour = "0.01"'
    rates = [row("eye", chip, items_s=15) for chip in ("h200-sxm", "h100-sxm", "l4")]
    text = "\n".join((TEXT.replace("[goal]", "pictures = 2\n[goal]"), cheap, ENCODER, *rates))
    file.write_text(text, encoding="utf-8")
    assert "cut: pictures read by eye" in run(str(file))


def test_no_plan_is_an_error_that_says_what_to_do(file: Path) -> None:
    file.write_text(TEXT.replace("20000", "90000000"), encoding="utf-8")
    with pytest.raises(ChipError, match="add chips"):
        run(str(file))
