"""Real clips through the gates. Nobody marked events in them, so there is no recall.

Each clip is played forth and back without a cut, at 5 frames a second, for five minutes: after the
first minute nothing in it is new. What share of the seconds a gate would still make calls in shows
how it takes real noise, compression and motion that never ends; thresholds are those of the
synthetic streams.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scenes
from gates_streams import ARMS, calls
from numpy.typing import NDArray

SECONDS, LEARNING = 300, 60


def frames(path: Path) -> list[NDArray[np.uint8]]:
    """One frame of each fifth of a second."""
    import cv2

    clip = cv2.VideoCapture(str(path))
    rate, kept, index = clip.get(cv2.CAP_PROP_FPS), [], 0
    while True:
        more, image = clip.read()
        if not more:
            return kept
        if index * scenes.FPS // rate >= len(kept):
            kept.append(np.ascontiguousarray(image[:, :, ::-1]))
        index += 1


def table(folder: Path, limits: dict[str, tuple[int, float]]) -> Iterator[str]:
    """Share of the seconds with a call, per clip and gate."""
    yield "| seconds with a call | " + " | ".join(limits) + " |"
    yield "|---" * (len(limits) + 1) + "|"
    for path in sorted(folder.rglob("*.mp4")):
        images = frames(path)
        order = [*range(len(images)), *range(len(images) - 2, 0, -1)]
        cells = []
        for name, (setting, limit) in limits.items():
            gate = ARMS[name][setting]()
            scores = []
            for index in range(SECONDS * scenes.FPS):
                pixels = images[order[index % len(order)]]
                frame = scenes.Frame(index=index, at=index / scenes.FPS, pixels=pixels)
                scores.append(gate.score(frame))
            made = calls(np.array(scores), limit)
            late = (made >= LEARNING * scenes.FPS).sum() / (SECONDS - LEARNING)
            cells.append(f"{late:.0%}")
        size = f"{images[0].shape[1]}x{images[0].shape[0]}"
        yield f"| {path.stem} ({size}, {len(images) / 5:.0f} s) | {' | '.join(cells)} |"
