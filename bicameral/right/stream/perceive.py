"""From frames to what is worth telling: gate, wake, account. A plain generator without a model.

What it yields can cross to another process as it is: no frame among it, only small values and
encoded evidence. So a source and its gate may run apart from the reasoning.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING

from msgspec import Struct

from bicameral.right.stream.clock import Clock
from bicameral.right.stream.evidence import Ring, Shot, Sighting
from bicameral.right.stream.flow import Rate
from bicameral.right.stream.frame import Frame
from bicameral.right.stream.gates import Gate
from bicameral.right.stream.notices import Digest, Ended, Gap, Kind, Suppressed
from bicameral.right.stream.settings import WatchSettings
from bicameral.right.stream.wake import Account, Seen, Waker

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SETTLE: dict[Kind, float] = {"video": 1.0, "pictures": 0.0, "sound": 3.0, "events": 0.2}


class First(Struct, frozen=True):
    """The source's first frame has come."""


class Tally(Struct, frozen=True, kw_only=True):
    """The account of all frames that came, at the end."""

    frames: int
    woken: int
    suppressed: dict[str, int]
    rate: int


Observe = Callable[[float, float, str], None]
Told = First | Gap | Suppressed | Digest | Ended | Sighting | Tally


def perceive(
    items: Iterable[Frame | Gap],
    gate: Gate,
    settings: WatchSettings,
    kind: Kind,
    clock: Clock,
    *,
    observe: Observe | None = None,
) -> Generator[Told]:
    """All there is to tell of `items`, in order; a Tally comes last.

    `observe` is called with each frame's time, score and reason (`woken`, or a Reason), so that a
    miss can be found. The last frame comes twice if its event was still to be asked about.
    """
    yield from _Perceiving(gate, settings, kind, clock, observe).run(items)


class _Perceiving:
    """The state of one source."""

    def __init__(
        self,
        gate: Gate,
        settings: WatchSettings,
        kind: Kind,
        clock: Clock,
        observe: Observe | None,
    ) -> None:
        self._gate = gate
        self._settings = settings
        self._kind: Kind = kind
        self._clock = clock
        self._observe = observe
        settle = _SETTLE[kind] if settings.settle is None else settings.settle
        self._settle = settle
        self._waker: Waker | None = None
        # Sound is asked about as a whole, so what led to it has to be in the ring too.
        self._ring = Ring(settings.clip + (settle if kind == "sound" else 0.0))
        self._rate = Rate(settings.fps)
        self._account = Account(settings.summary)
        self._best: tuple[Frame, NDArray[np.uint8] | None, float, float] | None = None
        self._storm: tuple[Shot, float] | None = None
        self._frames = self._woken = 0
        self._suppressed: dict[str, int] = {}
        self._last: Frame | None = None

    def run(self, items: Iterable[Frame | Gap]) -> Generator[Told]:
        for item in items:
            if isinstance(item, Gap):
                if item.trouble == "changed":
                    self._gate.reset()
                yield item
                continue
            if not self._frames:
                yield First()
            self._frames += 1
            if self._kind != "video" or self._rate.passes(item):
                yield from self._frame(item)
        yield from self._rest()

    def _frame(self, frame: Frame) -> Generator[Told]:
        arrived = self._clock.now()
        score = self._gate.score(frame)
        if self._waker is None:
            self._waker = Waker(self._settings, threshold=self._threshold(), settle=self._settle)
        self._last = frame
        self._ring.add(frame)
        seen = self._waker.see(frame.at, score)
        if seen.best:
            view = None if self._kind == "sound" else self._ring.view(frame)
            self._best = frame, view, score, arrived
        if seen.reason == "cooldown":
            self._stormed(frame, score)
        self._count(frame.at, score, seen)
        yield from self._tell(frame, score, seen)
        if self._account.due(frame.at):
            yield from self._rows()

    def _threshold(self) -> float:
        """Asked for after the first frame: a gate may know its scale only then."""
        own: float = getattr(self._gate, "threshold", 0.5)
        return own if self._settings.threshold is None else self._settings.threshold

    def _tell(self, frame: Frame, score: float, seen: Seen) -> Generator[Told]:
        if seen.ended is not None and not seen.ended.asked and self._best is not None:
            best, view, peak, _ = self._best
            self._stormed(best, peak, view)
        if seen.ask == "digest" and self._storm is not None:
            shot, peak = self._storm
            yield self._sighting(seen, frame.at, peak, shot, self._clock.now())
        elif seen.ask is not None:
            best, view, peak, born = self._best or (frame, None, score, self._clock.now())
            heard = frame if self._kind == "sound" else best
            yield self._sighting(seen, best.at, peak, self._ring.shot(heard, view), born)
        if seen.digest is not None:
            self._storm = None
            yield seen.digest
        if seen.ended is not None:
            yield seen.ended
        if seen.ask is not None or seen.ended is not None:
            self._best = None

    def _stormed(self, frame: Frame, score: float, view: NDArray[np.uint8] | None = None) -> None:
        """Keep what the height of a storm looked like."""
        if self._storm is None or score > self._storm[1]:
            if view is None and self._kind != "sound":
                view = self._ring.view(frame)
            self._storm = self._ring.shot(frame, view), score

    def _sighting(self, seen: Seen, at: float, score: float, shot: Shot, born: float) -> Sighting:
        return Sighting(
            id=seen.id,
            phase=seen.ask or "start",
            at=at,
            score=score,
            kind=self._kind,
            shot=shot,
            clip=self._ring.clip(),
            born=born,
        )

    def _count(self, at: float, score: float, seen: Seen) -> None:
        if seen.reason is None:
            self._woken += 1
        else:
            self._suppressed[seen.reason] = self._suppressed.get(seen.reason, 0) + 1
            self._account.add(at, score, seen.reason)
        if self._observe is not None:
            self._observe(at, score, seen.reason or "woken")

    def _rows(self) -> Generator[Told]:
        for reason, (start, end, frames, peak, peak_at) in self._account.rows().items():
            yield Suppressed(
                reason=reason, start=start, end=end, frames=frames, peak=peak, peak_at=peak_at
            )

    def _rest(self) -> Generator[Told]:
        """What the end of the source brings about; a question at the end is of its last frame."""
        if self._last is not None and self._waker is not None:
            for seen in self._waker.finish(self._last.at):
                if seen.ask is not None:
                    self._wakes_after_all(self._last.at)
                yield from self._tell(self._last, 0.0, seen)
        yield from self._rows()
        yield Tally(
            frames=self._frames,
            woken=self._woken,
            suppressed=dict(self._suppressed),
            rate=self._rate.dropped,
        )

    def _wakes_after_all(self, at: float) -> None:
        """The last frame was put off; now it is what the question is asked about."""
        self._woken += 1
        self._suppressed["settling"] -= 1
        self._account.take_back("settling")
        if self._observe is not None:
            self._observe(at, 0.0, "woken")
