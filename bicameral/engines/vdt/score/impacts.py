"""Whether balls turn where they should: at each impact of the true flight, what the clip does."""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bicameral.engines.vdt.worlds.balls import Flight

_SPAN = 3  # pairs of frames before an impact and after it, at most, that are looked at
_FAINT = 0.5  # units/s of a change too small to judge by
_TURN = math.cos(math.pi / 4)
_STILL = 1e-9
Real = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Bounce(Struct, frozen=True):
    """One impact of one ball: whether it was seen at all, and then what it did.

    `turned`: its speed after is nearer to the one it should have than to the one it had. `right`:
    and the direction is within 45 degrees. `late` is in frames, below 0 early.
    """

    seen: bool
    turned: bool = False
    right: bool = False
    late: float = math.nan


def quiet(flight: Flight, step: float) -> tuple[Flags, Flags]:
    """(frames - 1, balls): whether a ball is not hit between two frames; whether it never was."""
    pairs, balls = len(flight.states) - 1, flight.states.shape[1]
    steady = np.ones((pairs, balls), bool)
    early = np.ones((pairs, balls), bool)
    for ball in range(balls):
        for time in _times(flight, ball, step):
            pair = math.floor(time)
            steady[pair : pair + 1, ball] = False
            early[pair:, ball] = False
    return steady, early


def bounces(speeds: Real, true: Real, shown: Flags, flight: Flight, step: float) -> list[Bounce]:
    """The impacts that (pairs, balls, 2) of speeds should show, where `shown` says what counts.

    An impact counts if the pair of frames it is in and one after it are shown, if no other is
    nearer than a frame, and if it changes the speed by half a unit per second or more.
    """
    steady, _ = quiet(flight, step)
    found = []
    for ball in range(true.shape[1]):
        column = speeds[:, ball], true[:, ball], shown[:, ball], steady[:, ball]
        times = _times(flight, ball, step)
        pairs = [math.floor(time) for time in times]
        alone = [time for time, pair in zip(times, pairs, strict=True) if pairs.count(pair) == 1]
        found += [bounce for time in alone if (bounce := _bounce(*column, time))]
    return found


def _times(flight: Flight, ball: int, step: float) -> list[float]:
    """When a ball is hit or hits, in frames."""
    return [time / step for time, one, other in flight.hits if ball in (one, other)]


def _bounce(speeds: Real, true: Real, shown: Flags, steady: Flags, time: float) -> Bounce | None:
    pair = math.floor(time)
    if pair >= len(steady) or not shown[pair]:
        return None
    before = _run(steady, range(pair - 1, max(-1, pair - 1 - _SPAN), -1))
    after = _run(steady & shown, range(pair + 1, min(len(steady), pair + 1 + _SPAN)))
    if not before or not after:
        return None
    had, due = true[before[0]], true[after[0]]
    turn = due - had
    if np.hypot(*turn) < _FAINT:
        return None
    done = (speeds[[*before, pair, *after]] - had) @ turn / (turn @ turn)
    if not np.isfinite(done).all():
        return Bounce(seen=False)
    went = speeds[after].mean(0)
    turned = bool(done[-len(after) :].mean() > 0.5)
    late = before[-1] + float((1 - done.clip(0, 1)).sum()) - time
    return Bounce(True, turned, turned and _along(went, due), late)


def _run(flags: Flags, pairs: range) -> list[int]:
    """The first of `pairs` for which the flag holds, up to one for which it does not."""
    held = []
    for pair in pairs:
        if not flags[pair]:
            break
        held.append(pair)
    return held


def _along(one: Real, other: Real) -> bool:
    """Whether two speeds have one direction; a ball that should stand still has none to miss."""
    length = float(np.hypot(*one) * np.hypot(*other))
    return np.hypot(*other) < _STILL or bool(one @ other >= _TURN * length > 0)
