"""`bicameral chips` as its user reads it."""

from __future__ import annotations

import json

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from bicameral import terminal
from bicameral.chips.measure import Measured
from bicameral.chips_cli import find as module
from bicameral.chips_cli.find import chips
from tests.chips.test_find import H200, Machine

MEASURED = Measured(
    when="2026-11-20T10:00:00+00:00",
    how="",
    threads=2,
    read_gbs=20.0,
    copy_gbs=12.0,
    one_read_gbs=11.0,
    one_copy_gbs=9.0,
    tflops=0.25,
    blas="a-blas 1.0",
    numpy="2",
    mib=1,
    beyond_cache=0.5,
    load=7.5,
)


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Machine:
    """A made-up machine that the command looks at; measuring it takes no time."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    machine = Machine(tmp_path)
    monkeypatch.setattr(module, "look", machine.look)
    monkeypatch.setattr(module.measure, "measure", lambda device: MEASURED)
    return machine


def run(monkeypatch, *args: str) -> str:
    app = typer.Typer()
    app.command()(chips)
    with monkeypatch.context() as patch:
        runner = CliRunner()
        patch.setattr(terminal, "out", Console(highlight=False, soft_wrap=True, width=80))
        got = runner.invoke(app, args)
    assert got.exit_code == 0, got.output
    return got.stdout


def test_the_table_fits_80_columns_and_says_that_there_is_no_accelerator(machine, monkeypatch):
    said = run(monkeypatch)
    assert max(len(line.rstrip()) for line in said.splitlines()) <= 80
    assert "No accelerator was found" in said
    assert "20.0" in said
    assert "11 vendor tools are not installed" in said
    assert "nvidia-smi" not in said
    assert "0.5 x the last cache" in " ".join(said.split())
    assert "others kept it busy (load 7.5)" in " ".join(said.split())


def test_equal_chips_are_one_row_and_failures_are_told(machine, monkeypatch):
    second = H200.replace("0, NV", "1, NV").replace("1B", "1C").replace("140000", "1000")
    machine.tool("nvidia-smi", f"echo '{H200}\n{second}'")
    machine.tool("mx-smi", "echo no board; exit 3")
    said = run(monkeypatch, "--no-measure")
    line = next(line for line in said.splitlines() if "2 x NVIDIA H200" in line)
    assert line.split()[4:] == ["-", "1/151", "-", "4,800", "official", "-", "700"]
    assert "mx-smi failed (exit 3): no board" in said
    assert "No accelerator" not in said
    assert "20.0" not in said


def test_every_tool_is_named_when_asked_for(machine, monkeypatch):
    assert "nvidia-smi is not installed" in run(monkeypatch, "-v")


def test_json_has_everything(machine, monkeypatch):
    machine.tool("nvidia-smi", f"echo '{H200}'")
    body = json.loads(run(monkeypatch, "--json"))
    cpu, gpu = body["chips"]
    assert cpu["measured"]["read_gbs"] == 20.0
    assert (gpu["chip"], gpu["datasheet_gbs"]["trust"], gpu["ratio"]) == (
        "h200-sxm",
        "official",
        None,
    )
    assert {b["tool"]: b["absent"] for b in body["blind"]}["cnmon"] is True


def test_what_is_remembered_is_not_measured_again(machine, monkeypatch):
    from bicameral.chips.measure import _key, _remember

    _remember(_key(machine.look().found[0].device), MEASURED)
    calls = []
    monkeypatch.setattr(module.measure, "measure", lambda device: calls.append(1) or MEASURED)
    assert "measured 2026-11-20" in run(monkeypatch)
    assert "20.0" in run(monkeypatch, "--no-measure")
    assert not calls
    run(monkeypatch, "--measure")
    assert calls
