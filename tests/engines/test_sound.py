"""Encoded sound becomes what it was, at 16 kHz; what lies, bombs or breaks is refused in time."""

from __future__ import annotations

import io
import os
import struct

import pytest

np = pytest.importorskip("numpy", reason="needs pip install 'bicameral[hear]'")
soundfile = pytest.importorskip("soundfile", reason="needs pip install 'bicameral[hear]'")

from bicameral.engines.media import sound  # noqa: E402
from bicameral.errors import RequestError  # noqa: E402


def encoded(samples, rate: int = 16000, **kind: str) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, **{"format": "WAV", "subtype": "FLOAT", **kind})
    return out.getvalue()


def tone(hertz: float, seconds: float, rate: int):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


def read(data: bytes, longest: float = 60.0):
    return np.concatenate(list(sound.blocks(data, longest)))


def refused(data: bytes, longest: float = 60.0) -> RequestError:
    with pytest.raises(RequestError) as caught:
        read(data, longest)
    assert caught.value.param == "messages"
    return caught.value


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 44101, 48000, 192000])
def test_a_tone_keeps_its_pitch_place_and_loudness_at_every_rate(rate):
    found = read(encoded(tone(1500, 9.25, rate), rate))
    assert found.dtype == np.float32
    assert len(found) == -(-int(9.25 * rate) * 16000 // rate)
    error = np.abs(found - tone(1500, 10, 16000)[: len(found)])
    assert error[800:-800].max() < 1e-5  # it sets in and ends at once, which is above the band


def test_what_16_khz_cannot_hold_is_gone_and_does_not_fold_back():
    assert np.abs(read(encoded(tone(9000, 9, 48000), 48000))[800:-800]).max() < 1e-6


@pytest.mark.parametrize("seconds", [0.01, 7.99, 8.0, 9.0, 16.0, 20.3])
def test_blocks_join_without_a_seam(seconds):
    noise = np.random.default_rng(1).normal(0, 0.1, int(seconds * 32000))
    # The same filter over the whole at once, as one circle with a second of silence at its end.
    spectrum = np.fft.rfft(np.pad(noise, (0, 32000)))
    hertz = np.fft.rfftfreq(len(noise) + 32000, 1 / 32000)
    spectrum *= 0.5 + 0.5 * np.cos(np.pi * np.clip((hertz / 8000 - 0.95) / 0.05, 0, 1))
    whole = np.fft.irfft(spectrum, len(noise) + 32000)[::2][: -(-len(noise) // 2)]
    found = read(encoded(noise, 32000))
    assert len(found) == len(whole)
    assert np.abs(found - whole).max() < 1e-5


@pytest.mark.parametrize(
    ("container", "subtype", "near"),
    [("WAV", "PCM_16", 1e-3), ("FLAC", "PCM_16", 1e-3), ("OGG", "VORBIS", 0.05),
     ("OGG", "OPUS", 0.05), ("MP3", "MPEG_LAYER_III", 0.05)],
)  # fmt: skip
def test_every_container_is_read(container, subtype, near):
    found = read(encoded(tone(440, 3, 48000), 48000, format=container, subtype=subtype))
    assert len(found) == pytest.approx(48000, abs=2000)  # a codec may pad
    middle = found[16000:32000]
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / 2**0.5, abs=near)


def test_channels_are_averaged_and_what_is_too_loud_is_clipped():
    left_right = np.stack([np.full(1000, 0.5), np.full(1000, -0.1)], axis=1)
    assert read(encoded(left_right)) == pytest.approx(0.2, abs=1e-6)
    assert set(read(encoded(np.full(100, 1e30)))) == {1.0}


def test_one_sample_is_a_sound():
    assert len(read(encoded(np.zeros(1)))) == 1


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_samples_that_are_no_numbers_are_refused(wrong):
    samples = np.zeros(500_000)
    samples[-1] = wrong
    assert "NaN or infinity" in str(refused(encoded(samples)))


def test_no_samples_are_refused():
    assert "has no samples" in str(refused(encoded(np.zeros(0))))


@pytest.mark.parametrize("rate", [1, 999, 384_001, 10_000_000])
def test_rates_nobody_records_at_are_refused(rate):
    assert f"has {rate} samples a second" in str(refused(encoded(np.zeros(10), rate)))


def test_ten_hours_of_silence_are_refused_by_their_header():
    flac = encoded(np.zeros(36_000 * 1000, np.int16), 1000, format="FLAC", subtype="PCM_16")
    assert len(flac) < 200_000
    error = refused(flac, 3600)
    assert error.code == "audio_too_long"
    assert "lasts more than 3600 seconds; cut it" in str(error)


def test_a_header_that_lies_about_the_length_is_counted():
    whole = bytearray(encoded(np.zeros(3_000_000, np.int16), format="FLAC", subtype="PCM_16"))
    assert refused(bytes(whole), 100).code == "audio_too_long"
    # STREAMINFO: 36 bits of total samples from bit 108 of the block; 0 means unknown.
    whole[21] &= 0xF0
    whole[22:26] = bytes(4)
    assert refused(bytes(whole), 100).code == "audio_too_long"


def wav(channels: int, rate: int, data: bytes, claimed: int) -> bytes:
    head = struct.pack("<HHIIHH", 1, channels, rate, rate * channels * 2, channels * 2, 16)
    body = b"WAVEfmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", claimed) + data
    return b"RIFF" + struct.pack("<I", min(2**32 - 1, len(body) + claimed)) + body


def test_a_wav_that_claims_gigabytes_gives_what_is_there():
    assert len(read(wav(1, 16000, bytes(3200), 2**32 - 1))) == 1600


def test_too_many_channels_or_samples_are_refused():
    assert "has 65 channels" in str(refused(wav(65, 16000, bytes(1300), 1300)))
    flac = encoded(np.zeros((96000 * 30, 8), np.int16), 96000, format="FLAC", subtype="PCM_16")
    assert "more samples than are read" in str(refused(flac, 31))


@pytest.mark.parametrize("container", ["WAV", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.99])
def test_a_file_cut_short_gives_what_is_there_or_is_refused(container, kept):
    subtype = {"OGG": "VORBIS", "MP3": "MPEG_LAYER_III"}.get(container, "PCM_16")
    data = encoded(tone(440, 4, 16000), format=container, subtype=subtype)
    try:
        found = read(data[: int(len(data) * kept)])
    except RequestError:
        return
    assert 0 < len(found) <= 65_536


@pytest.mark.parametrize("container", ["WAV", "FLAC", "OGG", "MP3"])
def test_flipped_bytes_are_sound_or_refused_never_another_error(container):
    subtype = {"OGG": "VORBIS", "MP3": "MPEG_LAYER_III"}.get(container, "PCM_16")
    data = encoded(tone(440, 0.5, 16000), format=container, subtype=subtype)
    random = np.random.default_rng(7)
    for _ in range(60):
        broken = bytearray(data)
        for at in random.integers(0, min(len(data), 400), 6):
            broken[at] = random.integers(256)
        try:
            found = read(bytes(broken))
        except RequestError:
            continue
        assert np.isfinite(found).all()


@pytest.mark.parametrize(
    "data", [b"", b"RIFF", b"OggS" + os.urandom(100), b"\xff\xfb", b"hello" * 9]
)
def test_what_is_no_sound_is_refused(data):
    assert refused(data).code in ("invalid_audio", "unsupported_format")


@pytest.mark.parametrize(
    ("head", "name"), [(b"\0\0\0\x1cftypM4A ", "m4a"), (b"\x1aE\xdf\xa3\x9fB\x86\x81", "WebM")]
)
def test_containers_that_are_not_read_are_refused_by_name_with_advice(head, name):
    error = refused(head + bytes(100))
    assert error.code == "unsupported_format"
    assert name in str(error)
    assert "ffmpeg -i IN" in str(error)
