"""Transcriptions over HTTP, by the real client, out of a scripted perceiver and real Whisper."""

from __future__ import annotations

import importlib.util
import io
import json
from typing import Any

import aiohttp
import openai
import pytest

from bicameral.engines.weights import catalogue, is_pulled
from bicameral.errors import RequestError
from bicameral.server import multipart, transcriptions
from tests.engines.sounds import SPOKEN, spoken
from tests.server.client import Got, raw, until
from tests.server.client import head as post_head
from tests.server.live import Live, serving

CONFIG = """
[models.chat]
engine = "scripted"

[models.voices]
engine = "scripted"
accepts = ["audio"]
emits = ["percept"]
percepts = [{ kind = "voice", start = 0.0, end = 1.0 }]

[models.ears]
engine = "scripted"
accepts = ["audio"]
emits = ["percept"]
extra = ["language", "prompt"]
[[models.ears.percepts]]
kind = "speech"
text = "Hello, world."
start = 0.5
end = 2.0
confidence = 0.5
language = "en"
[[models.ears.percepts]]
kind = "voice"
start = 0.0
end = 2.0
[[models.ears.percepts]]
kind = "speech"
text = "Bye --> bye!\\n\\nNo."
start = 3661.0
end = 3662.25
language = "en"

[models.dense]
engine = "scripted"
accepts = ["audio"]
emits = ["percept"]
percepts = [
  { kind = "speech", text = "你好世界。", language = "zh" },
  { kind = "speech", text = "再见。", language = "zh" },
]

[models.deaf]
engine = "scripted"
accepts = ["audio"]
emits = ["percept"]

[models.dying]
engine = "scripted"
accepts = ["audio"]
emits = ["percept"]
die_after = 1
percepts = [{ kind = "speech", text = "one" }, { kind = "speech", text = "two" }]

[models.slow]
engine = "scripted"
accepts = ["audio"]
emits = ["percept"]
delay = 30.0
percepts = [{ kind = "speech", text = "one" }]
"""
WAV = b"RIFF\x24\0\0\0WAVEfmt "
TEXT = "Hello, world. Bye --> bye!\n\nNo."


@pytest.fixture
async def live():
    async with serving(CONFIG) as live:
        yield live


def client(live: Live) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=live.base_url, api_key="none", max_retries=0)


async def ask(live: Live, *parts: tuple[str, Any], headers=None, path=transcriptions.PATH) -> Got:
    """A form of these parts; bytes are a file."""
    form = aiohttp.FormData(default_to_multipart=True)
    for name, value in parts:
        form.add_field(name, value, filename="a.wav" if isinstance(value, bytes) else None)
    async with (
        aiohttp.ClientSession() as session,
        session.post(live.url + path, data=form, headers=headers) as response,
    ):
        found = {k.lower(): v for k, v in response.headers.items()}
        return Got(response.status, found, await response.read())


FILE = ("file", WAV)
EARS = ("model", "ears")

# --- the real client ---------------------------------------------------------------------------


async def test_the_openai_client_gets_text(live):
    async with client(live) as api:
        answer = await api.audio.transcriptions.create(model="ears", file=("a.wav", WAV))
    assert answer.text == TEXT


async def test_it_gets_segments_with_times_and_what_is_unknown_is_null(live):
    async with client(live) as api:
        answer = await api.audio.transcriptions.create(
            model="ears",
            file=io.BytesIO(WAV),
            response_format="verbose_json",
            timestamp_granularities=["segment"],
            language="en",
            prompt="names",
            temperature=0.2,
        )
    assert (answer.text, answer.language, answer.duration) == (TEXT, "en", None)
    first, second = answer.segments
    assert (first.id, first.start, first.end, first.text) == (0, 0.5, 2.0, "Hello, world.")
    assert first.avg_logprob == pytest.approx(-0.6931, abs=1e-4)
    assert (second.avg_logprob, second.no_speech_prob, second.tokens) == (None, None, None)


async def test_it_gets_text_and_subtitles_whose_lines_cannot_be_forged(live):
    async with client(live) as api:
        create = api.audio.transcriptions.create
        ask = {"model": "ears", "file": ("a.wav", WAV)}
        assert await create(**ask, response_format="text") == TEXT + "\n"
        srt = await create(**ask, response_format="srt")
        vtt = await create(**ask, response_format="vtt")
    assert srt == (
        "1\n00:00:00,500 --> 00:00:02,000\nHello, world.\n\n"
        "2\n01:01:01,000 --> 01:01:02,250\nBye -> bye! No.\n"
    )
    assert vtt == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:02.000\nHello, world.\n\n"
        "01:01:01.000 --> 01:01:02.250\nBye -> bye! No.\n"
    )


async def test_it_gets_events_as_segments_are_heard(live):
    async with client(live) as api:
        stream = await api.audio.transcriptions.create(
            model="ears", file=("a.wav", WAV), stream=True
        )
        events = [event async for event in stream]
    assert [event.type for event in events] == [
        *["transcript.text.delta"] * 2,
        "transcript.text.done",
    ]
    assert "".join(event.delta for event in events[:-1]) == events[-1].text == TEXT


async def test_it_gets_our_errors(live):
    async with client(live) as api:
        with pytest.raises(openai.NotFoundError, match="did you mean 'ears'"):
            await api.audio.transcriptions.create(model="eras", file=("a.wav", WAV))
        with pytest.raises(openai.BadRequestError, match="times of words are not supported"):
            await api.audio.transcriptions.create(
                model="ears",
                file=("a.wav", WAV),
                response_format="verbose_json",
                timestamp_granularities=["word"],
            )


# --- models ------------------------------------------------------------------------------------


async def test_without_a_model_the_first_that_writes_down_speech_is_asked(live):
    got = await ask(live, FILE)
    assert (got.status, got.headers["x-bicameral-model"]) == (200, "ears")
    async with serving('[models.chat]\nengine = "scripted"') as other:
        got = await ask(other, FILE)
    assert (got.status, got.error["param"]) == (404, "model")
    assert "add one of engine 'whisper'" in got.error["message"]


async def test_chinese_is_joined_without_spaces_and_nothing_said_is_no_error(live):
    assert (await ask(live, FILE, ("model", "dense"))).json == {"text": "你好世界。再见。"}
    assert (await ask(live, FILE, ("model", "deaf"))).json == {"text": ""}
    got = await ask(live, FILE, ("model", "deaf"), ("stream", "true"))
    assert [json.loads(event) for event in got.data] == [
        {"type": "transcript.text.done", "text": ""}
    ]


async def test_a_model_that_hears_no_words_or_nothing_is_refused(live):
    got = await ask(live, FILE, ("model", "voices"))
    assert (got.status, got.error["param"]) == (400, "model")
    assert "voices does not write down speech" in got.error["message"]
    got = await ask(live, FILE, ("model", "chat"))
    assert (got.status, got.error["code"]) == (400, "unsupported")
    got = await ask(live, FILE, ("model", "dense"), ("language", "zh"))
    assert (got.status, got.error["param"]) == (400, "language")


async def test_a_perceiver_that_dies_is_told_as_an_error_also_in_a_stream(live):
    got = await ask(live, FILE, ("model", "dying"))
    assert (got.status, got.error["code"]) == (502, "broken_answer")
    got = await ask(live, FILE, ("model", "dying"), ("stream", "true"))
    first, last = (json.loads(event) for event in got.data)
    assert (got.status, first["delta"]) == (200, "one")
    assert last["error"]["code"] == "broken_answer"


async def test_hanging_up_cancels_and_requests_are_counted(live):
    await ask(live, FILE, EARS)
    reader, writer = await raw(live)
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nRIFF\r\n'
    body += b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nslow\r\n--x--\r\n'
    kind = "Content-Type: multipart/form-data; boundary=x"
    writer.write(post_head(live, len(body), kind, path=transcriptions.PATH) + body)
    slow = live.scripted("slow")
    await until(lambda: slow.running)
    writer.close()
    await until(lambda: slow.cancelled)
    booked = live.server.app.desk.metrics.requests
    assert booked["transcriptions", "ears", 200] == 1
    await until(lambda: booked["transcriptions", "slow", 499] == 1)
    del reader


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "param", "says"),
    [
        ([EARS], "file", "is missing or empty"),
        ([("file", b""), EARS], "file", "is missing or empty"),
        ([("file", "no file"), EARS], "file", "no file"),
        ([FILE, FILE], "file", "given twice"),
        ([FILE, EARS, EARS], "model", "given twice"),
        ([FILE, EARS, ("include[]", "logprobs")], "include", "not supported"),
        ([FILE, EARS, ("chunking_strategy", "auto")], "chunking_strategy", "not supported"),
        ([FILE, EARS, ("response_format", "diarized_json")], "response_format", "enum"),
        ([FILE, EARS, ("temperature", "nan")], "temperature", ">= 0"),
        ([FILE, EARS, ("temperature", "hot")], "temperature", "float"),
        ([FILE, EARS, ("stream", "perhaps")], "stream", "bool"),
        ([FILE, EARS, ("stream", "true"), ("response_format", "srt")], "stream", "goes with"),
        ([FILE, EARS, ("timestamp_granularities[]", "segment")], "timestamp_granularities", "go"),
        ([FILE, ("model", "m" * 300)], "model", "length"),
        ([FILE, EARS, ("prompt", "a" * 70_000)], "prompt", "longer than 65536 bytes"),
        ([FILE, EARS, ("prompt", "a\0b")], "prompt", "NUL"),
    ],
)
async def test_a_wrong_field_is_refused_by_name(live, parts, param, says):
    got = await ask(live, *parts)
    assert (got.status, got.error["param"]) == (400, param)
    assert says in got.error["message"]
    assert live.scripted("ears").runs == 0


async def test_size_keys_and_limits_hold_as_on_every_route(monkeypatch):
    monkeypatch.setenv("KEYS", "secret-key-of-the-test")
    async with serving(CONFIG, max_body=10_000, keys_env="KEYS") as live:
        assert (await ask(live, FILE, EARS)).status == 401
        key = {"authorization": "Bearer secret-key-of-the-test"}
        assert (await ask(live, FILE, EARS, headers=key)).status == 200
        assert (await ask(live, ("file", bytes(10_001)), headers=key)).status == 413
        wrong = await ask(live, FILE, EARS, headers=key | {"x-bicameral-timeout": "soon"})
        assert (wrong.status, wrong.error["param"]) == (400, "x-bicameral-timeout")


BODY = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n%s\r\n--x--\r\n'
FORM = b"multipart/form-data; boundary=x"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", FORM),
        (b"hello", FORM),
        (BODY[:-6] % b"v", FORM),
        (b"--x\r\n\r\nv\r\n--x--\r\n", FORM),
        (b"--x\r\nContent-Disposition: form-data\r\n\r\nv\r\n--x--\r\n", FORM),
        (b'--x\r\nA: B\r\nContent-Disposition: file; name="a"\r\n\r\nv\r\n--x--\r\n', FORM),
        (b"--x\r\nA: " + b"b" * 5000 + b"\r\n\r\nv\r\n--x--\r\n", FORM),
        (b"--x\r\n" + b"A: b\r\n" * 9 + b"\r\nv\r\n--x--\r\n", FORM),
        (BODY.replace(b"--x--\r\n", b"") % b"v" * 65 + b"--x--\r\n", FORM),
        (BODY % b"v", b"multipart/form-data"),
        (BODY % b"v", b"application/json"),
        (BODY % b"v", b"multipart/form-data; boundary=" + b"x" * 300),
        (BODY % b"v", b""),
    ],
)
def test_what_is_no_form_is_refused(body, kind):
    with pytest.raises(RequestError) as caught:
        multipart.fields(body, kind)
    assert caught.value.code == "invalid_multipart"


def test_a_part_keeps_every_byte():
    data = bytes(range(256)) * 50 + b"\r\n--\r\n--y\r\r\n-"
    (field,) = multipart.fields(BODY % data, FORM)
    assert (field.name, field.data, field.filename) == ("a", data, None)


# --- the real one ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(
    not is_pulled(catalogue()["whisper-base"]) or not importlib.util.find_spec("ctranslate2"),
    reason="wants `bicameral pull whisper-base` and pip install 'bicameral[hear]'",
)
async def test_real_whisper_through_the_real_client():
    async with serving('[models.ears]\nengine = "whisper"') as live, client(live) as api:
        answer = await api.audio.transcriptions.create(
            model="ears", file=("a.ogg", spoken()), response_format="verbose_json"
        )
        with pytest.raises(openai.BadRequestError, match="MP4"):
            await api.audio.transcriptions.create(model="ears", file=("a.m4a", b"\0\0\0 ftypM4A "))
    assert answer.text.replace(",", ".").lower() == SPOKEN.replace(",", ".").lower()
    assert answer.language == "en"
    assert answer.duration == pytest.approx(5.02, abs=0.01)
    assert 0 < answer.segments[0].start < 1
