"""What a gateway costs: Bicameral beside direct access, LiteLLM and vllm-router, in one run.

    python bench/gateway.py                     3 rounds, then a soak of 1,000,000 requests
    python bench/gateway.py --quick --no-soak   one short round
    python bench/gateway.py --only direct,bicameral --json out.json

Every gateway stands in front of the same mock upstream (mock_upstream.py) and gets the same
requests (loadgen.py). It runs on one core, mock and load generator on another. The gateways take
turns over several rounds, each freshly started; of each number the best round counts, of memory
the worst. All on loopback. Linux; needs taskset and psutil.
LiteLLM checks its master key and runs without database, Redis and callbacks: its best case.
Bicameral checks a key, routes through a mind and meters every call with a price. vllm-router and
direct access check nothing, and "bare relay" is the floor under Bicameral: uvicorn and aiohttp
that only pass bytes on.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import contenders
from contenders import BENCH, GATEWAYS, Failed, Gateway
from gateway_report import STREAMS, Numbers, failures, machine, report

UNPACED = ("--stream", "--prompt", "chunks=32;delay_ms=0")
PACED = ("--stream", "--prompt", "chunks=50;delay_ms=20")
SOAK_SLICES = 20


class Stopped(Exception):
    """The announced time is used up, or somebody sent a signal; what was measured is reported."""


class Bench:
    """The mock upstream's address, the cores, and the clock of one run."""

    def __init__(self, *, upstream: int, cores: tuple[int, int], ends: float, secs: float) -> None:
        self.upstream, self.secs = upstream, secs
        self.gateway_core, self.load_core = cores
        self._ends = ends

    def load(self, gateway: Gateway, port: int, pid: int, *args: str, secs: float) -> Numbers:
        """Run the load generator; `pid` is the process whose CPU time counts."""
        if time.monotonic() > self._ends:
            raise Stopped("the announced time was used up")
        command = ["taskset", "-c", str(self.load_core), sys.executable, str(BENCH / "loadgen.py")]
        command += ["--url", f"http://127.0.0.1:{port}/v1/chat/completions", "--pid", str(pid)]
        command += ["--model", gateway.model, "--secs", f"{secs:g}", *args]
        if gateway.key:
            command += ["--header", f"Authorization: Bearer {gateway.key}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=secs + 60)
        if done.returncode:
            raise Failed(f"the load generator failed: {done.stderr.strip()[-400:]}")
        numbers: Numbers = json.loads(done.stdout)
        return numbers

    def counted(self, gateway: Gateway, port: int, pid: int, *args: str) -> Numbers:
        """A closed loop over as many requests as fit in the time, all of them run to their end.

        Were the last ones cut off, a slow gateway would be charged for work that brought nothing.
        """
        probe = self.load(gateway, port, pid, *args, secs=max(1.0, self.secs / 3))
        settle(pid)
        count = max(32, int(probe["rps"] * self.secs))
        enough = min(300.0, 5 * self.secs + 10)
        return self.load(gateway, port, pid, *args, "--max-requests", str(count), secs=enough)


def settle(pid: int) -> None:
    """Wait until the process is idle, for at most 10 s: requests cut off may still run."""
    for _ in range(40):
        before = cpu_seconds(pid)
        time.sleep(0.25)
        if cpu_seconds(pid) - before <= 0.02:
            return


def cpu_seconds(pid: int) -> float:
    import psutil  # type: ignore[import-untyped]

    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def memory(pid: int) -> int:
    """Resident bytes of a process and its children."""
    import psutil

    process = psutil.Process(pid)
    return sum(part.memory_info().rss for part in (process, *process.children(recursive=True)))


def measure(bench: Bench, gateway: Gateway, port: int, pid: int) -> dict[str, Numbers]:
    """All tests of one gateway in one round."""
    run = functools.partial(bench.load, gateway, port, pid)
    counted = functools.partial(bench.counted, gateway, port, pid)
    run("--conns", "4", secs=1.0)  # warm up
    tests: dict[str, Callable[[], Numbers]] = {
        "plain_1": lambda: run("--conns", "1", secs=bench.secs),
        "large_1": lambda: run("--conns", "1", "--prompt-bytes", "200000", secs=bench.secs),
        "plain_32": lambda: counted("--conns", "32"),
        "stream_16": lambda: counted("--conns", "16", *UNPACED),
        "paced_100": lambda: run(
            *("--conns", "100", "--max-requests", str(STREAMS), *PACED), secs=6.0
        ),
    }
    numbers = {}
    for name, test in tests.items():
        settle(pid)
        numbers[name] = test()
    return numbers


def one_round(bench: Bench, gateway: Gateway, mock: int, folder: Path) -> Numbers:
    """Start the gateway, measure it, end it."""
    if not gateway.command:
        return {"tests": measure(bench, gateway, bench.upstream, mock)}
    with contenders.started(
        gateway, upstream=bench.upstream, core=bench.gateway_core, folder=folder
    ) as (port, pid, seconds):
        tests = measure(bench, gateway, port, pid)
        return {"tests": tests, "start_s": seconds, "rss_mb": memory(pid) / 1e6}


def soak(bench: Bench, gateway: Gateway, folder: Path, requests: int) -> Numbers:
    """Many plain requests to one process: memory along the way, its growth, the failures."""
    with contenders.started(
        gateway, upstream=bench.upstream, core=bench.gateway_core, folder=folder
    ) as (port, pid, _):
        points: list[tuple[int, float]] = [(0, memory(pid) / 1e6)]
        parts: list[Numbers] = []
        stopped = ""
        size = max(1, requests // SOAK_SLICES)
        try:
            while (sent := points[-1][0]) < requests:
                part = ("--conns", "32", "--max-requests", str(min(size, requests - sent)))
                parts.append(bench.load(gateway, port, pid, *part, secs=300.0))
                if not parts[-1]["n"]:
                    raise Failed(f"no request of the soak succeeded: {parts[-1]['sample']}")
                sent += parts[-1]["n"] + failures(parts[-1])
                points.append((sent, memory(pid) / 1e6))
                say(f"soak: {sent:,} requests, {points[-1][1]:.1f} MB, {parts[-1]['rps']:.0f}/s")
        except Stopped as reason:
            stopped = str(reason)
    settled = [point for point in points if point[0] >= points[-1][0] / 4]
    return {
        "stopped": stopped,
        "requests": points[-1][0],
        "failed": sum(map(failures, parts)),
        "sample": next((p["sample"] for p in parts if p["sample"]), None),
        "rss_mb": points,
        "bytes_per_request": slope(settled) * 1e6 if len(settled) > 1 else None,
        "cpu_us_per_req": [p["cpu_us_per_req"] for p in parts],
    }


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the least-squares line through the points."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def installed(names: Sequence[str]) -> tuple[list[Gateway], list[str]]:
    """The gateways that can run here, and a note for each that cannot."""
    ready, notes = [], []
    for gateway in (g for g in GATEWAYS if g.name in names):
        try:
            gateway.install()
            ready.append(gateway)
        except Failed as error:
            notes.append(f"{gateway.name} skipped: {error}")
    return ready, notes


def interleave(
    bench: Bench, gateways: list[Gateway], mock: int, folder: Path, args: argparse.Namespace
) -> tuple[dict[str, list[Numbers]], Numbers | None, list[str]]:
    """All rounds, then the soak: (rounds by gateway, soak, notes on what went wrong)."""
    rounds: dict[str, list[Numbers]] = {}
    notes: list[str] = []
    soaked = None
    try:
        for index in range(args.rounds):
            for gateway in gateways:
                say(f"round {index + 1} of {args.rounds}: {gateway.name}")
                try:
                    numbers = one_round(bench, gateway, mock, folder)
                    rounds.setdefault(gateway.name, []).append(numbers)
                except Failed as error:
                    notes.append(f"{gateway.name}, round {index + 1}: {error}")
        ours = next((g for g in gateways if g.name == "bicameral" and g.name in rounds), None)
        if ours and args.soak:
            soaked = soak(bench, ours, folder, args.soak)
    except Failed as error:
        notes.append(f"soak: {error}")
    except Stopped as reason:
        notes.append(f"stopped early: {reason}")
    return rounds, soaked, notes


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [gateway.name for gateway in GATEWAYS]
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--secs", type=float, default=3.0, help="length of one test (default 3)")
    parser.add_argument("--quick", action="store_true", help="one round, tests of 1 s, small soak")
    parser.add_argument("--only", default=",".join(names), help=f"of {','.join(names)}")
    parser.add_argument("--soak", type=int, default=1_000_000, help="requests (default 1,000,000)")
    parser.add_argument("--no-soak", dest="soak", action="store_const", const=0)
    parser.add_argument("--json", type=Path, help="write every number of every round here")
    args = parser.parse_args()
    args.only = args.only.split(",")
    if unknown := set(args.only) - set(names):
        parser.error(f"--only: no such gateway: {', '.join(sorted(unknown))}")
    if args.quick:
        args.rounds, args.secs, args.soak = 1, 1.0, min(args.soak, 20_000)
    if args.rounds < 1 or not 0.1 <= args.secs <= 30 or args.soak < 0:
        parser.error("--rounds >= 1, --secs 0.1 to 30, --soak >= 0")
    return args


def most_seconds(args: argparse.Namespace, gateways: int) -> float:
    """An upper bound of the run time, for a slow machine."""
    per_round = contenders.START_LIMIT + 7 + 14 * args.secs
    return float(args.rounds * gateways * per_round + args.soak / 1000 + 60)


def stop(signum: int, frame: FrameType | None) -> None:
    raise Stopped(f"{signal.Signals(signum).name} came")  # every `with` ends its child


def main() -> None:
    args = parse_args()
    if not sys.platform.startswith("linux") or not shutil.which("taskset"):
        raise SystemExit("this benchmark needs Linux and taskset (package util-linux)")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    cpus = sorted(os.sched_getaffinity(0))
    cores = (cpus[0], cpus[min(1, len(cpus) - 1)])
    gateways, notes = installed(args.only)
    limit = most_seconds(args, len(gateways))
    say(f"measuring {', '.join(g.name for g in gateways)}; at most {limit / 60:.0f} minutes")
    load = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="bicameral-bench-") as name:
        folder, port = Path(name), contenders.free_port()
        mock = [sys.executable, str(BENCH / "mock_upstream.py"), "--port", str(port)]
        mock += ["--max-seconds", f"{limit + 600:.0f}"]
        with contenders.process(mock, core=cores[1], env={}, log=folder / "mock.log") as child:
            contenders.wait_until_healthy("/health", port, child, folder / "mock.log")
            bench = Bench(upstream=port, cores=cores, ends=time.monotonic() + limit, secs=args.secs)
            rounds, soaked, more = interleave(bench, gateways, child.pid, folder, args)
    loads = [f"- load average: {load[0]:.2f} before, {os.getloadavg()[0]:.2f} after"]
    packages = [f"- {g.name}: {g.package}" for g in gateways if g.package]
    about = [*machine(cores), *packages, *loads]
    report(rounds, soaked, [*notes, *more], about)
    if args.json:
        args.json.write_text(json.dumps({"about": about, "rounds": rounds, "soak": soaked}))


if __name__ == "__main__":
    main()
