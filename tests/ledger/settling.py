"""A book in memory for the tests of settling: entries with numbers, times and hashes."""

from __future__ import annotations

from datetime import UTC, datetime

from bicameral.ledger.entry import (
    CALLER,
    CASH,
    GENESIS,
    MARGIN,
    OWNER,
    Body,
    Booking,
    Transfer,
    Written,
    canonical,
    effects,
    link,
)
from bicameral.usage import Call, Usage


def at(day: str) -> int:
    """Unix milliseconds of noon of a day, UTC."""
    return int(datetime.fromisoformat(f"{day}T12:00:00").replace(tzinfo=UTC).timestamp()) * 1000


class Entries(list[Written]):
    """What was written, in order."""

    def put(self, body: Body, day: str) -> None:
        assert sum(amount for _, amount in body.postings) == 0
        before, seq, text = self[-1].hash if self else GENESIS, len(self) + 1, canonical(body)
        digest = link(before, seq, body.id, at(day), text)
        self.append(Written(seq=seq, id=body.id, at=at(day), body=text, hash=digest))

    def answered(self, day: str, *calls: Call, paid: int, **fields) -> None:
        """A request to the mind m that cost what its calls say, and for which `paid` was paid."""
        cost = sum(call.cost or 0 for call in calls)
        postings = {f"{CALLER}/k": -paid, f"{MARGIN}/{fields.get('mind', 'm')}": paid - cost}
        for call in calls:
            name = f"{OWNER}/{call.owner or call.model}"
            postings[name] = postings.get(name, 0) + (call.cost or 0)
        given = {"mind": "m", "ended": "finished", "request": f"r{len(self) + 1}"} | fields
        body = Booking(
            id=f"{len(self) + 1}/end",
            postings=tuple((account, amount) for account, amount in postings.items() if amount),
            caller="k",
            day=day,
            calls=calls,
            paid=paid,
            **given,
        )
        self.put(body, day)

    def paid_out(self, day: str, owner: str, amount: int) -> None:
        """Money goes to an owner."""
        postings = ((f"{OWNER}/{owner}", -amount), (CASH, amount))
        self.put(Transfer(id=f"t{len(self)}", why="payout", postings=postings), day)

    def tally(self, name: str) -> int:
        """What an account stands at."""
        from bicameral.ledger.entry import read

        pairs = (pair for entry in self for pair in effects(read(entry.body)))
        return sum(amount for account, amount in pairs if account == f"account/{name}")


def call(
    model: str, owner: str = "", cost: int | None = 0, tokens: int | None = 10, **more
) -> Call:
    """A finished call of `tokens` in and out together."""
    said = None if tokens is None else tokens // 2
    asked = None if tokens is None else tokens - tokens // 2
    usage = Usage(prompt_tokens=asked, completion_tokens=said)
    return Call(model=model, owner=owner, cost=cost, usage=usage, **more)
