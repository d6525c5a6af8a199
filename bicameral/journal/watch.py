"""Looks at the events of a mind's answer in passing and takes down its decisions at the end."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Any

from bicameral.decision import Decision
from bicameral.journal.store import Entry
from bicameral.journal.writer import Journal
from bicameral.types import Delta, Done, Event, Relay, Request, Text

log = logging.getLogger("bicameral.decisions")

LONGEST = 32_768
_WHY = 1000
_ID = re.compile(rb'"id"\s*:\s*"([^"\\]{1,128})"')


Tell = Callable[[Decision], None]
"""Gets each decision of a mind, the outer one first."""


class Watch:
    """Call it with each event; the decisions at their end go to `tell` and to the journal."""

    def __init__(self, journal: Journal | None, request: Request, caller: str, tell: Tell) -> None:
        self._journal = journal
        self._tell = tell
        self._request = request
        self._caller = caller
        self._texts = journal is not None and journal.options.prompts
        self._said: list[str] = []
        self._alias: str | None = None

    def __call__(self, event: Event) -> None:
        """Take in the next event."""
        if isinstance(event, Done):
            self._over(event.decisions)
        elif isinstance(event, Relay):
            if self._alias is None:
                found = _ID.search(event.data[:1024])
                self._alias = found[1].decode("utf-8", "replace") if found else ""
        elif self._texts and isinstance(event, Delta) and isinstance(event.part, Text):
            self._said.append(event.part.text)

    def _over(self, decisions: tuple[Decision, ...]) -> None:
        for decision in decisions:
            self._tell(decision)
        if self._journal is None or not decisions:
            return
        entry = Entry(
            id=self._request.id,
            alias=self._alias or "",
            caller=self._caller,
            at=time.time(),
            decisions=decisions,
            prompt=_stored(self._request.question) if self._texts else None,
            answer=_stored("".join(self._said)) if self._said else None,
        )
        self._journal.note(entry)


def tell(decision: Decision) -> None:
    """One line at INFO."""
    if log.isEnabledFor(logging.INFO):
        line = fields(decision)
        log.info("%s", line.pop("message"), extra={"fields": line})


def fields(decision: Decision) -> dict[str, Any]:
    """What the log tells of a decision: ids, names, figures and reasons, no text."""
    return {
        "message": decision.why[:_WHY],
        "request": decision.id,
        "mind": decision.mind,
        "policy": decision.policy,
        "asked": [asked.model for asked in decision.asked],
        "by": decision.by,
        "quality": decision.quality,
        "cost": decision.cost,
        "seconds": None if decision.seconds is None else round(decision.seconds, 6),
    }


def _stored(text: str) -> str:
    """As much as is kept, and nothing that a file could not hold."""
    return text[:LONGEST].encode("utf-8", "replace").decode()
