"""A process that books under load, to be killed.

It writes down the id of each booking once `settle` says that it is on disk. Every third one is sent
without a hold and under an id that the next process sends again.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TextIO

import psycopg  # noqa: F401  imported before the processes fork, as is what the next line brings
import sqlalchemy.dialects.sqlite  # noqa: F401

from bicameral.errors import LedgerError, LimitError
from bicameral.ledger.book import Book
from tests.ledger.entries import booking, key, wanted

KEY = key("ann", ever_money=10**12)
TASKS = 20


async def book_one(book: Book, id: str, log: TextIO) -> None:
    held = None if id.startswith("again") else await book.authorise(wanted(id), KEY)
    body = booking(id, held=held)
    while True:
        try:
            await book.settle(body)
        except LedgerError:
            await asyncio.sleep(0.05)
            continue
        log.write(f"{body.id}\n")
        log.flush()
        return


async def main(url: str, prefix: str, count: int, log: TextIO) -> None:
    book = Book(url)
    numbers = iter(range(count))

    async def some() -> None:
        for number in numbers:
            try:
                again = number % 3 == 0
                await book_one(book, f"again-{number}" if again else f"{prefix}-{number}", log)
            except LimitError:
                return
            except LedgerError:
                await asyncio.sleep(0.05)

    await asyncio.gather(*(some() for _ in range(TASKS)))
    book.close()


def run(url: str, prefix: str, count: int, path: Path) -> None:
    with path.open("w") as log:
        asyncio.run(main(url, prefix, count, log))
