"""POST /v1/feedback: how good an answer of a mind was, from who got it."""

from __future__ import annotations

import msgspec

from bicameral.brain import Brain
from bicameral.errors import NotFound
from bicameral.server import decode, schema
from bicameral.server.errors import Refused
from bicameral.server.exchange import JSON, Desk, Exchange, Receive, Scope, Send

PATH = "/v1/feedback"


class Feedback:
    """Scores answers out of `brain`'s journal; the last score of an answer counts."""

    def __init__(self, brain: Brain, desk: Desk) -> None:
        self._brain = brain
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        async with Exchange(self._desk, "feedback", scope, receive, send) as exchange:
            exchange.admit()
            tree = decode.parse(await exchange.body(), self._desk.options.max_depth)
            asked = decode.typed(tree, schema.FeedbackBody)
            score = float(asked.score)
            if self._brain.journal is None:
                raise Refused(404, "the journal is switched off: no answer is known", "journal_off")
            if not await self._brain.rate(asked.id, score, caller=exchange.caller):
                raise NotFound(
                    "id: no answer of a mind is known by this id", param="id", code="unknown_answer"
                )
            told = {"object": "feedback", "id": asked.id, "score": score}
            await exchange.whole(msgspec.json.encode(told), [JSON])
