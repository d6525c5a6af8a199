"""Entries as the till makes them, in few words."""

from __future__ import annotations

from bicameral.ledger.book import Book, Wanted, ending
from bicameral.ledger.entry import Booking, Held, KeySet, Posting, Transfer, charged
from bicameral.ledger.keys import Key, Limits
from bicameral.ledger.store import Draft, Store
from bicameral.usage import Call, Ended, Usage

NOON = 1_790_000_000_000  # 2026-09-21, in Unix milliseconds
DAY = "2026-09-21"


def key(name: str = "ann", **limits: object) -> Key:
    return Key(id=f"key_{name}", name=name, digest=f"digest of {name}", limits=Limits(**limits))


def call(cost: int | None = 30, model: str = "small", tokens: int | None = 5) -> Call:
    return Call(
        model=model,
        owner=f"{model}s",
        usage=Usage(prompt_tokens=tokens, completion_tokens=tokens),
        cost=cost,
    )


def booking(
    id: str,
    *,
    held: Held | None = None,
    cost: int | None = 30,
    paid: int = 50,
    caller: str = "key_ann",
    ended: Ended = "finished",
) -> Booking:
    """A call of so much, charged at `paid`, but no more than held; the mind keeps the rest."""
    due = charged(paid, held)
    postings = {f"caller/{caller}": -due, "overrun/operator": due - paid, "owner/smalls": cost or 0}
    postings["margin/mind"] = paid - (cost or 0)
    return Booking(
        id=ending(id),
        postings=tuple((name, n) for name, n in postings.items() if n),
        caller=caller,
        mind="mind",
        day=held.day if held else DAY,
        held=held,
        ended=ended,
        calls=(call(cost),),
        paid=paid,
        unpriced=() if cost is not None else ("small",),
    )


def wanted(id: str, most: int | None = 100, tokens: int = 10, caller: str = "key_ann") -> Wanted:
    least = min(most or 0, 10)
    return Wanted(id=id, caller=caller, mind="mind", least=least, most=most, tokens=tokens)


def moved(id: str, why: str, *postings: Posting) -> Transfer:
    return Transfer(id=id, why=why, postings=postings)


def deposit(id: str, amount: int, caller: str = "key_ann") -> Transfer:
    return moved(id, "deposit", (f"caller/{caller}", amount), ("cash/operator", -amount))


def put(store: Store, *bodies: object, at: int = NOON) -> list[bool]:
    def work(draft: Draft) -> list[bool]:
        return [draft.put(body, at) for body in bodies]

    return store.write(work)


def set_key(store: Store, key: Key, number: int = 1) -> None:
    put(store, KeySet(id=f"keyset/{key.id}/{number}", key=key))


async def asked(book: Book, id: str, key: Key, **how: object) -> None:
    """Authorise and settle."""
    held = await book.authorise(wanted(id, caller=key.id), key)
    await book.settle(booking(id, held=held, caller=key.id, **how))
