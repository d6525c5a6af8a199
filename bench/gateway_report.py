"""The report of gateway.py: rounds of numbers to a markdown table, verdicts and notes."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Numbers = dict[str, Any]  # one JSON line of loadgen.py, or a summary of several

STREAMS = 500
FLAT = 2.0  # bytes of memory growth per request: less than one object kept per request


def failures(numbers: Numbers) -> int:
    """Answers that were not 200, streams without an end, connections lost or refused."""
    broken = sum(int(numbers[name]) for name in ("incomplete", "drops", "connect_errors"))
    return broken + sum(map(int, numbers["errors"].values()))


def summary(rounds: Sequence[Numbers]) -> Numbers:
    """The best round of each number; of memory the worst; of failures all."""

    def best(test: str, key: str, pick: Callable[..., Any] = min) -> float | None:
        values = [r["tests"][test][key] for r in rounds]
        found: float | None = pick((v for v in values if v is not None), default=None)
        return found

    every = [numbers for r in rounds for numbers in r["tests"].values()]
    return {
        "cpu_request": best("plain_32", "cpu_us_per_req"),
        "cpu_stream": best("stream_16", "cpu_us_per_req"),
        "rps": best("plain_32", "rps", max),
        "p50": best("plain_1", "p50_ms"),
        "p99": best("plain_1", "p99_ms"),
        "large": best("large_1", "p50_ms"),
        "streams": best("paced_100", "n", max),
        "streams_worst": best("paced_100", "n"),
        "ttft": best("paced_100", "ttft_p50_ms"),
        "gap": best("paced_100", "gap_p99_ms"),
        "rss": max((r["rss_mb"] for r in rounds if "rss_mb" in r), default=None),
        "start": min((r["start_s"] for r in rounds if "start_s" in r), default=None),
        "failed": sum(map(failures, every)),
        "sample": next((n["sample"] for n in every if n["sample"]), None),
    }


def table(results: Mapping[str, Numbers]) -> list[str]:
    """A markdown table, one row a gateway; added times are those of direct access taken off."""
    head = (
        "target",
        *("CPU µs/request", "x", "CPU µs/stream", "x", "requests/s", "added p50/p99 ms"),
        *("streams of 500", "TTFT p50 ms", "gap p99 ms", "200 kB ms", "RSS MB", "start s"),
        "failed",
    )
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    direct, ours = results.get("direct", {}), results.get("bicameral", {})
    for name, row in results.items():
        cells = (
            number(row["cpu_request"]),
            ratio(row["cpu_request"], ours.get("cpu_request")),
            number(row["cpu_stream"]),
            ratio(row["cpu_stream"], ours.get("cpu_stream")),
            number(row["rps"]),
            f"{added(row, direct, 'p50')} / {added(row, direct, 'p99')}",
            finished(row),
            *(number(row[key]) for key in ("ttft", "gap", "large", "rss", "start")),
            str(row["failed"]),
        )
        lines.append("| " + " | ".join((name, *cells)) + " |")
    return lines


def number(value: float | None) -> str:
    """Three digits, or a dash for what was not measured."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def finished(row: Numbers) -> str:
    best, worst = number(row["streams"]), number(row["streams_worst"])
    return best if best == worst else f"{best} (worst {worst})"


def ratio(value: float | None, base: float | None) -> str:
    return f"{value / base:.2f}" if value is not None and base else "-"


def added(row: Numbers, direct: Numbers, key: str) -> str:
    if row is direct or row[key] is None or direct.get(key) is None:
        return "-"
    return number(row[key] - direct[key])


def verdicts(results: Mapping[str, Numbers], soaked: Numbers | None) -> list[str]:
    """One line per target: reached, not reached, or not measured, with the number."""
    ours, lite = results.get("bicameral", {}), results.get("litellm", {})
    cpu, streams, start = ours.get("cpu_request"), ours.get("streams"), ours.get("start")
    peaks = [ours["rss"]] if ours.get("rss") else []
    peaks += [mb for _, mb in soaked["rss_mb"]] if soaked else []
    rss = max(peaks, default=None)
    growth = soaked["bytes_per_request"] if soaked else None
    count = f"{soaked['requests']:,} requests" if soaked else "a soak"
    lost = ours["failed"] + (soaked["failed"] if soaked else 0) if ours else None
    times = lite["cpu_request"] / cpu if cpu and lite.get("cpu_request") else None
    return [
        verdict("≤ 250 µs CPU per plain request with key, route and meter", cpu, 250, "µs"),
        verdict(f"{STREAMS} of {STREAMS} paced streams", streams, STREAMS, "", least=True),
        verdict("RSS ≤ 120 MB, soak included", rss, 120, "MB"),
        verdict(f"flat: ≤ {FLAT:g} bytes more per request over {count}", growth, FLAT, "bytes"),
        verdict("start ≤ 1 s", start, 1, "s"),
        verdict("≥ 40 times fewer CPU µs than LiteLLM", times, 40, "times", least=True),
        verdict("no failed request", lost, 0, ""),
    ]


def verdict(what: str, value: float | None, bar: float, unit: str, *, least: bool = False) -> str:
    if value is None:
        return f"- not measured: {what}"
    good = value >= bar if least else value <= bar
    return f"- {'reached' if good else 'NOT reached'}: {what}: {number(value)} {unit}".rstrip()


def machine(cores: tuple[int, int]) -> list[str]:
    """The hardware and the versions, as markdown lines."""
    names = ("bicameral", "uvicorn", "uvloop", "httptools", "aiohttp", "msgspec")
    found = [f"{name} {version(name)}" for name in names]
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in info if "model name" in line), "?")
    pins = f"gateway on core {cores[0]}, mock and load on core {cores[1]}"
    return [
        f"- machine: {os.cpu_count()} cores, {model}, {platform.system()} {platform.release()}",
        f"- cores: {pins}",
        f"- versions: Python {platform.python_version()}, {', '.join(found)}",
        f"- command: python {' '.join(sys.argv)}",
    ]


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def report(
    rounds: Mapping[str, list[Numbers]], soaked: Numbers | None, notes: list[str], about: list[str]
) -> None:
    results = {name: summary(parts) for name, parts in rounds.items()}
    print("\n".join([*about, "", *table(results), ""]))
    if soaked:
        grown, points = soaked["bytes_per_request"], soaked["rss_mb"]
        print(
            f"Soak: {soaked['requests']:,} requests, {soaked['failed']} failed, RSS "
            f"{points[0][1]:.1f} MB at the start, {points[len(points) // 4][1]:.1f} MB after a "
            f"quarter, {points[-1][1]:.1f} MB at the end, {number(grown)} bytes per request "
            "over the last three quarters"
            f"{', stopped early: ' + soaked['stopped'] if soaked['stopped'] else ''}.\n"
        )
    print("\n".join(verdicts(results, soaked)))
    for name, row in (*results.items(), *([("soak", soaked)] if soaked else [])):
        if row["sample"]:
            notes.append(f"{name}: first answer that was not 200: {row['sample']!r}")
    print("\n".join(f"- note: {note}" for note in notes))
