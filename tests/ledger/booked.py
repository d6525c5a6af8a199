"""What the book says of requests that were made in a test."""

from __future__ import annotations

from pathlib import Path

from bicameral.ledger import entry
from bicameral.ledger.entry import Booking
from bicameral.ledger.store import Store
from bicameral.usage import Call

HEAD = """
[ledger]
path = "{path}"
[journal]
enabled = false
"""


def bookings(path: Path) -> list[Booking]:
    """Every booking in the closed book at `path`, whose postings must add up."""
    store = Store(f"sqlite:///{path}")
    try:
        bodies = [entry.read(written.body) for written in store.entries()]
    finally:
        store.close()
    found = [body for body in bodies if isinstance(body, Booking)]
    assert len({body.id for body in found}) == len(found)
    assert all(sum(amount for _, amount in body.postings) == 0 for body in found)
    assert not any(body.late for body in found)
    return found


def only(path: Path) -> tuple[Booking, Call]:
    """The one booking and its one call."""
    (booking,) = bookings(path)
    (call,) = booking.calls
    return booking, call
