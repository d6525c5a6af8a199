"""A statement as a page to read: one file, no scripts, for a phone and for paper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from bicameral.ledger.sheet import dollars, formula
from bicameral.ledger.statement import Line, Member, Move, Part, Statement

_LONGEST = 2000
_STYLE = """
:root { color-scheme: light dark; --line: #8886 }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
.note, .formula { opacity: .75; font-size: .9rem; overflow-wrap: anywhere }
.draft { border: 1px solid; padding: .5rem 1rem; font-weight: 600 }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .3rem .6rem; border-top: 1px solid var(--line);
  vertical-align: top }
thead th { border-top: 0; font-weight: 600; font-size: .85rem }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.sum > * { font-weight: 600; border-top-width: 2px }
@media print { body { font-size: 10pt; max-width: none; padding: 0 } .wide { overflow: visible }
  tr { break-inside: avoid } thead { display: table-header-group } }
"""
_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
"""

Cell = str | int | None


def page(statement: Statement) -> str:
    """The page: totals first, then what they are made of. All text in it is escaped."""
    s = statement
    name, period = escape(s.owner), escape(s.period)
    draft = '<p class="draft">A draft: some of it is not booked yet.</p>' if s.draft else ""
    return "\n".join(
        (
            f"{_HEAD}<title>{name}, {period}</title><style>{_STYLE}</style></head><body>",
            f'<h1>{name}</h1><p class="note">Statement for {period} (UTC), in dollars</p>{draft}',
            _totals(s),
            _section("Members", _MEMBERS, map(_member, s.members), s.cost),
            _parts(s),
            _section("Payouts and corrections", _MOVES, map(_move, s.moves), s.moved),
            _calls(s),
            f'<p class="note">From the book up to entry {s.seq}, whose hash is {s.head}.</p>',
            "</body></html>\n",
        )
    )


_MEMBERS = ("Mind", "Member", "#Finished", "#Failed", "#Abandoned", "#Tokens", "#Cost")
_PARTS = ("Mind", "How", "#Entry", "#Share")
_MOVES = ("What", "When", "Note", "#Entry", "#Amount")
_CALLS = ("When", "Request", "Mind", "Member", "Ended", "#In", "#Out", "Usage", "#Entry", "#Cost")


def _totals(s: Statement) -> str:
    rows: list[tuple[str, int]] = [
        ("Owed before", s.opening),
        ("Cost of calls", s.cost),
        ("Share of margins", s.margin),
        ("Payouts and corrections", s.moved),
    ]
    body = "".join(_row((label, dollars(amount)), (False, True)) for label, amount in rows)
    body += _row(("Owed at the end", dollars(s.closing)), (False, True), "sum")
    if s.since or s.now != s.closing:
        body += _row(("Booked since", dollars(s.since)), (False, True))
        body += _row(("Owed now, by the book", dollars(s.now)), (False, True), "sum")
    return f"<table>{body}</table>"


def _parts(s: Statement) -> str:
    rows = ((p.mind, formula(p, s.owner), p.seq or "draft", dollars(p.share)) for p in s.parts)
    return _section("Shares of margins", _PARTS, rows, s.margin) + _weights(s.parts)


def _weights(parts: Sequence[Part]) -> str:
    """Everybody's weights, so that the formula can be followed."""
    told = []
    for part in parts:
        named = ", ".join(f"{name} {weight}" for name, weight in part.weights)
        inputs = f" (inputs {part.inputs})" if part.inputs else ""
        told.append(
            f'<p class="formula">Weights in {escape(part.mind + ": " + named + inputs)}</p>'
        )
    return "".join(told)


def _calls(s: Statement) -> str:
    shown, rest = s.lines[:_LONGEST], s.lines[_LONGEST:]
    rows: list[Sequence[Cell]] = [_call(line) for line in shown]
    if rest:
        more = f"{len(rest)} more calls, each in the CSV and the JSON"
        rows.append((more, *[""] * 8, dollars(sum(line.cost or 0 for line in rest))))
    return _section("Calls", _CALLS, rows, s.cost)


def _member(m: Member) -> Sequence[Cell]:
    tokens = f"{m.tokens} (+ {m.untold} calls unknown)" if m.untold else m.tokens
    return m.mind, m.member, m.finished, m.failed, m.abandoned, tokens, dollars(m.cost)


def _move(m: Move) -> Sequence[Cell]:
    return m.why, m.at, m.note, m.seq, dollars(m.amount)


def _call(line: Line) -> Sequence[Cell]:
    said = (line.prompt_tokens, line.completion_tokens)
    marks = [line.state, *(["another model"] if line.mismatch else [])]
    marks += ["late"] if line.late else []
    who = (line.at, line.request, line.mind, line.member, line.ended)
    cost = "unknown" if line.cost is None else dollars(line.cost)
    return (*who, *said, ", ".join(marks), line.seq, cost)


def _section(title: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], total: int) -> str:
    """A table with its sum; nothing where it has no rows. # marks columns of numbers."""
    numbers = tuple(column.startswith("#") for column in columns)
    body = "".join(_row(row, numbers) for row in rows)
    if not body:
        return ""
    head = _row([column.removeprefix("#") for column in columns], numbers, tag="th")
    foot = _row(("Sum", *[""] * (len(columns) - 2), dollars(total)), numbers, "sum")
    table = f"<table><thead>{head}</thead><tbody>{body}{foot}</tbody></table>"
    return f'<h2>{title}</h2><div class="wide">{table}</div>'


def _row(cells: Sequence[Cell], numbers: Sequence[bool], kind: str = "", *, tag: str = "td") -> str:
    made = "".join(
        f"<{tag}{' class=n' if number else ''}>{'?' if c is None else escape(str(c))}</{tag}>"
        for c, number in zip(cells, numbers, strict=True)
    )
    return f"<tr{f' class={kind}' if kind else ''}>{made}</tr>"
