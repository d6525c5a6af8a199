"""The net as a perceiver: of a clip it tells whether what happens follows from what went before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bicameral.engines.vdt.fit import Shape
from bicameral.types import Percept, Video

if TYPE_CHECKING:
    from bicameral.engines.vdt.asking import Habits
    from bicameral.engines.vdt.calibration import Calibration, Verdict
    from bicameral.engines.vdt.load import Loaded

DOUBTED = 0.05
"""A clip that a smaller share of possible ones equal in surprise is doubted."""
REFERENCE = "messages"


def percept(
    name: str, loaded: Loaded, usual: Calibration, clip: Video, habits: Habits, source: int = 0
) -> Percept:
    """What the net of the model `name` makes of the clip, brought to the size of its own.

    RequestError if it is no clip, is too short to tell, or has more frames than the member takes.
    """
    from bicameral.engines.vdt.calibration import judged
    from bicameral.engines.vdt.film import decode
    from bicameral.engines.vdt.surprise import of_film

    design = loaded.design
    shape = Shape(design.height, design.width, design.channels)
    found = decode(
        clip.data or b"",
        fit=lambda frame: shape.fit(frame, REFERENCE),
        most=habits.max_frames,
        param=REFERENCE,
    )
    verdict = judged(of_film(name, loaded, found.film, usual.way, usual.scale), usual)
    return worded(verdict, found.fps or habits.fps, len(found.film), source)


def worded(verdict: Verdict, fps: float, frames: int, source: int = 0) -> Percept:
    """The verdict as words for a language model, with the time of what is doubted.

    Of a world unlike the net's own nothing is claimed: there all is surprising.
    """
    end = frames / fps
    if verdict.strange:
        text = (
            "looks unlike what the net was trained on, so whether its motion is possible "
            "cannot be told"
        )
        return Percept(kind="event", text=text, source=source, start=0.0, end=end)
    if verdict.p > DOUBTED:
        text = f"motion as expected (p {verdict.p:.2f})"
        return Percept(kind="event", text=text, source=source, start=0.0, end=end)
    frame = verdict.surprise.frame
    return Percept(
        kind="event",
        text=f"motion that does not follow from what went before (p {verdict.p:.2g})",
        source=source,
        confidence=1 - verdict.p,
        start=frame / fps,
        end=(frame + 1) / fps,
    )
