"""Tags and faces on the photographs that come with scikit-image, whose contents are known."""

from __future__ import annotations

import math
import statistics
import time
from pathlib import Path

import cv2
import numpy as np

from bicameral.engines import faces, tags
from bicameral.engines.media.picture import decode

# What may be said of each; nothing of the thousand classes is in the last ones.
PICTURES: dict[str, set[str]] = {
    "chelsea.png": {"tabby", "tiger cat", "Egyptian cat", "Persian cat"},
    "coffee.png": {"espresso", "cup", "coffee mug"},
    "camera.png": {"tripod"},
    "rocket.jpg": {"missile", "projectile"},
    "motorcycle_left.png": {"moped", "motor scooter"},
    "astronaut.png": {"space shuttle"},
    "page.png": set(),
    "text.png": set(),
    "coins.png": set(),
    "moon.png": set(),
    "clock_motion.png": {"wall clock", "analog clock"},
    "retina.jpg": set(),
    "cell.png": set(),
    "brick.png": set(),
    "grass.png": set(),
    "hubble_deep_field.jpg": set(),
    "logo.png": set(),
    "horse.png": set(),
}
PEOPLE = {"astronaut.png": 1, "camera.png": 1}
FLOORS = (0.1, 0.2, 0.3, 0.5)
FACE_FLOORS = (0.6, 0.7, 0.75, 0.8)
SHARES = (0.5, 0.3, 0.2, 0.12, 0.06)


def tags_table(folder: Path) -> None:
    net = tags.Tagger("tags", tags.Options(engine="tags", floor=min(FLOORS)))
    found, seconds = {}, []
    for name in PICTURES:
        pixels = decode((folder / name).read_bytes(), most=net.pixels)
        began = time.process_time()
        found[name] = net.look(pixels)
        seconds.append(time.process_time() - began)
    print("| picture | tags from 0.1 | first is right |")
    print("|---|---|---|")
    for name, tag in found.items():
        said = ", ".join(f"{each.text} {each.confidence:.2f}" for each in tag) or "none"
        right = "yes" if tag and tag[0].text in PICTURES[name] else "no"
        print(f"| {name} | {said} | {right if PICTURES[name] else 'nothing to name'} |")
    print(f"\nCPU s a picture, median: {statistics.median(seconds):.3f}\n")
    print("| floor | named right, of 7 | nothing or a wrong tag told of the 11 others |")
    print("|---|---|---|")
    for floor in FLOORS:
        told = {n: [t.text for t in tag if t.confidence >= floor] for n, tag in found.items()}
        known = [name for name, names in PICTURES.items() if names]
        right = sum(bool(set(told[name]) & PICTURES[name]) for name in known)
        wrong = sum(bool(told[name]) for name in PICTURES if name not in known)
        print(
            f"| {floor} | {right} of {len(known)} | {wrong} of {len(PICTURES) - len(known)} wrong |"
        )
    print()


def faces_table(folder: Path) -> None:
    """Faces of LFW, and other pieces of the same photographs, on a plain ground."""
    net = faces.Finder("faces", faces.Options(engine="faces", floor=min(FACE_FLOORS)))
    crops = (np.load(folder / "lfw_subset.npy") * 255).astype(np.uint8)
    print(
        "| share of the side | "
        + " | ".join(f"found from {f}" for f in FACE_FLOORS)
        + " | "
        + " | ".join(f"false from {f}" for f in FACE_FLOORS)
        + " |"
    )
    print("|---|" + "---|" * 2 * len(FACE_FLOORS))
    seconds: list[float] = []
    for share in SHARES:
        cells = []
        for group in (crops[:100], crops[100:]):
            sure = [_surest(net, crop, share, seconds) for crop in group]
            cells += [interval(sum(s >= floor for s in sure), len(sure)) for floor in FACE_FLOORS]
        print(f"| {share} | " + " | ".join(cells) + " |", flush=True)
    print(f"\nCPU s a picture of 400 x 400, median: {statistics.median(seconds):.3f}\n")
    _photographs(net, folder)


def _surest(net: faces.Finder, crop: np.ndarray, share: float, seconds: list[float]) -> float:
    side = round(400 * share)
    scaled = cv2.resize(crop, (side, side), interpolation=cv2.INTER_CUBIC)
    canvas = np.full((400, 400, 3), int(crop.mean()), np.uint8)
    at = (400 - side) // 2
    canvas[at : at + side, at : at + side] = scaled[:, :, None]
    began = time.process_time()
    found = net.look(canvas)
    seconds.append(time.process_time() - began)
    return max((face.confidence or 0.0 for face in found), default=0.0)


def _photographs(net: faces.Finder, folder: Path) -> None:
    print("| photograph | people | faces from 0.75 |")
    print("|---|---|---|")
    for name in PICTURES:
        found = net.look(decode((folder / name).read_bytes(), most=net.pixels))
        sure = [f"{face.confidence:.2f}" for face in found if (face.confidence or 0) >= 0.75]
        if sure or name in PEOPLE:
            print(f"| {name} | {PEOPLE.get(name, 0)} | {', '.join(sure) or 'none'} |")
    print()


def interval(hits: int, of: int) -> str:
    """The share in percent, and its 95 % interval (Wilson)."""
    z, share = 1.96, hits / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    low, high = (100 * max(0.0, middle - half), 100 * min(1.0, middle + half))
    return f"{100 * share:.0f} ({low:.0f}-{high:.0f})"
