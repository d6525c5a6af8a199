"""No gate: every frame is worth waking for, so only the budget decides. What others are held to."""

from __future__ import annotations

from bicameral.right.stream.frame import Frame


def open() -> Always:
    """A gate without a state."""
    return Always()


class Always:
    """Scores 1."""

    name = "none"
    threshold = 0.5

    def score(self, frame: Frame) -> float:
        """1."""
        return 1.0

    def reset(self) -> None:
        """There is nothing to forget."""
