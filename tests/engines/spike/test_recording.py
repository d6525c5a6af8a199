"""Recordings: read as they were written, cut into steps, and refused where they are none."""

from __future__ import annotations

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from bicameral.engines.spike import recording
from bicameral.engines.spike.recording import Grid, Recording, read, steps
from bicameral.errors import RequestError

GOOD = {
    "x": np.array([0, 3, 1]),
    "y": np.array([1, 0, 1]),
    "t": np.array([5, 10, 10]),
    "p": np.array([1, 0, 1]),
    "width": np.array(4),
    "height": np.array(2),
}


def npz(**changed) -> bytes:
    out = io.BytesIO()
    arrays = {k: v for k, v in (GOOD | changed).items() if v is not None}
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def refused(data: bytes, match: str) -> None:
    with pytest.raises(RequestError, match=match) as caught:
        read(data, "recording 1")
    assert caught.value.param == "messages"
    assert "recording 1" in str(caught.value)


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.uint16, np.int32])
def test_what_was_written_is_read(kind):
    found = read(npz(**{k: v.astype(kind) for k, v in GOOD.items()}), "recording 1")
    assert found.x.tolist() == [0, 3, 1]
    assert found.y.tolist() == [1, 0, 1]
    assert found.t.tolist() == [0, 5, 5]
    assert found.p.tolist() == [1, 0, 1]
    assert (found.width, found.height) == (4, 2)


def test_polarity_may_be_bool():
    assert read(npz(p=np.array([True, False, True])), "recording 1").p.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"t": None}, "no array 't'"),
        ({"width": None}, "no array 'width'"),
        ({"t": np.array([10, 5, 10])}, "go back"),
        ({"t": np.array([10, 5, 10], dtype=np.uint64)}, "go back"),
        ({"t": np.array([0, 1, 2**63], dtype=np.uint64)}, "beyond"),
        ({"x": np.array([0, 4, 1])}, "'x' outside 0 to 3"),
        ({"y": np.array([0, -1, 1])}, "'y' outside 0 to 1"),
        ({"p": np.array([0, 2, 1])}, "'p' outside"),
        ({"x": np.array([0, 3])}, "different lengths"),
        ({"x": np.array([[0, 3, 1]])}, "shape"),
        ({"x": np.array(3)}, "single number"),
        ({"x": np.array([0.0, 1.0, np.nan])}, "whole numbers"),
        ({"t": np.array(["a", "b", "c"])}, "whole numbers"),
        ({"width": np.array(0)}, "width"),
        ({"width": np.array([4, 4])}, "width"),
        ({"width": np.array(2**20), "height": np.array(2**20)}, "pixels"),
    ],
)
def test_what_is_no_recording_is_refused(changed, match):
    refused(npz(**changed), match)


def test_a_pickle_is_never_opened():
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    refused(npz(x=np.array([Trap()] * 3, dtype=object)), "whole numbers")


@pytest.mark.parametrize("cut", [0, 1, 30, 300, -1, -30])
def test_a_file_that_is_cut_is_refused(cut):
    refused(npz()[:cut], "npz")


def test_every_flipped_byte_is_read_or_refused_in_our_words():
    good = npz()
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 0x41
        try:
            read(bytes(bad), "recording 1")
        except RequestError:
            continue


@pytest.mark.parametrize("shape", ["(9999999999,)", "(10**9", "(-3,)", "('a',)", "(2**99,)"])
def test_a_header_is_not_believed(shape):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for key, value in GOOD.items():
            text = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
            forged = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
            body = io.BytesIO()
            np.save(body, value)
            archive.writestr(f"{key}.npy", forged + bytes(24) if key == "x" else body.getvalue())
    tracemalloc.start()
    refused(out.getvalue(), ".")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


def test_a_bomb_is_refused_before_it_is_unpacked(monkeypatch):
    monkeypatch.setattr(recording, "MOST_BYTES", 100_000)
    bomb = npz(x=np.zeros(10**6, dtype=np.int64))
    assert len(bomb) < 10_000
    refused(bomb, "send it in parts")


def test_steps_hold_each_input_once_and_cover_the_gaps():
    events = Recording(
        *(np.array(v) for v in ([0, 0, 3, 1], [0, 0, 1, 0], [0, 99, 100, 350], [1, 1, 0, 1])), 4, 2
    )
    found = [s.tolist() for s in steps(events, Grid(2, 2, 4), 1e-4)]
    assert found == [[8], [7], [], [9]]
    assert [s.tolist() for s in steps(events, Grid(1, 1, 2), 4e-4)] == [[0, 1]]


def test_steps_of_a_long_recording_are_the_same_in_pieces(monkeypatch):
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 10**5, 500))
    zeros = np.zeros(500, dtype=int)
    events = Recording(rng.integers(0, 9, 500), zeros, t - t[0], zeros, 9, 1)
    whole = [s.tolist() for s in steps(events, Grid(1, 1, 9), 1e-4)]
    monkeypatch.setattr(recording, "_AT_ONCE", 7)
    assert [s.tolist() for s in steps(events, Grid(1, 1, 9), 1e-4)] == whole
    assert sum(map(len, whole)) > 300
