"""Sources: real files written here, and what must be refused."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import cv2
import numpy as np
import pytest
import soundfile
from PIL import Image

from bicameral.errors import BicameralError, ConfigError, RequestError
from bicameral.right.stream.evidence import Ring, drawn, jpeg, wav
from bicameral.right.stream.frame import Frame
from bicameral.right.stream.notices import Gap
from bicameral.right.stream.sources import open_source
from bicameral.right.stream.sources.pictures import natural
from bicameral.right.stream.sources.sound import Resampler
from tests.right.streams import SIZE, Told, movie, save_video, scene


def read(path, **how) -> list[Frame | Gap]:
    return list(open_source(str(path), Told(), **how).frames())


def refused(path) -> RequestError:
    with pytest.raises(RequestError) as caught:
        read(path)
    assert caught.value.param == "source"
    return caught.value


# --- video -------------------------------------------------------------------------------------


def test_a_video_file_gives_every_frame_at_its_time(tmp_path) -> None:
    made = movie(3, [(1.0, 2.0)])
    path = save_video(tmp_path / "a.avi", made)
    found = read(path)
    assert [frame.index for frame in found] == list(range(30))
    assert [frame.at for frame in found] == pytest.approx([i / 10 for i in range(30)])
    assert found[15].pixels.shape == (*SIZE, 3)
    assert abs(found[15].pixels.astype(int) - made[15].pixels).mean() < 8  # JPEG, but RGB as it was


@pytest.mark.parametrize(
    "content",
    [
        b"", b"#EXTM3U\n#EXT-X-TARGETDURATION:9\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n", b"<MPD></MPD>", b"GIF89a" + bytes(100),
        b"\x1a\x45\xdf\xa3" + bytes(500), b"RIFF\x00\x00\x00\x00AVI " + bytes(500),
        b"\x00\x00\x00\x18ftypmp42" + bytes(500),
    ],
)  # fmt: skip
def test_what_is_no_video_or_names_other_files_is_refused(tmp_path, content) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    assert "passwd" not in str(refused(path))


def test_a_cut_video_gives_what_there_is(tmp_path) -> None:
    path = save_video(tmp_path / "a.avi", movie(5, []))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 5 <= len(read(path)) < 50


@contextmanager
def camera(video: bytes) -> Iterator[tuple[str, list[str]]]:
    """Sends the video to whoever asks; then hangs up."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "video/x-msvideo")
            self.send_header("Content-Length", str(len(video)))
            self.end_headers()
            self.wfile.write(video)

        def log_message(self, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/door?key=secret", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_camera_that_hangs_up_is_asked_again_with_longer_and_longer_waits(tmp_path) -> None:
    video = save_video(tmp_path / "a.avi", movie(1, [])).read_bytes()
    clock = Told()
    with camera(video) as (address, asked):
        source = open_source(address, clock)
        assert source.live
        assert "secret" not in source.label
        items = list(islice(source.frames(), 34))
    gaps = [item for item in items if isinstance(item, Gap)]
    assert [gap.trouble for gap in gaps] == ["lost"] * len(gaps)
    assert [gap.end is None for gap in gaps[:3]] == [True, False, True]
    assert len(asked) >= 3
    frames = [item for item in items if isinstance(item, Frame)]
    assert [frame.index for frame in frames] == list(range(len(frames)))


def test_a_camera_that_is_gone_is_tried_for_ever_but_ever_more_rarely(tmp_path) -> None:
    video = save_video(tmp_path / "a.avi", movie(1, [])).read_bytes()

    class Patient(Told):
        def wait(self, seconds: float) -> bool:
            super().wait(seconds)
            return len(self.waits) >= 9

    clock = Patient()
    with camera(video) as (address, _):
        frames = open_source(address, clock).frames()
        next(frames)
    rest = list(frames)
    assert clock.waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert len([item for item in rest if isinstance(item, Gap)]) == 1


def test_a_camera_that_never_was_is_an_error() -> None:
    with pytest.raises(RequestError) as caught:
        read("http://127.0.0.1:9/user?key=secret")
    assert "secret" not in str(caught.value)


# --- pictures ----------------------------------------------------------------------------------


def test_a_folder_is_read_in_natural_order_and_past_what_is_broken(tmp_path) -> None:
    for number in (10, 2, 1):
        Image.fromarray(scene(light=number * 10)).save(tmp_path / f"shot{number}.png")
    (tmp_path / "shot3.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (tmp_path / "notes.txt").write_text("no picture")
    first, second, broken, last = read(tmp_path)
    assert [f.at for f in (first, second, last)] == [0.0, 1.0, 3.0]
    assert first.pixels.mean() < second.pixels.mean() < last.pixels.mean()
    assert (broken.trouble, broken.detail[:9]) == ("unreadable", "shot3.png")


def test_a_picture_that_is_a_bomb_is_a_gap(tmp_path) -> None:
    Image.new("1", (9000, 9000)).save(tmp_path / "a.png")
    (gap,) = read(tmp_path)
    assert isinstance(gap, Gap)


def test_odd_pictures_become_rgb_and_upright(tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("CMYK", (40, 20)).save(tmp_path / "1.jpg", exif=exif)
    Image.new("LA", (40, 20)).save(tmp_path / "2.png")
    Image.new("P", (40, 20)).save(
        tmp_path / "3.gif", save_all=True, append_images=[Image.new("P", (40, 20), 1)]
    )
    Image.new("I;16", (40, 20)).save(tmp_path / "4.png")
    assert [f.pixels.shape for f in read(tmp_path)] == [(40, 20, 3), *[(20, 40, 3)] * 3]


def test_an_empty_folder_is_refused(tmp_path) -> None:
    refused(tmp_path)


def test_natural_order() -> None:
    names = ["b1", "a10", "a2", "A1", "a", "10", "9"]
    assert sorted(names, key=natural) == ["9", "10", "a", "A1", "a2", "a10", "b1"]


# --- sound -------------------------------------------------------------------------------------


def tone(rate: int, seconds: float, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype(
        "float32"
    )


def pitch(samples: np.ndarray) -> float:
    return (
        float(np.abs(np.fft.rfft(samples * np.hanning(len(samples)))).argmax())
        * 16_000
        / len(samples)
    )


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_sound_of_any_rate_becomes_mono_at_16_khz(tmp_path, rate) -> None:
    path = tmp_path / "a.wav"
    left = tone(rate, 2.0)
    soundfile.write(path, np.stack([left, left], axis=1), rate)
    frames = read(path)
    assert [f.at for f in frames[:3]] == pytest.approx([0.0, 0.1, 0.2])
    joined = np.concatenate([f.samples for f in frames])
    assert len(joined) == pytest.approx(32_000, abs=60)
    assert pitch(joined) == pytest.approx(440, abs=2)
    assert np.abs(joined[1600:-1600]).max() == pytest.approx(0.5, abs=0.02)


def test_what_a_lower_rate_cannot_hold_is_filtered_out() -> None:
    resample = Resampler(48_000)
    high = np.concatenate([resample(block) for block in np.split(tone(48_000, 1.0, 12_000), 10)])
    assert np.abs(high[800:]).max() < 0.02


def test_resampling_in_blocks_is_the_same_as_at_once() -> None:
    whole = tone(44_100, 1.0)
    at_once = Resampler(44_100)(whole)
    resample = Resampler(44_100)
    blocks = np.concatenate([resample(block) for block in np.array_split(whole, 37)])
    assert len(blocks) == len(at_once)
    assert np.abs(blocks - at_once).max() < 1e-4


def test_samples_that_are_no_numbers_are_silence_and_told(tmp_path) -> None:
    samples = tone(16_000, 1.0)
    samples[5000:5010] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    items = read(tmp_path / "a.wav")
    assert [i.trouble for i in items if isinstance(i, Gap)] == ["unreadable"]
    assert all(np.isfinite(i.samples).all() for i in items if isinstance(i, Frame))


@pytest.mark.parametrize("content", [b"", b"RIFF\xff\xff\xff\x7fWAVEfmt ", bytes(1000)])
def test_what_is_no_sound_is_refused(tmp_path, content) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    refused(path)


@pytest.mark.parametrize("rate", [1, 10_000_000])
def test_a_rate_that_no_microphone_has_is_refused(tmp_path, rate) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(100), rate)
    refused(tmp_path / "a.wav")


def test_a_sound_without_samples_has_no_frames(tmp_path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 16_000)
    assert read(tmp_path / "a.wav") == []


# --- events ------------------------------------------------------------------------------------


def save_events(path, t, **more) -> None:
    t = np.asarray(t)
    columns = {"x": t % 64, "y": t % 48, "t": t, "p": t % 2, "width": 64, "height": 48}
    np.savez(path, **columns | more)


def test_events_become_windows_of_twenty_milliseconds(tmp_path) -> None:
    save_events(tmp_path / "a.npz", [1000, 2000, 30_000, 95_000])
    frames = read(tmp_path / "a.npz")
    assert [len(f.events.t) for f in frames] == [2, 1, 0, 0, 1]
    assert [f.at for f in frames] == pytest.approx([0.0, 0.02, 0.04, 0.06, 0.08])
    assert (frames[0].events.width, frames[0].events.height) == (64, 48)


def test_a_csv_gives_the_same_as_an_npz(tmp_path) -> None:
    t = np.sort(np.random.default_rng(0).integers(0, 2_000_000, 5000))
    save_events(tmp_path / "a.npz", t)
    rows = [f"{i},{i % 2},{i % 64},{i % 48}" for i in t]
    (tmp_path / "a.csv").write_text("\n".join(["# width: 64", "# height: 48", "t,p,x,y", *rows]))
    packed, plain = read(tmp_path / "a.npz"), read(tmp_path / "a.csv")
    assert len(packed) == len(plain)
    for one, other in zip(packed, plain, strict=True):
        for name in ("x", "y", "t", "p", "width", "height"):
            assert np.array_equal(getattr(one.events, name), getattr(other.events, name))


def test_events_out_of_order_are_told_and_left_out(tmp_path) -> None:
    save_events(tmp_path / "a.npz", [0, 50_000, 10_000, 60_000])
    items = read(tmp_path / "a.npz")
    assert [(i.trouble, i.count) for i in items if isinstance(i, Gap)] == [("backwards", 1)]
    assert sum(len(i.events.t) for i in items if isinstance(i, Frame)) == 3


@pytest.mark.parametrize(
    "more",
    [
        {"x": np.array([1, 64])}, {"y": np.array([1, -1])}, {"p": np.array([0, 2])},
        {"width": 100_000}, {"height": 0}, {"x": np.array([1])}, {"x": np.array(["a", "b"])},
        {"x": np.array([1, None], dtype=object)},
    ],
)  # fmt: skip
def test_events_that_make_no_sense_are_refused(tmp_path, more) -> None:
    save_events(tmp_path / "a.npz", [1, 2], **more)
    refused(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", "x,y,t,p\n1,2,three,0\n", "x,y,t,p\n1,2\n", "x,y,t,p\n1,1,1e999,0\n"]
)
def test_a_csv_that_makes_no_sense_is_refused(tmp_path, text) -> None:
    (tmp_path / "a.csv").write_text(text)
    refused(tmp_path / "a.csv")


def test_an_npz_that_is_none_is_refused(tmp_path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04" + bytes(50))
    refused(tmp_path / "a.npz")


# --- evidence ----------------------------------------------------------------------------------


def test_the_ring_keeps_its_seconds_and_no_more() -> None:
    ring = Ring(2.0)
    for frame in movie(20, [], fps=25):
        ring.add(frame)
    clip = ring.clip()
    assert clip[0].at >= 17.9
    assert len(clip) <= 11


def test_pictures_are_encoded_small_and_in_the_right_colours() -> None:
    red = np.zeros((1000, 3000, 3), np.uint8)
    red[..., 0] = 250
    back = cv2.imdecode(np.frombuffer(jpeg(red, 300), np.uint8), cv2.IMREAD_COLOR)
    assert back.shape == (100, 300, 3)
    assert back[50, 150, 2] > 240 > 10 > back[50, 150, 0]  # OpenCV has red last


def test_events_are_drawn_white_and_black_on_grey(tmp_path) -> None:
    save_events(tmp_path / "a.npz", [1001, 2002])
    (frame,) = read(tmp_path / "a.npz")
    picture = drawn([frame.events])
    assert set(np.unique(picture)) == {0, 128, 255}


def test_wav_is_what_it_was(tmp_path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(tone(16_000, 0.5)))
    back, rate = soundfile.read(tmp_path / "a.wav")
    assert rate == 16_000
    assert np.abs(back - tone(16_000, 0.5)).max() < 1e-3


# --- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["nowhere.mp4", "ftp://example.com/a.mp4", "file:///etc/passwd", "concat://a", "http://"],
)
def test_what_cannot_be_watched_is_refused(name) -> None:
    with pytest.raises(RequestError):
        open_source(name, Told())


def test_a_microphone_without_its_library_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sounddevice", None)
    with pytest.raises(ConfigError, match="pip install"):
        open_source("mic", Told())


def test_labels_hold_no_password() -> None:
    source = open_source("rtsp://admin:hunter2@cam.example:8554/live?token=abc", Told())
    assert source.label == "rtsp://cam.example:8554/live"
    assert issubclass(RequestError, BicameralError)
