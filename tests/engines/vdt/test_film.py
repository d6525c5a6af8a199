"""Clips as files: what goes in comes out, and what is no clip, or a bomb, is refused by name."""

from __future__ import annotations

import io

import pytest

np = pytest.importorskip("numpy", reason="needs pip install 'bicameral[video]'")
pictures = pytest.importorskip("PIL.Image", reason="needs pip install 'bicameral[video]'")

from bicameral.engines.vdt.film import decode, encode  # noqa: E402
from bicameral.errors import RequestError, Unsupported  # noqa: E402
from tests.engines.vdt.serving import noise, packed, saved  # noqa: E402


def ball(frames: int = 6, height: int = 32, width: int = 48):
    """A grey disk that moves over a lighter ground."""
    rows, columns = np.mgrid[:height, :width]
    film = np.full((frames, height, width, 3), 200, np.uint8)
    for i in range(frames):
        film[i][(rows - height / 2) ** 2 + (columns - 10 - 4 * i) ** 2 < 60] = 60
    return film


def back(data, *, most=64, fit=lambda frame: frame):
    return decode(data, fit=fit, most=most, param="messages")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_npz_is_exact(channels) -> None:
    film = noise(3, 6, 10, channels)
    video = encode(film, 12.5, "npz")
    clip = back(video.data)
    assert video.media_type == "application/x-npz"
    assert (clip.film == film).all()
    assert clip.fps == 12.5
    assert clip.size == (6, 10)


@pytest.mark.parametrize("channels", [1, 3])
def test_png_is_all_frames_in_a_row(channels) -> None:
    film = noise(3, 6, 10, channels)
    video = encode(film, 10, "png")
    strip = np.asarray(pictures.open(io.BytesIO(video.data))).reshape(6, 30, channels)
    assert video.media_type == "image/png"
    for i in range(3):
        assert (strip[:, 10 * i : 10 * i + 10] == film[i]).all()


def test_gif_moves_at_its_rate() -> None:
    video = encode(ball(), 8, "gif")
    clip = back(video.data)
    assert video.media_type == "image/gif"
    assert clip.film.shape == (6, 32, 48, 3)
    assert abs(clip.film.astype(int) - ball()).max() <= 8
    assert clip.fps == pytest.approx(8, rel=0.05)
    with pictures.open(io.BytesIO(video.data)) as image:
        assert image.info["loop"] == 0


@pytest.mark.parametrize("size", [(32, 48), (64, 64), (2, 2), (18, 34)])
@pytest.mark.parametrize("fps", [2, 23.976])
def test_mp4_is_near_and_whole(size, fps) -> None:
    pytest.importorskip("cv2", reason="needs pip install 'bicameral[video]'")
    film = ball(6, *size)
    video = encode(film, fps, "mp4")
    clip = back(video.data)
    assert video.media_type == "video/mp4"
    assert clip.film.shape == film.shape
    assert clip.fps == pytest.approx(fps, rel=1e-3)
    error = abs(clip.film.astype(int) - film)
    assert error.mean() < 6
    assert error.reshape(6, -1).mean(axis=1).max() < 8  # the last frame as well as the first


def test_mp4_is_of_a_codec_that_browsers_play() -> None:
    pytest.importorskip("cv2", reason="needs pip install 'bicameral[video]'")
    data = encode(ball(), 10, "mp4").data
    assert b"vp09" in data or b"avc1" in data
    assert data[4:8] == b"ftyp"


def test_mp4_is_padded_to_even_sizes_by_its_own_edge() -> None:
    pytest.importorskip("cv2", reason="needs pip install 'bicameral[video]'")
    film = ball(3, 33, 47)
    clip = back(encode(film, 10, "mp4").data)
    assert clip.film.shape == (3, 34, 48, 3)
    assert abs(clip.film[:, 33, :47].astype(int) - film[:, 32]).mean() < 8
    assert abs(clip.film[:, :33, 47].astype(int) - film[:, :, 46]).mean() < 8


def test_grey_is_shown_as_grey() -> None:
    pytest.importorskip("cv2", reason="needs pip install 'bicameral[video]'")
    grey = ball()[..., :1]
    clip = back(encode(grey, 10, "mp4").data)
    assert abs(clip.film.astype(int) - grey).mean() < 6


@pytest.mark.parametrize("kind", ["mp4", "gif", "png"])
def test_only_npz_takes_other_channels(kind) -> None:
    with pytest.raises(Unsupported, match="npz") as caught:
        encode(noise(2, 4, 4, 2), 10, kind)
    assert caught.value.param == "format"


@pytest.mark.parametrize("suffix", ["avi", "webm"])
def test_other_films_are_read_by_their_first_bytes(tmp_path, suffix) -> None:
    cv2 = pytest.importorskip("cv2", reason="needs pip install 'bicameral[video]'")
    path = tmp_path / f"clip.{suffix}"
    codec = cv2.VideoWriter_fourcc(*("MJPG" if suffix == "avi" else "VP80"))
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, 10, (48, 32))
    for frame in ball():
        writer.write(frame)
    writer.release()
    assert back(path.read_bytes()).film.shape == (6, 32, 48, 3)


def test_each_frame_is_fitted_as_it_comes() -> None:
    clip = back(packed(frames=noise(5, 8, 8, 3)), fit=lambda frame: frame[:2, :2])
    assert clip.film.shape == (5, 2, 2, 3)
    assert clip.size == (8, 8)


@pytest.mark.parametrize(
    ("array", "shape"), [(noise(3, 4, 5), (3, 4, 5, 1)), (noise(3, 4, 5, 3), (3, 4, 5, 3))]
)
def test_arrays_come_bare_under_any_name_and_in_either_order(array, shape) -> None:
    for data in (saved(array), packed(x=array), saved(np.asfortranarray(array))):
        clip = back(data)
        assert clip.fps is None
        assert (clip.film == array.reshape(shape)).all()


def lying() -> bytes:
    """A header that claims more than the file has."""
    return saved(noise(2, 4, 4, 3)).replace(b"(2, 4, 4, 3)", b"(9, 4, 4, 3)")


def wide_gif() -> bytes:
    data = bytearray(encode(ball(2), 10, "gif").data)
    data[6:10] = b"\xff\xff\xff\xff"
    return bytes(data)


def pickled() -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([{}], dtype=object), allow_pickle=True)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no clip"),
        (b"not a clip at all", "no clip"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "no clip"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "no clip"),
        (b"GIF89a", "GIF"),
        (wide_gif(), "pixels"),
        (encode(ball(), 10, "gif").data[:60], "GIF|decoded"),
        (b"PK\x03\x04" + bytes(40), "whole .npy or .npz"),
        (packed(frames=noise(2, 4, 4, 3), fps=1.0)[:-30], "whole .npy or .npz"),
        (packed(a=noise(2, 4, 4, 3), b=noise(2)), "none of them is 'frames'"),
        (packed(frames=noise(2, 4, 4, 3).astype(float)), "uint8"),
        (packed(frames=noise(4, 4)), "uint8"),
        (packed(frames=noise(2, 4, 4, 5)), "uint8"),
        (packed(frames=noise(65, 2, 2, 3)), "more than 64 frames"),
        (packed(frames=np.zeros((0, 4, 4, 3), np.uint8)), "uint8"),
        (pickled(), "numbers"),
        (lying(), "shape"),
        (encode(noise(65, 4, 4, 1), 10, "gif").data, "more than 64 frames"),
    ],
)
def test_what_is_no_clip_is_refused_by_name(data, words) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        back(data)
    assert caught.value.param == "messages"


def test_an_array_is_measured_before_it_is_unpacked(monkeypatch) -> None:
    data = packed(frames=np.zeros((4, 50, 50, 1), np.uint8))
    assert len(data) < 1000
    monkeypatch.setattr("bicameral.engines.vdt.film.MOST_BYTES", 9999)
    with pytest.raises(RequestError, match="unpacks to more than 9999 bytes"):
        back(data)


@pytest.mark.parametrize("data", [b"\0\0\0\x18ftypisom" + bytes(40), b"\x1aE\xdf\xa3" + bytes(40)])
def test_a_film_of_which_no_frame_decodes_is_refused(data) -> None:
    pytest.importorskip("cv2", reason="needs pip install 'bicameral[video]'")
    with pytest.raises(RequestError, match="no frame"):
        back(data)


def test_a_film_with_frames_too_large_is_refused_before_it_is_unpacked(monkeypatch) -> None:
    pytest.importorskip("cv2", reason="needs pip install 'bicameral[video]'")
    data = encode(ball(), 10, "mp4").data
    monkeypatch.setattr("bicameral.engines.vdt.film.MOST_PIXELS", 32 * 48 - 1)
    with pytest.raises(RequestError, match="48 x 32 pixels"):
        back(data)
