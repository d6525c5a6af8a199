"""What the book costs: bookings a second, and the server's CPU time per request with it.

    python bench/ledger.py                 both parts; some four minutes
    python bench/ledger.py book            bookings a second, into a file of its own
    python bench/ledger.py server --rounds 5

book: so many callers settle bookings of two calls and four postings at once, each waiting until
its own is on disk (SQLite, a sync at every commit, hash chain and balances included); beside it
the same rows inserted bare by sqlite3, 200 to a transaction, without chain, balances and waiting.
server: the gateway of gateway.py before the mock upstream, without a ledger, with one, and with a
key whose budget is held before each request; they take turns, CPU time per request counts.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import contenders
from contenders import BENCH, BICAMERAL_TOML, KEY, Gateway
from gateway import Bench, say
from gateway_report import failures

from bicameral.ledger import entry, keys
from bicameral.ledger.book import Book, Wanted, wall
from bicameral.ledger.entry import Booking, KeySet
from bicameral.ledger.store import Store
from bicameral.usage import Call, Usage

WAITING = (1, 32, 200)
BOOKINGS = 20_000


def booking(number: int, held: entry.Held | None = None) -> Booking:
    """As a vote of two priced members leaves it."""
    calls = tuple(
        Call(
            model=name,
            owner=owner,
            usage=Usage(prompt_tokens=812, completion_tokens=231, cached_tokens=512),
            seconds=1.234567,
            first_token=0.234567,
            cost=cost,
            served=f"{name}-2026-10-01",
        )
        for name, owner, cost in (("large", "alpha", 4_123_456), ("small", "beta", 512_345))
    )
    return Booking(
        id=held.id + "/end" if held else f"{number:024x}/end",
        postings=(
            ("caller/key_0123456789abcdef", -5_562_961),
            ("owner/alpha", 4_123_456),
            ("owner/beta", 512_345),
            ("margin/default", 927_160),
        ),
        caller="key_0123456789abcdef",
        mind="default",
        request=f"req_{number:024x}",
        day="2026-11-22",
        held=held,
        ended="finished",
        calls=calls,
        paid=5_562_961,
        by="large",
        shares=(("large", 0.5), ("small", 0.5)),
    )


def bare(folder: Path) -> float:
    """Rows a second, inserted with nothing around them."""
    db = sqlite3.connect(folder / "bare.sqlite3", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE entry (seq INTEGER PRIMARY KEY, id TEXT UNIQUE, body TEXT) STRICT")
    bodies = [booking(n) for n in range(BOOKINGS)]
    began = time.perf_counter()
    for start in range(0, BOOKINGS, 200):
        some = bodies[start : start + 200]
        rows = [(start + n, body.id, entry.canonical(body)) for n, body in enumerate(some)]
        db.execute("BEGIN")
        db.executemany("INSERT INTO entry VALUES (?, ?, ?)", rows)
        db.execute("COMMIT")
    return BOOKINGS / (time.perf_counter() - began)


async def booked(folder: Path, callers: int, *, hold: bool) -> tuple[float, float, float]:
    """Bookings a second, milliseconds that one waits at the median, CPU microseconds for each."""
    book = Book(f"sqlite:///{folder / f'{callers}{hold}.sqlite3'}")
    count = BOOKINGS if callers > 1 else BOOKINGS // 10
    numbers = iter(range(count))
    waited: list[float] = []
    key = keys.Key(id="key_0123456789abcdef", name="bench", digest="", limits=_plenty())

    async def caller() -> None:
        for number in numbers:
            body, began = booking(number), time.perf_counter()
            if hold:
                wanted = Wanted(
                    id=f"{number:024x}", caller=key.id, mind="default", most=9_000_000, tokens=9000
                )
                body = booking(number, await book.authorise(wanted, key))
            await book.settle(body)
            waited.append(time.perf_counter() - began)

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(callers)))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    book.close()
    return count / seconds, statistics.median(waited) * 1e3, cpu / count * 1e6


def _plenty() -> keys.Limits:
    return keys.Limits(day_money=10**18, month_money=10**18, day_tokens=10**15)


def part_book(folder: Path) -> None:
    floor = bare(folder)
    print("| waiting at once | holds | bookings/s | of bare inserts | waits ms | CPU us |")
    print("|---|---|---|---|---|---|")
    print(f"| bare sqlite3, 200 a transaction | | {floor:,.0f} | 1 | | |")
    for callers in WAITING:
        for hold in (False, True):
            rate, waits, cpu = asyncio.run(booked(folder, callers, hold=hold))
            held = "held first" if hold else "no"
            line = f"| {callers} | {held} | {rate:,.0f} | {rate / floor:.2f} "
            print(line + f"| {waits:.1f} | {cpu:.0f} |", flush=True)


def gateways(folder: Path) -> list[Gateway]:
    """The same gateway three times; the last with a key of the ledger's own."""
    open_, held = folder / "open.sqlite3", folder / "held.sqlite3"
    secret, key = keys.make("bench", limits=_plenty())
    store = Store(f"sqlite:///{held}")
    store.write(lambda draft: draft.put(KeySet(id="key/1", key=key), wall()))
    store.close()
    bounded = BICAMERAL_TOML.replace('model = "mock-model"', 'model = "mock-model"\ncontext = 8192')
    command = (sys.executable, "-m", "bicameral", "serve", "--config", "{config}")
    return [
        Gateway(
            name, command, "/healthz", "default", secret if own else KEY, config + extra, env=env
        )
        for name, config, extra, own, env in (
            ("without", BICAMERAL_TOML, "", False, {"BENCH_KEYS": KEY}),
            (
                "booked",
                BICAMERAL_TOML,
                f'\n[ledger]\npath = "{open_}"\n',
                False,
                {"BENCH_KEYS": KEY},
            ),
            (
                "held and booked",
                bounded,
                f'\n[ledger]\npath = "{held}"\n',
                True,
                {"BENCH_KEYS": KEY},
            ),
        )
    ]


TESTS: dict[str, tuple[str, ...]] = {
    "plain, 1 at a time": ("--conns", "1"),
    "plain, 32 at once": ("--conns", "32"),
    "streams of 32 events, 16 at once": (
        *("--conns", "16", "--stream", "--prompt", "chunks=32;delay_ms=0"),
    ),
}


def part_server(folder: Path, rounds: int, secs: float) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    cores = (cpus[0], cpus[min(1, len(cpus) - 1)])
    port, all_ = contenders.free_port(), gateways(folder)
    mock = [sys.executable, str(BENCH / "mock_upstream.py"), "--port", str(port)]
    found: dict[tuple[str, str, str], list[float]] = {}
    with contenders.process(
        [*mock, "--max-seconds", "3000"], core=cores[1], env={}, log=folder / "mock.log"
    ) as child:
        contenders.wait_until_healthy("/health", port, child, folder / "mock.log")
        bench = Bench(upstream=port, cores=cores, ends=time.monotonic() + 2400, secs=secs)
        for number in range(rounds):
            for gateway in all_:
                say(f"round {number + 1} of {rounds}: {gateway.name}")
                one_round(bench, gateway, folder, found)
    table(found, [gateway.name for gateway in all_])


def one_round(
    bench: Bench, gateway: Gateway, folder: Path, found: dict[tuple[str, str, str], list[float]]
) -> None:
    with contenders.started(
        gateway, upstream=bench.upstream, core=bench.gateway_core, folder=folder
    ) as (port, pid, _):
        bench.load(gateway, port, pid, "--conns", "4", secs=1.0)
        for test, args in TESTS.items():
            numbers = bench.counted(gateway, port, pid, *args)
            if failures(numbers):
                raise SystemExit(f"{gateway.name}: {numbers['errors']}: {numbers['sample']}")
            found.setdefault((gateway.name, test, "cpu"), []).append(numbers["cpu_us_per_req"])
            found.setdefault((gateway.name, test, "p50"), []).append(numbers["p50_ms"])


def table(found: dict[tuple[str, str, str], list[float]], names: list[str]) -> None:
    """Medians over the rounds; the ratio is the median of the rounds' own."""
    print("| test | server | CPU us a request | of without | p50 ms |")
    print("|---|---|---|---|---|")
    for test in TESTS:
        plain = found[names[0], test, "cpu"]
        for name in names:
            cpu = found[name, test, "cpu"]
            ratio = statistics.median(a / b for a, b in zip(cpu, plain, strict=True))
            p50 = statistics.median(found[name, test, "p50"])
            print(f"| {test} | {name} | {statistics.median(cpu):.0f} | {ratio:.3f} | {p50:.2f} |")


PARTS: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "book": lambda folder, _: part_book(folder),
    "server": lambda folder, args: part_server(folder, args.rounds, args.secs),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="of book, server")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--secs", type=float, default=3.0, help="length of one test (default 3)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bicameral-ledger-") as name:
        for part in args.parts or PARTS:
            PARTS[part](Path(name), args)


if __name__ == "__main__":
    main()
