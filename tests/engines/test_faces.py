"""The face finder on a real photograph, and around its net."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

np = pytest.importorskip("numpy", reason="needs pip install 'bicameral[see]'")

from bicameral.engines import faces  # noqa: E402
from bicameral.engines.media.picture import decode  # noqa: E402
from bicameral.engines.weights import locate  # noqa: E402
from bicameral.errors import Broken, ConfigError, WeightsError  # noqa: E402

# Where the face is in Grace Hopper's portrait, as shares of its sides.
FACE = (0.36, 0.24, 0.66, 0.56)


def finder(**keys) -> faces.Finder:
    pytest.importorskip("cv2", reason="needs pip install 'bicameral[see]'")
    try:
        locate(faces.WEIGHTS)
    except WeightsError as error:
        pytest.skip(str(error))
    return faces.Finder("faces", faces.Options(engine="faces", **keys))


@pytest.fixture(scope="module")
def portrait():
    """Rear Admiral Hopper, by the US Navy (public domain); it comes with matplotlib."""
    library = pytest.importorskip("matplotlib", reason="needs pip install 'bicameral[learn]'")
    path = Path(library.get_data_path(), "sample_data", "grace_hopper.jpg")
    return decode(path.read_bytes())


def overlap(a, b) -> float:
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, wide) * max(0.0, high)
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return shared / (sum(areas) - shared)


def test_a_face_is_found_where_it_is(portrait):
    (face,) = finder().look(portrait)
    assert face.kind == "face"
    assert face.confidence > 0.8
    assert overlap(face.box, FACE) > 0.6


@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_small_face_in_any_corner_of_a_large_picture(portrait, corner):
    """A fifteenth of the side: the whole, made small for the net, would not show it."""
    room = np.full((2000, 2000, 3), 120, np.uint8)
    small = portrait[::2, ::2]
    high, wide = small.shape[:2]
    top, left = corner[0] * (2000 - high), corner[1] * (2000 - wide)
    room[top : top + high, left : left + wide] = small
    found = finder().look(room)
    x0, y0, x1, y1 = FACE
    expected = (left + x0 * wide, top + y0 * high, left + x1 * wide, top + y1 * high)
    assert overlap(found[0].box, [side / 2000 for side in expected]) > 0.5


def test_two_faces_are_two(portrait):
    found = finder().look(np.hstack([portrait, portrait]))
    assert len(found) == 2
    left, right = sorted(face.box[0] for face in found)
    assert right - left == pytest.approx(0.5, abs=0.05)


def test_nobody_is_seen_where_nobody_is():
    assert finder().look(np.full((400, 900, 3), 90, np.uint8)) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (256, 256), (900, 30)])
def test_pictures_of_odd_shapes(shape):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for face in finder(floor=0.0).look(noise)[:50]:
        assert all(0 <= side <= 1 for side in face.box)


def test_other_weights_are_refused(tmp_path):
    pytest.importorskip("cv2", reason="needs pip install 'bicameral[see]'")
    other = tmp_path / "other.tflite"
    other.write_bytes(b"not a net")
    with pytest.raises(WeightsError, match="OpenCV cannot read"):
        faces.Finder("faces", faces.Options(engine="faces", weights=str(other)))


def test_a_failure_of_opencv_is_an_error_of_ours(portrait):
    net = finder()
    with pytest.raises(Broken, match="OpenCV failed"):
        net._run(np.zeros((1, 7, 3, 3), np.float32))
    assert len(net.look(portrait)) == 1


async def test_weights_that_were_not_pulled_are_named(monkeypatch, tmp_path):
    pytest.importorskip("cv2", reason="needs pip install 'bicameral[see]'")
    monkeypatch.setenv("BICAMERAL_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="run `bicameral pull blazeface-back`"):
        async with faces.open("faces", faces.Options(engine="faces")):
            pass


def test_a_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ConfigError, match=r"pip install 'bicameral\[see\]'"):
        faces.Finder("faces", faces.Options(engine="faces"))
