"""Whether balls in a clip move as balls do: measured against the flight that the clip should show.

Only frames in which the true ball is whole in view count, as one that is cut has no known centre.
A ball that should be there and is not is counted as lost and leaves a gap in the other numbers,
so read them together. What the same numbers are on true clips is the floor of the parser.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import asdict
from numpy.typing import NDArray

from bicameral.engines.vdt.score.impacts import Bounce, bounces, quiet
from bicameral.engines.vdt.score.parse import Seen, parse
from bicameral.engines.vdt.worlds.balls import (
    BLUE,
    RED,
    SIDE,
    STEP,
    Flight,
    Scene,
    draw,
    fly,
)
from bicameral.errors import ConfigError

_CUT = 1e-6  # units by which a ball may be past the edge and still be whole
_STILL = 1e-9  # units/s, and below
Real = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Motion(Struct, frozen=True, kw_only=True):
    """Errors of one clip or of many: every single one in the arrays, and counts.

    Positions, radii and walls are in units of the world, speeds in units/s. `before` and `after`
    are |dx/dt - v| up to the ball's first hit and from it on. `drift` is how far the radius has
    gone from the first frame seen to the last. `momentum` is a share of the true sum of m|v|,
    `energy` of the true kinetic energy; both want every ball in view. `wall` is how deep a ball is
    in a wall. `pieces` is how many too many or too few there are, by frame and colour. `timing` is
    how many frames too early or too late a ball turns at an impact.
    """

    position: Real
    before: Real
    after: Real
    radius: Real
    drift: Real
    momentum: Real
    energy: Real
    wall: Real
    pieces: Real
    timing: Real
    due: int  # balls that should be seen, by frame
    lost: int  # of them, not seen
    impacts: int  # of a ball, that the clip should show
    right: int  # of them, followed by the right direction, within 45 degrees
    missed: int  # of them, not there: the ball does not turn
    unseen: int  # of them, of a ball lost around then


def motion(
    clip: NDArray[np.uint8] | NDArray[np.floating],
    scene: Scene,
    flight: Flight,
    *,
    made: Sequence[int] | None = None,
    step: float = STEP,
) -> Motion:
    """The errors of a clip (T, size, size, 3) that should show that flight, `step` s a frame.

    Only the frames `made`, by number, are scored, where some were given; and pairs of frames of
    which one was made. Raises ConfigError where two balls have one colour: they cannot be told
    apart.
    """
    colors = [ball.color for ball in scene.balls]
    if len(set(colors)) < len(colors):
        raise ConfigError("balls of one colour cannot be told apart: give each its own")
    others = [color for color in (RED, BLUE) if color not in colors]
    seen = parse(clip, [*colors, *others])
    if len(seen.at) != len(flight.states):
        raise ConfigError(f"{len(seen.at)} frames, but a flight of {len(flight.states)}")
    frames = np.zeros(len(flight.states), bool)
    frames[slice(None) if made is None else list(made)] = True
    return _compared(seen, scene, flight, frames, step)


def floor(scenes: Iterable[Scene], frames: int, size: int) -> Motion:
    """What the parser itself gets wrong, on true clips of `size` px: no clip can score better."""
    flights = ((scene, fly(scene, frames)) for scene in scenes)
    return pooled(motion(draw(s, f.states, size), s, f) for s, f in flights)


def pooled(motions: Iterable[Motion]) -> Motion:
    """The errors of many clips as one, each error weighing the same."""
    columns = [list(asdict(each).values()) for each in motions]
    if not columns:
        raise ConfigError("there are no clips to score")
    joined: list[Any] = [
        np.concatenate(values) if isinstance(values[0], np.ndarray) else sum(values)
        for values in zip(*columns, strict=True)
    ]
    return Motion(**dict(zip(Motion.__struct_fields__, joined, strict=True)))


def summary(found: Motion, size: int) -> dict[str, float | int | None]:
    """The mean of every error, and the counts; None where there was nothing to measure.

    `position_px` is the mean error of the position in px of clips of `size` px.
    """
    means = {
        name: (float(value.mean()) if value.size else None)
        if isinstance(value, np.ndarray)
        else value
        for name, value in asdict(found).items()
    }
    position = means["position"]
    return {"position_px": None if position is None else position * size / SIDE, **means}


def _compared(seen: Seen, scene: Scene, flight: Flight, made: Flags, step: float) -> Motion:
    count = len(scene.balls)
    at, radius, true = seen.at[:, :count], seen.radius[:, :count], flight.states[..., :2]
    radii = np.array([ball.radius for ball in scene.balls])
    whole = _whole(true, radii)
    due = whole & made[:, None]
    there = due & np.isfinite(radius)
    shown = whole[1:] & whole[:-1] & (made[1:] | made[:-1])[:, None]
    speeds, rightly = np.diff(at, axis=0) / step, np.diff(true, axis=0) / step
    steady, early = quiet(flight, step)
    known = shown & steady & np.isfinite(speeds).all(-1)
    off = np.linalg.norm(speeds - rightly, axis=-1)
    momentum, energy = _kept(speeds, rightly, radii**2, known)
    return Motion(
        position=np.linalg.norm((at - true)[there], axis=-1),
        before=off[known & early],
        after=off[known & ~early],
        radius=np.abs(radius - radii)[there],
        drift=_drift(radius, there),
        momentum=momentum,
        energy=energy,
        wall=_depth(at, radii)[there] if scene.walls else np.zeros(0),
        pieces=_miscounted(seen.pieces, true, radii, whole)[made].compressed(),
        due=int(due.sum()),
        lost=int((due & ~there).sum()),
        **_turns(bounces(speeds, rightly, shown, flight, step)),
    )


def _whole(true: Real, radii: Real) -> Flags:
    """(T, balls): whether all of a ball is in view."""
    slack = np.minimum(true - radii[:, None], SIDE - radii[:, None] - true)
    return np.asarray(slack.min(-1) >= -_CUT)


def _turns(found: list[Bounce]) -> dict[str, Any]:
    seen = [bounce for bounce in found if bounce.seen]
    return {
        "timing": np.array([abs(bounce.late) for bounce in seen if bounce.turned], np.float64),
        "impacts": len(found),
        "right": sum(bounce.right for bounce in seen),
        "missed": sum(not bounce.turned for bounce in seen),
        "unseen": len(found) - len(seen),
    }


def _kept(speeds: Real, true: Real, masses: Real, known: Flags) -> tuple[Real, Real]:
    """Errors of momentum and of energy of the pairs of frames in which every ball is known."""
    every = known.all(1)
    one, other = speeds[every], true[every]
    pull = np.linalg.norm((masses[:, None] * (one - other)).sum(1), axis=-1)
    flow = (masses * np.linalg.norm(other, axis=-1)).sum(1)
    had, has = ((masses * (v * v).sum(-1)).sum(1) for v in (other, one))
    moving = had > _STILL
    return (pull[moving] / flow[moving], np.abs(has - had)[moving] / had[moving])


def _drift(radius: Real, there: Flags) -> Real:
    seen = [radius[there[:, ball], ball] for ball in range(radius.shape[1])]
    return np.array([abs(each[-1] - each[0]) for each in seen if len(each) > 1], np.float64)


def _depth(at: Real, radii: Real) -> Real:
    return np.maximum(radii[:, None] - at, at + radii[:, None] - SIDE).max(-1).clip(0)


def _miscounted(pieces: NDArray[np.int64], true: Real, radii: Real, whole: Flags) -> Any:
    """(T, colours), masked where a ball is cut: how far the number of its pieces is off."""
    due = np.zeros(pieces.shape)
    due[:, : len(radii)] = whole
    gone = ((true <= -radii[:, None]) | (true >= SIDE + radii[:, None])).any(-1)
    unclear = np.zeros(pieces.shape, bool)
    unclear[:, : len(radii)] = ~whole & ~gone
    return np.ma.masked_array(np.abs(pieces - due), unclear)
