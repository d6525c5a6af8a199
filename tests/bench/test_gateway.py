"""The gateway benchmark itself: mock, load generator, arithmetic. Nothing is timed."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def contenders(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    import contenders

    return contenders


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    import gateway_report

    return gateway_report


@pytest.fixture
def mock(contenders):
    port = contenders.free_port()
    command = [sys.executable, str(BENCH / "mock_upstream.py"), "--port", str(port)]
    with subprocess.Popen([*command, "--max-seconds", "60"], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline().startswith(b"mock upstream on 127.0.0.1")
            yield port
        finally:
            child.terminate()


def load(port, *args):
    command = [sys.executable, str(BENCH / "loadgen.py"), "--secs", "20", *args]
    command += ["--url", f"http://127.0.0.1:{port}/v1/chat/completions"]
    return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)


def test_every_request_is_counted_once(mock):
    numbers = load(mock, "--conns", "4", "--max-requests", "50", "--prompt-bytes", "1000")
    assert (numbers["n"], numbers["errors"], numbers["drops"], numbers["cut"]) == (50, {}, 0, 0)
    with urllib.request.urlopen(f"http://127.0.0.1:{mock}/__stats", timeout=10) as stats:
        assert json.load(stats)["requests"] == 50


def test_a_stream_is_complete_with_its_done(mock):
    knobs = ("--stream", "--prompt", "chunks=3;delay_ms=1")
    numbers = load(mock, "--conns", "2", "--max-requests", "4", *knobs)
    assert (numbers["n"], numbers["incomplete"]) == (4, 0)
    assert numbers["events"] == 4 * 7  # role, three words, finish, usage, [DONE]


def test_only_loopback_is_loaded():
    command = [sys.executable, str(BENCH / "loadgen.py"), "--url", "http://192.0.2.1/v1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "not a loopback address" in done.stderr


def test_a_gateway_that_lets_a_wrong_key_in_is_not_measured(contenders, mock):
    careless = contenders.Gateway("careless", key="sk-right")
    with pytest.raises(contenders.Failed, match="wrong key"):
        contenders.check(careless, mock)


@pytest.mark.skipif(not shutil.which("taskset"), reason="needs taskset")
def test_a_process_ends_with_its_whole_group(contenders, tmp_path):
    core, log = min(os.sched_getaffinity(0)), tmp_path / "log"
    forks = ["sh", "-c", "sleep 600 & echo $!; wait"]
    with contenders.process(forks, core=core, env={}, log=log) as child:
        until(lambda: log.read_text().strip())
        grandchild = psutil.Process(int(log.read_text()))
    assert child.returncode is not None
    until(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)


def until(true):
    limit = time.monotonic() + 10
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.01)


def numbers(**changes):
    same = {"n": 500, "rps": 10.0, "p50_ms": 1.0, "p99_ms": 2.0, "cpu_us_per_req": 100.0}
    rest = {"ttft_p50_ms": 1.0, "gap_p99_ms": 3.0, "incomplete": 0, "drops": 0}
    return {**same, **rest, "connect_errors": 0, "errors": {}, "sample": None, **changes}


def one_round(cpu, **changes):
    names = ("plain_1", "large_1", "stream_16", "paced_100")
    tests = {name: numbers(**changes) for name in names}
    tests["plain_32"] = numbers(cpu_us_per_req=cpu)
    return {"tests": tests, "rss_mb": 60.0, "start_s": 0.5}


def test_the_best_round_counts_and_no_failure_is_lost(report):
    bad = one_round(90.0, errors={"502": 2}, incomplete=1, sample="http/1.1 502")
    found = report.summary([one_round(100.0), bad])
    assert found["cpu_request"] == 90.0
    assert found["failed"] == 4 * 3
    assert found["sample"] == "http/1.1 502"


def test_verdicts_say_reached_not_reached_and_not_measured(report):
    results = {
        "bicameral": report.summary([one_round(300.0)]),
        "litellm": report.summary([one_round(12_000.0)]),
    }
    lines = report.verdicts(results, None)
    assert [line[2:].split(":")[0] for line in lines] == [
        "NOT reached",
        "reached",
        "reached",
        "not measured",
        "reached",
        "reached",
        "reached",
    ]
    assert lines[5].endswith(": 40 times")
