"""Settling recorded traffic among five owners, and checking it from the book by another way.

    nice python bench/settlement.py [--traffic 2500] [--labelled 1000]

Members are of MMLU-Pro's table, one more that is asked and says nothing; owners and prices are
invented. A mind votes; what it did on the traffic is booked through the till, a month and a half of
it; Shapley weights are frozen from labelled questions that are no part of it. Then two months are
settled, one owner is paid out between, and all is computed again with no code of ours: SQLite's
own reader, JSON, fractions. The folder of the data is named by BICAMERAL_DATA.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace as but
from decimal import Decimal
from fractions import Fraction
from itertools import permutations
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import left_data
import numpy as np
from msgspec.structs import replace

from bicameral import policies
from bicameral.config import Config, nano, parse
from bicameral.evals.clock import Virtual
from bicameral.evals.contribution import from_table
from bicameral.evals.recorded import Playback, Tape
from bicameral.ledger.audit import audit
from bicameral.ledger.book import Book
from bicameral.ledger.entry import CASH, OWNER, Settlement, Transfer, Weights
from bicameral.ledger.page import page
from bicameral.ledger.settle import SIMPLE, book, month, paid, settle
from bicameral.ledger.sheet import as_csv, as_json, dollars, file_name
from bicameral.ledger.statement import owners, statements
from bicameral.ledger.store import Store
from bicameral.ledger.till import Till
from bicameral.left.mind import Mind
from bicameral.left.outcomes import Outcomes
from bicameral.model import collect
from bicameral.types import Answer, Call, Price, Request

MUTE = "says-nothing"
# Whose, and what a million tokens cost in and out, in dollars; all of it invented.
MEMBERS: Mapping[str, tuple[str, str, str]] = {
    "gpt-4o-2024-05-13": ("north", "5", "15"),
    "gemini-1.5-pro-002": ("east", "1.25", "5"),
    "gemini-1.5-flash-002": ("east", "0.075", "0.3"),
    "Meta-Llama-3_1-70B-Instruct": ("south", "0.35", "0.4"),
    "Qwen1.5-110B": ("south", "0.6", "0.7"),
    "jamba-1.5-large": ("south", "2", "8"),
    "DeepSeek-Coder-V2": ("west", "0.14", "0.28"),
    "deepseek-v2-chat": ("west", "0.14", "0.28"),
    MUTE: ("mute", "0.5", "0.5"),
}
MONTHS = ("2026-08", "2026-09")
KEEP = Fraction(1, 5)
MIND = "panel"


def config(members: Mapping[str, tuple[str, str, str]]) -> Config:
    """A mind that takes a vote of `members`, at half above cost."""
    models = [
        f'[models."{m}"]\nengine = "scripted"\nowner = "{o}"' for m, (o, *_) in members.items()
    ]
    named = ", ".join(f'"{name}"' for name in members)
    mind = f'[minds.{MIND}]\npolicy = "vote"\nmembers = [{named}]\nmarkup = "0.5"\n'
    return parse("\n".join((*models, mind)), "bench")


def table(source: Outcomes) -> Outcomes:
    """The members' outcomes, and those of the one that is asked and says nothing."""
    known = source.only([name for name in MEMBERS if name != MUTE])
    blank = np.zeros((len(known.ids), 1))
    silent: dict[str, Any] = {
        "score": blank,
        "cost": blank,
        "seconds": blank + np.nan,
        "tokens_in": known.tokens_in[:, :1],
        "tokens_out": blank + 1,
        "confidence": blank + np.nan,
        "checked": blank + np.nan,
        "answer": np.full(blank.shape, None, dtype=object),
    }
    grids = {k: np.concatenate([getattr(known, k), v], axis=1) for k, v in silent.items()}
    return but(known, models=(*known.models, MUTE), **grids)


def twin(source: Outcomes, of: str, name: str) -> Outcomes:
    """With a copy of a member under another name."""
    whole = source.only([*source.models, of])
    return but(whole, models=(*source.models, name))


# --- traffic ------------------------------------------------------------------------------------


def answered(outcomes: Outcomes) -> list[Answer]:
    """What the mind says to each question, as it would have."""
    tape = Tape(outcomes)
    policy = policies.policy(config(MEMBERS), MIND, None, None)
    mind = Mind(MIND, policy, tape.members(), reader=Playback(tape))

    async def all_of_them() -> list[Answer]:
        return [await collect(mind, tape.request(row)) for row in range(len(outcomes.ids))]

    with asyncio.Runner(loop_factory=Virtual) as runner:
        return runner.run(all_of_them())


async def booked(answers: Sequence[Answer], url: str) -> None:
    """Each through the till, two thirds of them in the first month, the rest in the second."""
    begin, end = month(MONTHS[0])
    step = (end - begin) * 3 // 2 // len(answers)
    now = [begin]
    ledger = Book(url, hold_seconds=3600, clock=lambda: now[0])
    till, options, voter = Till(ledger), config(MEMBERS), _Named(MIND)
    try:
        for start in range(0, len(answers), 50):
            now[0] = begin + step * start
            some = enumerate(answers[start : start + 50], start)
            await asyncio.gather(*(_book(till, options, voter, n, each) for n, each in some))
    finally:
        await asyncio.to_thread(ledger.close)


async def _book(till: Till, options: Config, voter: Any, number: int, answer: Answer) -> None:
    request = Request.ask("", id=f"q{number}")
    tab = await till.open(request, voter, {MIND: voter}, options, "")
    for call in answer.calls:
        till.note(priced(call), tab.request.booking)
    await tab.close("finished", answer)  # type: ignore[arg-type]


class _Named:
    """All that the till asks of a mind whose caller has no budget."""

    def __init__(self, name: str) -> None:
        self.card = type("Card", (), {"name": name})()


def priced(call: Call) -> Call:
    """The call with its owner, at the invented price."""
    owner, asked, said = MEMBERS[call.model]
    cost = Price(input=nano(asked), output=nano(said)).cost(call.usage)
    return replace(call, owner=owner, cost=cost)


# --- another way --------------------------------------------------------------------------------


class Book2:
    """The book read without any of our code."""

    def __init__(self, path: Path) -> None:
        with sqlite3.connect(path) as db:
            rows = db.execute("SELECT seq, body FROM entry ORDER BY seq").fetchall()
            self.tallies = dict(db.execute("SELECT name, amount FROM tally").fetchall())
        self.rows = [(seq, json.loads(body)) for seq, body in rows]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [body for _, body in self.rows if body["type"] == kind]

    def balance(self, account: str) -> int:
        pairs = (pair for _, body in self.rows for pair in body.get("postings", ()))
        return sum(amount for name, amount in pairs if name == account)

    def margin(self, first: int, last: int) -> int:
        name = f"margin/{MIND}"
        return sum(
            amount
            for seq, body in self.rows
            if first <= seq <= last and body["type"] != "settlement"
            for account, amount in body.get("postings", ())
            if account == name
        )


def by_orders(weights: Mapping[str, Any]) -> dict[str, Fraction]:
    """Shapley's value by its definition: the mean over all orders in which owners may join."""
    names = [name for name, _ in weights["weights"]]
    orders = list(permutations(range(len(names))))
    sums: Counter[int] = Counter()
    for order in orders:
        joined = 0
        for i in order:
            sums[i] += weights["values"][joined | 1 << i] - weights["values"][joined]
            joined |= 1 << i
    return {name: Fraction(sums[i], len(orders) * 10**6) for i, name in enumerate(names)}


def checks(path: Path, folder: Path, named: Sequence[str]) -> list[tuple[str, bool]]:
    """What has to hold, each with whether it does."""
    again, found = Book2(path), []
    sums = [sum(n for _, n in body.get("postings", ())) for _, body in again.rows]
    found.append(("every entry's postings sum to zero", not any(sums)))
    due: dict[str, Fraction] = {name: Fraction(0) for name in named}
    for s in again.of("settlement"):
        margin, total = again.margin(s["first"], s["last"]), sum(w for _, w in s["weights"])
        exact = margin == s["margin"] and s["kept"] == margin * KEEP.numerator // KEEP.denominator
        got = {a.removeprefix("owner/"): n for a, n in s["postings"] if a.startswith("owner/")}
        exact = exact and sum(got.values()) == margin - s["kept"] == s["amount"]
        found.append((f"{s['period']}: shares sum to the margin less what is kept", exact))
        for name, weight in s["weights"]:
            due[name] += Fraction(s["amount"] * weight, total) - got.get(name, 0)
        near = all(abs(rest) < 1 for rest in due.values())
        found.append((f"{s['period']}: every owner within a nano-dollar of its part to date", near))
        (frozen,) = (w for w in again.of("weights") if w["period"] == s["period"])
        values = by_orders(frozen)
        worth = sum(values.values())
        same = all(values[n] / worth == Fraction(w, total) for n, w in s["weights"])
        found.append((f"{s['period']}: weights are Shapley's values by all 120 orders", same))
        found.append((f"{s['period']}: the member that changes nothing gets 0", "mute" not in got))
    found.append((f"nothing is left in margin/{MIND} of settled months", _settled_all(again)))
    adds = [_adds_up(again, folder, name) for name in named]
    return [*found, (f"statements of {', '.join(named)} add up to the book", all(adds))]


def _settled_all(again: Book2) -> bool:
    last = max(s["last"] for s in again.of("settlement"))
    return again.balance(f"margin/{MIND}") == again.margin(last + 1, 10**12)


def _adds_up(again: Book2, folder: Path, owner: str) -> bool:
    """CSV, JSON and the tally agree, month after month, to the last nano-dollar."""
    opening = 0
    for period in MONTHS:
        told = json.loads((folder / period / f"{owner}.json").read_text())
        with (folder / period / f"{owner}.csv").open(newline="") as file:
            *rows, last = csv.DictReader(file)
        total = sum(Decimal(row["dollars"] or 0) for row in rows)
        if total != Decimal(last["dollars"]) or total * 10**9 != int(told["closing"]):
            return False
        if int(told["opening"]) != opening:
            return False
        opening = int(told["closing"])
    balance = again.balance(f"owner/{owner}")
    return balance == opening + int(told["since"]) == again.tallies.get(f"account/owner/{owner}", 0)


# --- all of it ----------------------------------------------------------------------------------


def frozen(labelled: Outcomes, members: Mapping[str, tuple[str, str, str]]) -> Weights:
    """The weights of the first month."""
    return from_table(config(members), MIND, labelled, MONTHS[0])


def freeze(url: str, weights: Weights) -> None:
    """For both months, before they begin."""
    store = Store(url)
    for period in MONTHS:
        mine = replace(weights, id=f"weights/{period}/{MIND}", period=period)
        store.write(lambda draft, w=mine: draft.put(w, month(MONTHS[0])[0]))
    store.close()


def close(store: Store, folder: Path) -> tuple[list[Settlement], dict[str, Any]]:
    """Settle, pay out, write statements; the settlements, and other schemes' shares."""
    done, others = [], {}
    for period in MONTHS:
        _, end = month(period)
        entries = list(store.entries())
        if period == MONTHS[0]:
            for scheme in SIMPLE:
                (other,) = settle(entries, period, keep=KEEP, scheme=scheme)
                others[scheme] = paid(other.settlement)  # type: ignore[arg-type]
        (result,) = book(store, settle(entries, period, keep=KEEP), end + 60_000)
        done.append(result.settlement)
        if period == MONTHS[0]:
            out = store.tally(f"account/{OWNER}/west") // 2
            postings = ((f"{OWNER}/west", -out), (CASH, out))
            body = Transfer(id="payout", why="payout", postings=postings)
            store.write(lambda draft, b=body, t=end: draft.put(b, t + 120_000))
    entries = list(store.entries())
    for period in MONTHS:
        (folder / period).mkdir(parents=True)
        for each in statements(owners(entries, period), entries, period):
            for ending, made in {"csv": as_csv, "json": as_json, "html": page}.items():
                path = folder / period / f"{file_name(each.owner)}.{ending}"
                path.write_text(made(each), newline="")
    return done, others  # type: ignore[return-value]


def shares(weights: Weights) -> dict[str, float]:
    """Each owner's part."""
    total = sum(weight for _, weight in weights.weights)
    return {name: weight / total for name, weight in weights.weights}


def show(
    store: Store, settled: Settlement, others: Mapping[str, Mapping[str, int]], weights: Weights
) -> None:
    """Owners side by side, of the first month."""
    entries = list(store.entries())
    told = statements(owners(entries, MONTHS[0]), entries, MONTHS[0])
    print("| owner | members | calls | cost passed through | Shapley | calls | tokens | final |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for each in told:
        count = sum(owner == each.owner for owner, *_ in MEMBERS.values())
        calls = sum(m.finished for m in each.members)
        parts = [paid(settled), *(others[scheme] for scheme in SIMPLE)]
        cells = " | ".join(f"{part.get(each.owner, 0) / settled.amount:.2%}" for part in parts)
        print(f"| {each.owner} | {count} | {calls} | ${dollars(each.cost)} | {cells} |")
    print(
        f"\nMargin ${dollars(settled.margin)}, kept ${dollars(settled.kept)}, shared out "
        f"${dollars(settled.amount)}. The mind gets {weights.values[-1] / 10**6:.0f} of "
        f"{weights.prompts} labelled questions right."
    )


def cloned(labelled: Outcomes, plain: Weights) -> None:
    """What it brings to list a member twice: under the same owner, and under another name."""
    best = "DeepSeek-Coder-V2"
    more = twin(labelled, best, "copy")
    _, *price = MEMBERS[best]
    same = frozen(more, {**MEMBERS, "copy": ("west", *price)})  # type: ignore[dict-item]
    print(
        f"\n- A copy of {best} under its own owner changes nobody's share: "
        f"{'yes' if same.weights == plain.weights else 'NO'}."
    )
    other = shares(frozen(more, {**MEMBERS, "copy": ("west-2", *price)}))  # type: ignore[dict-item]
    pair = other["west"] + other["west-2"]
    print(
        f"- The same copy under another owner's name: west had {shares(plain)['west']:.2%}, "
        f"the pair has {pair:.2%}."
    )


def timed(what: str, work: Callable[[], Any]) -> Any:
    """What `work` gives; how long it took is printed."""
    began = time.perf_counter()
    made = work()
    print(f"- {what}: {time.perf_counter() - began:.1f} s", flush=True)
    return made


def main() -> None:
    """Book, freeze, settle, check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traffic", type=int, default=2500)
    parser.add_argument("--labelled", type=int, default=1000)
    asked = parser.parse_args()
    try:
        whole = table(left_data.mmlupro("A"))
    except left_data.Missing as error:
        print(f"settlement: {error}")
        return
    order = np.random.default_rng(0).permutation(len(whole.ids))
    labelled = whole.rows(order[: asked.labelled])
    traffic = whole.rows(order[asked.labelled : asked.labelled + asked.traffic])
    with tempfile.TemporaryDirectory() as name:
        path, folder = Path(name, "book.sqlite3"), Path(name, "statements")
        weights = timed("32 sets of owners replayed", lambda: frozen(labelled, MEMBERS))
        print(f"- the same again: {'yes' if frozen(labelled, MEMBERS) == weights else 'NO'}")
        answers = timed(f"{asked.traffic} requests replayed", lambda: answered(traffic))
        url = f"sqlite:///{path}"
        freeze(url, weights)
        timed("booked", lambda: asyncio.run(booked(answers, url)))
        store = Store(url)
        done, others = timed("settled, statements", lambda: close(store, folder))
        print()
        show(store, done[0], others, weights)
        named = [owner for owner, _ in weights.weights]
        store.close()
        print(f"\n- {'NO' if audit(url).faults else 'yes'}: the auditor finds nothing wrong")
        for what, holds in checks(path, folder, named):
            print(f"- {'yes' if holds else 'NO'}: {what}")
    cloned(labelled, weights)


if __name__ == "__main__":
    main()
