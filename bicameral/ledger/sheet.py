"""A statement as CSV and as JSON, for spreadsheets and programs.

CSV has a row for each thing that adds to the balance and amounts in dollars; JSON has the totals
and the book's head as well, and amounts in nano-dollars as strings, which no reader rounds.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import msgspec

from bicameral.ledger.statement import Line, Move, Part, Statement

COLUMNS = (
    "kind",
    "entry",
    "at",
    "request",
    "mind",
    "member",
    "ended",
    "tokens_in",
    "tokens_out",
    "dollars",
    "usage",
    "mismatch",
    "note",
)
_PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}")
_MONEY = (
    "cost",
    "margin",
    "kept",
    "amount",
    "share",
    "opening",
    "moved",
    "closing",
    "since",
    "now",
)


def dollars(nano: int | None) -> str:
    """All nine decimals; empty for what is not known."""
    if nano is None:
        return ""
    whole, rest = divmod(abs(nano), 10**9)
    return f"{'-' if nano < 0 else ''}{whole}.{rest:09}"


def formula(part: Part, owner: str) -> str:
    """How the owner's part was found, in one line."""
    weights = dict(part.weights)
    total = sum(weights.values())
    if part.margin < 0:
        return "nothing: what it cost above what was paid for it is the operator's loss"
    rounding = f"; rounding had owed {part.before} before" if part.before else ""
    return (
        f"{part.amount} x {weights.get(owner, 0)} / {total} nano-dollars by {part.scheme}, of a "
        f"margin of {part.margin} less {part.kept} kept, entries {part.first} to {part.last}"
        f"{rounding}"
    )


def as_csv(statement: Statement) -> str:
    """The rows; `dollars` of all but the last add up to the last, the closing balance."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    for row in _rows(statement):
        writer.writerow({key: _cell(key, value) for key, value in row.items()})
    return out.getvalue()


def as_json(statement: Statement) -> str:
    """The whole statement; what is not known is null."""
    body = _told(msgspec.to_builtins(statement, enc_hook=str))
    return msgspec.json.format(msgspec.json.encode(body), indent=1).decode() + "\n"


def file_name(owner: str) -> str:
    """A name that every file system takes, another for every owner."""
    if _PLAIN.fullmatch(owner):
        return owner
    rest = re.sub(r"[^A-Za-z0-9_-]+", "_", owner)[:40].strip("_")
    return f"{rest or 'owner'}.{sha256(owner.encode()).hexdigest()[:12]}"


def _rows(statement: Statement) -> Iterator[dict[str, Any]]:
    yield {"kind": "opening", "dollars": dollars(statement.opening)}
    yield from map(_call, statement.lines)
    for part in statement.parts:
        yield _share(part, statement.owner)
    yield from map(_move, statement.moves)
    yield {"kind": "closing", "dollars": dollars(statement.closing)}


def _call(line: Line) -> dict[str, Any]:
    return {
        "kind": "late cost" if line.late else "cost",
        "entry": line.seq,
        "at": line.at,
        "request": line.request,
        "mind": line.mind,
        "member": line.member,
        "ended": line.ended,
        "tokens_in": line.prompt_tokens,
        "tokens_out": line.completion_tokens,
        "dollars": dollars(line.cost),
        "usage": line.state,
        "mismatch": "yes" if line.mismatch else "",
        "note": "cost is not known" if line.cost is None else "",
    }


def _share(part: Part, owner: str) -> dict[str, Any]:
    return {
        "kind": "margin",
        "entry": "draft" if part.seq is None else part.seq,
        "mind": part.mind,
        "dollars": dollars(part.share),
        "note": formula(part, owner),
    }


def _move(move: Move) -> dict[str, Any]:
    amount = dollars(move.amount)
    row = {"kind": move.why, "entry": move.seq, "at": move.at}
    return row | {"dollars": amount, "note": move.note}


def _cell(key: str, value: Any) -> Any:
    """A text that a spreadsheet would take for a formula is made one that it does not."""
    risky = isinstance(value, str) and value[:1] in tuple("=+-@\t\r") and value and key != "dollars"
    return f"'{value}" if risky else value


def _told(value: Any, key: str = "") -> Any:
    """Money and weights as strings, wherever they are; weights by owner."""
    if key == "weights":
        return {name: str(weight) for name, weight in value}
    if isinstance(value, dict):
        return {
            key: str(item) if key in _MONEY and isinstance(item, int) else _told(item, key)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_told(item) for item in value]
    return value
