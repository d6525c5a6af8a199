"""One job as it is kept and as the API shows it."""

from __future__ import annotations

import os
from typing import Any, Literal

from msgspec import Struct

Status = Literal["queued", "in_progress", "completed", "failed", "cancelled"]
STATES: tuple[Status, ...] = ("queued", "in_progress", "completed", "failed", "cancelled")


class Job(Struct, frozen=True, kw_only=True):
    """A row of the table. Times are Unix seconds; `progress` is a percentage.

    `caller` is the id of the key it came with. `tries` counts how often it was begun. `code` and
    `message` say why it failed. `stored` are the bytes of its files: of what it is to be made
    of until it has ended, of the clip from then on.
    """

    id: str
    caller: str
    model: str
    created: float
    status: Status = "queued"
    progress: int = 0
    started: float | None = None
    completed: float | None = None
    expires: float | None = None
    deadline: float | None = None
    seconds: float | None = None
    size: str | None = None
    tries: int = 0
    code: str | None = None
    message: str | None = None
    media_type: str | None = None
    stored: int = 0

    def shown(self) -> dict[str, Any]:
        """OpenAI's video object, and when it was begun."""
        error = {"code": self.code, "message": self.message} if self.code else None
        return {
            "id": self.id,
            "object": "video",
            "model": self.model,
            "status": self.status,
            "progress": self.progress,
            "created_at": int(self.created),
            "started_at": _second(self.started),
            "completed_at": _second(self.completed),
            "expires_at": _second(self.expires),
            "seconds": None if self.seconds is None else f"{round(self.seconds, 3):.10g}",
            "size": self.size,
            "error": error,
        }


def new_id() -> str:
    """An id nobody can guess; it names files too, so it holds letters, digits and one _ only."""
    return f"video_{os.urandom(16).hex()}"


def _second(at: float | None) -> int | None:
    return None if at is None else int(at)
