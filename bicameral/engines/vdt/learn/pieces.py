"""Training in pieces: states that are kept, a log that fits them, and a loop that can be stopped.

A piece ends at a step's end: when all steps are done, when its minutes are up, or when somebody
asks; then the state is saved, and the next piece goes on as if there had been no end.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from bicameral.errors import WeightsError

_KEPT = 2
_EVERY = 10  # steps to a line of the log
GO, SAVE, LOOK, TIME, ASKED = range(5)
"""What the first process decides after a step: to go on, to save, to look, or why to stop."""


class Learner(Protocol):
    """What goes step by step and can be saved between any two."""

    step_count: int

    def step(self) -> float:
        """One update; its loss."""
        ...

    def save(self, path: Path, **more: object) -> None:
        """All that is needed to go on from here, and `more`."""
        ...

    def load(self, path: Path) -> dict[str, object]:
        """Go on from there; returns `more`. WeightsError: the file is damaged."""
        ...


class Shown(Protocol):
    """Where a training is watched."""

    def say(self, text: str) -> None:
        """A line."""
        ...

    def begin(self, what: str, steps: int, done: int) -> None:
        """So many steps are to come, `done` of them are behind."""
        ...

    def tell(self, step: int, loss: float, speed: float) -> None:
        """Now `step` steps are done; `speed` in clips a second."""
        ...


class States:
    """The last two states of a learner in `folder`; what is there was there whole or not at all."""

    def __init__(self, folder: Path, stem: str) -> None:
        self._folder, self._stem = folder, stem

    def save(self, learner: Learner, **more: object) -> None:
        """As of now; older ones than the last two go."""
        learner.save(self._folder / f"{self._stem}-{learner.step_count:08}.safetensors", **more)
        for old in self._paths()[_KEPT:]:
            old.unlink()

    def restore(self, learner: Learner, said: Callable[[str], None]) -> dict[str, object] | None:
        """Go on from the newest that can be read; None if there is none, WeightsError if all fail.

        One that is damaged is told of and removed, for it would count as one of the last two.
        """
        paths = self._paths()
        for path in paths:
            try:
                held = learner.load(path)
            except WeightsError as error:
                said(f"warning: {error}; going back to the state before it")
                continue
            for newer in paths[: paths.index(path)]:
                newer.unlink(missing_ok=True)
            return held
        if paths:
            raise WeightsError(
                f"none of the states in {self._folder} can be read: remove "
                f"{self._stem}-*.safetensors there to begin anew"
            )
        return None

    def _paths(self) -> list[Path]:
        """Newest first."""
        return sorted(self._folder.glob(f"{self._stem}-*.safetensors"), reverse=True)


class Row(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of the log; `loss` is the mean since the line before, `tasks` are held-out losses."""

    step: int
    seconds: float
    loss: float | None = None
    rate: float | None = None
    clips_per_s: float | None = None
    tasks: dict[str, float] | None = None


class Log:
    """Lines of JSON that are never ahead of the state they belong to."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def cut(self, step: int) -> None:
        """Forget what came after `step`: it will come again."""
        rows = [row for row in self.rows() if row.step <= step]
        partly = self._path.with_name(f".{self._path.name}.part")
        partly.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
        os.replace(partly, self._path)

    def write(self, row: Row) -> None:
        """One more line."""
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(row) + b"\n")

    def rows(self) -> list[Row]:
        """All whole lines."""
        if not self._path.exists():
            return []
        lines = self._path.read_bytes().split(b"\n")[:-1]
        try:
            return [msgspec.json.decode(line, type=Row) for line in lines if line]
        except msgspec.MsgspecError as error:
            raise WeightsError(f"{self._path} is not a log of training: {error}") from error


class Pace(Struct, frozen=True, kw_only=True):
    """When to stop, by `clock`; seconds between saves; steps between looks, 0 for none."""

    until: float | None = None
    save: float = 120.0
    look: int = 500
    clock: Callable[[], float] = time.monotonic


class Piece:
    """One learner's piece of work in a folder; `run` tells why it ended."""

    def __init__(
        self,
        learner: Learner,
        states: States,
        log: Log,
        pace: Pace,
        shown: Shown,
        *,
        batch: int,
        rate: Callable[[int], float],
        look: Callable[[], Mapping[str, float]] = dict,
        asked: Callable[[], bool] = lambda: False,
        agreed: Callable[[int], int] = lambda code: code,
        first: bool = True,
    ) -> None:
        self._learner, self._states, self._log, self._pace = learner, states, log, pace
        self._shown, self._batch, self._rate, self._look = shown, batch, rate, look
        self._asked, self._agreed, self._first = asked, agreed, first
        self.before = 0.0  # seconds of training in the pieces before
        self._window: list[float] = []
        self._began = self._saved = self._lined = pace.clock()

    @property
    def seconds(self) -> float:
        """Of training, in all pieces so far."""
        return self.before + self._pace.clock() - self._began

    def restore(self) -> None:
        """Where the last piece ended."""
        held = self._states.restore(self._learner, self._shown.say)
        if held:
            self.before = float(str(held.get("seconds", 0)))
            window = held.get("window")
            self._window = [float(each) for each in window] if isinstance(window, list) else []
        if self._first:
            self._log.cut(self._learner.step_count)

    def run(self, what: str, steps: int) -> int:
        """Until `steps` are done (GO), the time is up (TIME) or somebody asked (ASKED)."""
        learner, pace = self._learner, self._pace
        self._shown.begin(what, steps, learner.step_count)
        self._began = self._saved = self._lined = pace.clock()
        fresh = learner.step_count
        while learner.step_count < steps:
            code = self._agreed(self._decided(learner.step_count > fresh))
            if code in (TIME, ASKED):
                self._save()
                return code
            if code == SAVE:
                self._save()
            self._took(learner.step(), steps)
        self._save()
        return GO

    def _decided(self, moved: bool) -> int:
        """Between two steps; the first process's word counts for all."""
        now = self._pace.clock()
        if self._asked():
            return ASKED
        if moved and self._pace.until is not None and now >= self._pace.until:
            return TIME
        return SAVE if now - self._saved >= self._pace.save else GO

    def _took(self, loss: float, steps: int) -> None:
        """Book a step."""
        if not self._first:
            return
        step = self._learner.step_count
        self._window.append(loss)
        if step % _EVERY == 0 or step == steps:
            self._line(step)
        if self._pace.look and (step % self._pace.look == 0 or step == steps):
            tasks = dict(self._look())
            if tasks:
                self._log.write(Row(step=step, seconds=round(self.seconds, 3), tasks=tasks))

    def _line(self, step: int) -> None:
        now, count = self._pace.clock(), len(self._window)
        loss, speed = sum(self._window) / count, count * self._batch / max(now - self._lined, 1e-9)
        rate = self._rate(step - 1)
        self._log.write(
            Row(
                step=step,
                seconds=round(self.seconds, 3),
                loss=loss,
                rate=rate,
                clips_per_s=round(speed, 3),
            )
        )
        self._shown.tell(step, loss, speed)
        self._window, self._lined = [], now

    def _save(self) -> None:
        if self._first:
            self._states.save(self._learner, seconds=self.seconds, window=self._window)
        self._saved = self._pace.clock()


class Silent:
    """Nobody watches: another process is watched."""

    def say(self, text: str) -> None:
        """Not said."""

    def begin(self, what: str, steps: int, done: int) -> None:
        """Not shown."""

    def tell(self, step: int, loss: float, speed: float) -> None:
        """Not shown."""


@contextmanager
def asking(*, deaf: Collection[int] = ()) -> Iterator[Callable[[], bool]]:
    """Whether somebody has asked to stop, by Ctrl-C or SIGTERM; a second Ctrl-C interrupts at once.

    `deaf` are signals that are another process's to hear.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number: int, frame: Any) -> None:
        asked.set()
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, signal.SIG_IGN if number in deaf else ask)
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
