"""A training as a person sees it: a bar with loss, speed and time left, or lines in a log file."""

from __future__ import annotations

import time

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from bicameral import terminal

_LINE = 30.0  # seconds between two lines where there is no terminal


class Screen:
    """On stderr; a context that ends the bar."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._what, self._steps, self._last = "", 0, 0.0

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    def say(self, text: str) -> None:
        """A line, above the bar."""
        terminal.err.print(text, markup=False)

    def begin(self, what: str, steps: int, done: int) -> None:
        """A bar of `steps`, `done` of them behind."""
        self._stop()
        self._what, self._steps, self._last = what, steps, 0.0
        if done:
            self.say(f"{what}: going on after step {done:,} of {steps:,}")
        if terminal.err.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[told]}"),
                TimeRemainingColumn(),
                console=terminal.err,
            )
            self._bar.start()
            self._task = self._bar.add_task(what, total=steps, completed=done, told="")

    def tell(self, step: int, loss: float, speed: float) -> None:
        """Now `step` steps are done."""
        told = f"loss {loss:.4f}, {speed:,.1f} clips/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, told=told)
            return
        now = time.monotonic()
        if now - self._last >= _LINE or step == self._steps:
            self._last = now
            self.say(f"{self._what}: step {step:,} of {self._steps:,}, {told}")

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
