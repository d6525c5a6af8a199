"""When a score wakes reasoning: hysteresis, a cool-down, a budget, and a digest of storms.

Pure bookkeeping over (time, score): it knows neither frames nor models. Every score it is given is
answered with what became of it, so that the suppressed add up and a miss can be found.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from bicameral.right.stream.notices import Digest, Ended, Phase, Reason
from bicameral.right.stream.settings import WatchSettings

_GROWN = 1.5
_SOON = 1.0


class Seen(Struct, frozen=True, kw_only=True):
    """What a score led to. `reason` None: it woke; `ask` says for what, of which event.

    `best`: the highest score since the event was last asked about, so its frame is the one to
    keep. `ended` and `digest` are for telling.
    """

    reason: Reason | None
    ask: Phase | None = None
    id: str = ""
    best: bool = False
    ended: Ended | None = None
    digest: Digest | None = None


class Bucket:
    """Tokens that refill with the stream's time: `rate` a minute, at most `burst` saved up."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate / 60
        self._burst = burst
        self._tokens = float(burst)
        self._at: float | None = None

    def take(self, at: float) -> bool:
        """Take one, if there is one."""
        if self._at is not None and at > self._at:
            self._tokens = min(float(self._burst), self._tokens + (at - self._at) * self._rate)
        self._at = at if self._at is None else max(at, self._at)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class _Event:
    """One event as it goes on."""

    def __init__(self, number: int, at: float) -> None:
        self.id = f"e{number}"
        self.start = self.high = at
        self.asked: float | None = None
        self.asked_best = 0.0
        self.best = -1.0
        self.best_at = self.peak_at = at
        self.peak = 0.0

    def saw(self, at: float, score: float) -> bool:
        """Whether this is the best score since the last question."""
        if score > self.peak:
            self.peak, self.peak_at = score, at
        if score <= self.best:
            return False
        self.best, self.best_at = score, at
        return True


class _Storm:
    """Events that nobody was asked about, until they are told together."""

    def __init__(self) -> None:
        self.events = 0
        self.start = self.end = 0.0
        self.peak = self.peak_at = 0.0

    def add(self, start: float, end: float, peak: float, peak_at: float) -> None:
        if not self.events:
            self.start = start
        self.events += 1
        self.end = end
        if peak > self.peak:
            self.peak, self.peak_at = peak, peak_at


class Waker:
    """Decides for one source; `threshold` is in the gate's own scale."""

    def __init__(self, settings: WatchSettings, *, threshold: float, settle: float) -> None:
        self._settings = settings
        self._high = threshold
        self._low = threshold * settings.release
        self._settle = settle
        self._bucket = Bucket(settings.wakes, settings.burst)
        self._event: _Event | None = None
        self._events = 0
        self._cool_until = float("-inf")
        self._cooling = False
        self._storm = _Storm()

    def see(self, at: float, score: float) -> Seen:
        """What becomes of the frame at `at`; times must not run backwards."""
        event = self._event
        if event is None:
            if score < self._high:
                self._cooling = False
                return self._idle(at, "quiet")
            if at < self._cool_until:
                self._cooled(at, score)
                return self._idle(at, "cooldown")
            self._events += 1
            event = self._event = _Event(self._events, at)
        return self._going(event, at, score)

    def finish(self, at: float) -> list[Seen]:
        """What is still to be said when the source has ended at `at`."""
        said = []
        if self._event is not None:
            said.append(self._over(self._event, at, best=False))
        if self._storm.events:
            said.append(Seen(reason="quiet", digest=self._digest()))
        return said

    def _going(self, event: _Event, at: float, score: float) -> Seen:
        best = event.saw(at, score)
        if score >= self._low:
            event.high = at
        elif at - event.high >= self._settings.quiet:
            return self._over(event, at, best)
        reason: Reason = "ongoing"
        if event.asked is None:
            reason = "settling"
            if self._settled(event, at):
                reason = "budget"
                if self._may_ask(at):
                    return self._ask(event, "start", at, best)
        elif self._again(event, at) and self._may_ask(at):
            return self._ask(event, "update", at, best)
        return Seen(reason=reason, id=event.id, best=best)

    def _settled(self, event: _Event, at: float) -> bool:
        """Its time is up; what still grows gets as much time again."""
        time = at - event.start
        return time >= self._settle and (event.best_at < at or time >= 2 * self._settle)

    def _again(self, event: _Event, at: float) -> bool:
        """Whether it has gone on for long, or shows much more than what was asked about."""
        recheck = self._settings.recheck
        if recheck is None or event.asked is None:
            return False
        grown = event.best >= _GROWN * event.asked_best and at - event.best_at >= self._settle / 2
        return at - event.asked >= (min(recheck, _SOON) if grown else recheck)

    def _ask(self, event: _Event, phase: Phase, at: float, best: bool) -> Seen:
        event.asked, event.asked_best, event.best = at, event.best, -1.0
        return Seen(reason=None, ask=phase, id=event.id, best=best)

    def _over(self, event: _Event, at: float, best: bool) -> Seen:
        """The end of an event, which is asked about now if it was not before."""
        self._event = None
        self._cool_until = at + self._settings.cooldown
        asked = event.asked is not None
        ended = Ended(id=event.id, start=event.start, end=event.high, peak=event.peak, asked=asked)
        if not asked and self._may_ask(at):
            ended = replace(ended, asked=True)
            return Seen(reason=None, ask="start", id=event.id, best=best, ended=ended)
        if not asked:
            self._storm.add(event.start, event.high, event.peak, event.peak_at)
        seen = self._idle(at, "quiet" if asked else "budget")
        return replace(seen, id=seen.id or event.id, ended=ended)

    def _cooled(self, at: float, score: float) -> None:
        """An event that would have begun in the cool-down is part of the storm, once."""
        if not self._cooling:
            self._cooling = True
            self._storm.add(at, at, score, at)

    def _idle(self, at: float, reason: Reason) -> Seen:
        if not self._storm_due(at):
            return Seen(reason=reason)
        if self._bucket.take(at):
            return Seen(reason=None, ask="digest", id=f"d{self._events}", digest=self._digest())
        if at - self._storm.start >= 2 * self._settings.summary:
            return Seen(reason=reason, digest=self._digest())
        return Seen(reason=reason)

    def _may_ask(self, at: float) -> bool:
        """Take a token for one event, unless the next one is for the many of a storm."""
        return not self._storm_due(at) and self._bucket.take(at)

    def _storm_due(self, at: float) -> bool:
        return bool(self._storm.events) and at - self._storm.start >= self._settings.summary

    def _digest(self) -> Digest:
        storm, self._storm = self._storm, _Storm()
        return Digest(
            start=storm.start,
            end=storm.end,
            events=storm.events,
            peak=storm.peak,
            peak_at=storm.peak_at,
        )


class Account:
    """Frames that woke nobody, by reason; every `every` seconds of the stream they are told."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._began: float | None = None
        self._rows: dict[Reason, tuple[float, float, int, float, float]] = {}

    def add(self, at: float, score: float, reason: Reason) -> None:
        """One more."""
        self._began = at if self._began is None else self._began
        start, _, frames, peak, peak_at = self._rows.get(reason, (at, at, 0, -1.0, at))
        if score > peak:
            peak, peak_at = score, at
        self._rows[reason] = start, at, frames + 1, peak, peak_at

    def take_back(self, reason: Reason) -> None:
        """The last frame of that reason woke after all."""
        if reason in self._rows:
            start, end, frames, peak, peak_at = self._rows[reason]
            self._rows[reason] = start, end, frames - 1, peak, peak_at

    def due(self, at: float) -> bool:
        """Whether it is time to tell."""
        return self._began is not None and at - self._began >= self._every

    def rows(self) -> dict[Reason, tuple[float, float, int, float, float]]:
        """Per reason (start, end, frames, peak, peak_at); counting starts again."""
        rows, self._rows, self._began = self._rows, {}, None
        return {reason: row for reason, row in rows.items() if row[2]}
