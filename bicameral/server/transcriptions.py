"""POST /v1/audio/transcriptions: a recording to what is said in it, by any model that hears.

Text, JSON, subtitles, or as it is understood, segment by segment, as server-sent events.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import aclosing
from typing import Annotated, Any, Literal, NoReturn

import msgspec
from msgspec import Meta, Struct

from bicameral.brain import Brain
from bicameral.errors import NotFound, RequestError, Unsupported
from bicameral.server import decode, multipart
from bicameral.server.chat import name_model
from bicameral.server.exchange import (
    EVENTS,
    JSON,
    NO_BUFFER,
    NO_CACHE,
    Desk,
    Exchange,
    Receive,
    Scope,
    Send,
)
from bicameral.server.idempotency import KEY
from bicameral.server.multipart import Field
from bicameral.types import (
    Audio,
    Delta,
    Event,
    Message,
    Modality,
    Percept,
    Request,
    Sampling,
)

PATH = "/v1/audio/transcriptions"
TEXT = (b"content-type", b"text/plain; charset=utf-8")
Format = Literal["json", "text", "srt", "verbose_json", "vtt"]
# Written without spaces: segments of these are joined without one.
_DENSE = frozenset({"zh", "ja", "yue", "th", "lo", "my", "km", "bo"})
_EXTENSION = re.compile(r"[a-z0-9]{1,8}")


class TranscriptionBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The form of POST /v1/audio/transcriptions, `file` aside.

    Without a `model` the first that writes down what it hears is asked. `language` is a code such
    as en, `prompt` what was said before, or words as they are to be spelt.
    """

    model: Annotated[str, Meta(max_length=256)] = ""
    language: str = ""
    prompt: str = ""
    response_format: Format = "json"
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    timestamp_granularities: list[Literal["segment"]] = []
    stream: bool = False


class Transcriptions:
    """Answers transcription requests out of `brain`."""

    def __init__(self, brain: Brain, desk: Desk) -> None:
        self._brain = brain
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request: its file is the one sound of one message."""
        async with Exchange(self._desk, "transcriptions", scope, receive, send) as exchange:
            exchange.admit()
            body = await exchange.body()
            if KEY in exchange.headers and await exchange.repeated(body, self._brain.till):
                return
            content_type = exchange.headers.get(b"content-type", b"")
            # In a thread, as 25 MB take a quarter of a second.
            fields = await asyncio.to_thread(multipart.fields, body, content_type)
            file, asked = form(fields)
            name_model(exchange, self._brain, asked.model or default(self._brain))
            request = _request(exchange, file, asked)
            run = self._brain.run(exchange.booked(request), exchange.model, caller=exchange.caller)
            async with aclosing(run) as events, aclosing(_heard(exchange, events)) as heard:
                if asked.stream:
                    await _stream(exchange, heard)
                else:
                    said = [percept async for percept in heard]
                    body, kind = written(said, asked.response_format, file.data)
                    await exchange.whole(body, [kind])


def default(brain: Brain) -> str:
    """The first model that writes down speech, in any language it is told; NotFound if none."""
    for name, model in brain.models.items():
        card = model.card
        hears = Modality.AUDIO in card.accepts and Modality.PERCEPT in card.emits
        if hears and (card.extra is None or "language" in card.extra):
            return name
    raise NotFound(
        "model: no model of this server writes down speech; add one of engine 'whisper'",
        param="model",
        code="model_not_found",
    )


def _request(exchange: Exchange, file: Field, asked: TranscriptionBody) -> Request:
    extension = (file.filename or "").rpartition(".")[2].lower()
    kind = extension if _EXTENSION.fullmatch(extension) else ""
    extra = {"language": asked.language, "prompt": asked.prompt}
    return Request(
        messages=(Message("user", (Audio(file.data, kind),)),),
        output=Modality.PERCEPT,
        sampling=Sampling(temperature=asked.temperature),
        extra={field: text for field, text in extra.items() if text},
        id=exchange.id.decode(),
        **decode.limits(exchange.headers),
    )


# --- the form ----------------------------------------------------------------------------------


def form(fields: Iterable[Field]) -> tuple[Field, TranscriptionBody]:
    """The file and what is asked for; RequestError names the field that is wrong."""
    file: Field | None = None
    texts: dict[str, Any] = {}
    for field in fields:
        name = field.name.removesuffix("[]")
        if name == "file" and file is None and field.filename is not None:
            file = field
        elif name == "timestamp_granularities":
            texts.setdefault(name, []).append(field.text)
        elif name in texts or name == "file":
            _wrong(name, "is given twice, or is no file")
        else:
            texts[name] = field.text
    if file is None or not file.data:
        _wrong("file", "is missing or empty: send a WAV, FLAC, Ogg or MP3 file")
    return file, _asked(texts)


def _asked(texts: Mapping[str, Any]) -> TranscriptionBody:
    for name in texts:
        if name not in TranscriptionBody.__struct_fields__:
            raise Unsupported(
                f"the field '{name[:100]}' is not supported", param=name[:100], code="unsupported"
            )
    if "word" in texts.get("timestamp_granularities", ()):
        _wrong("timestamp_granularities", "times of words are not supported; ask for 'segment'")
    try:
        asked = msgspec.convert(texts, TranscriptionBody, strict=False)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$.")
        _wrong(re.split(r"\W", path)[0], reason)
    if asked.stream and asked.response_format not in ("json", "text"):
        _wrong("stream", f"goes with response_format json or text, not {asked.response_format}")
    if asked.timestamp_granularities and asked.response_format != "verbose_json":
        _wrong("timestamp_granularities", "go with response_format verbose_json")
    return asked


def _wrong(param: str, message: str) -> NoReturn:
    raise RequestError(f"{param}: {message}", param=param)


# --- the answer --------------------------------------------------------------------------------


async def _heard(exchange: Exchange, events: AsyncGenerator[Event]) -> AsyncGenerator[Percept]:
    """What is said; RequestError if the model perceives other things only."""
    others = said = 0
    async for event in events:
        exchange.saw(event)
        if isinstance(event, Delta) and isinstance(event.part, Percept):
            if event.part.kind == "speech":
                said += 1
                yield event.part
            else:
                others += 1
    exchange.over()
    if others and not said:
        _wrong("model", f"{exchange.model} does not write down speech")


async def _stream(exchange: Exchange, heard: AsyncGenerator[Percept]) -> None:
    text = ""
    async for percept in heard:
        more = percept.text if not text else _gap(percept) + percept.text
        text += more
        await _event(exchange, "delta", delta=more)
    await _event(exchange, "done", text=text)
    await exchange.end()


async def _event(exchange: Exchange, kind: str, **fields: str) -> None:
    data = msgspec.json.encode({"type": f"transcript.text.{kind}", **fields})
    head = [] if exchange.status else [EVENTS, NO_CACHE, NO_BUFFER]
    await exchange.write(b"data: " + data + b"\n\n", head)


def written(said: list[Percept], form: Format, file: bytes) -> tuple[bytes, tuple[bytes, bytes]]:
    """The transcript in the form asked for, and its content type."""
    match form:
        case "json":
            return msgspec.json.encode({"text": whole(said)}), JSON
        case "verbose_json":
            return msgspec.json.encode(_verbose(said, file)), JSON
        case "text":
            return f"{whole(said)}\n".encode(), TEXT
        case "srt":
            return "\n".join(_cues(said, ",", numbered=True)).encode(), TEXT
        case "vtt":
            lines = ("WEBVTT", "", *_cues(said, ".", numbered=False))
            return "\n".join(lines).encode(), TEXT


def whole(said: Iterable[Percept]) -> str:
    """The text of all the segments."""
    pieces: list[str] = []
    for percept in said:
        pieces += [_gap(percept), percept.text] if pieces else [percept.text]
    return "".join(pieces)


def _gap(percept: Percept) -> str:
    return "" if percept.language in _DENSE else " "


def _verbose(said: list[Percept], file: bytes) -> dict[str, Any]:
    """OpenAI's verbose form; what no perceiver tells is null."""
    return {
        "task": "transcribe",
        "language": next((percept.language for percept in said if percept.language), None),
        "duration": _duration(file),
        "text": whole(said),
        "segments": [_segment(index, percept) for index, percept in enumerate(said)],
    }


def _segment(index: int, percept: Percept) -> dict[str, Any]:
    sure = percept.confidence
    unknown = ("seek", "tokens", "temperature", "compression_ratio", "no_speech_prob")
    return {
        "id": index,
        "start": percept.start,
        "end": percept.end,
        "text": percept.text,
        "avg_logprob": math.log(sure) if sure else None,
        **dict.fromkeys(unknown),
    }


def _duration(file: bytes) -> float | None:
    """What the file's header says, where there is what reads it."""
    try:
        from bicameral.engines.media.sound import seconds
    except ImportError:
        return None
    return seconds(file)


def _cues(said: Iterable[Percept], point: str, *, numbered: bool) -> Iterator[str]:
    for index, percept in enumerate(said, 1):
        if numbered:
            yield str(index)
        start, end = (_clock(at or 0.0, point) for at in (percept.start, percept.end))
        yield f"{start} --> {end}"
        # A line of its own would end the cue or begin another.
        yield " ".join(percept.text.split()).replace("-->", "->")
        yield ""


def _clock(seconds: float, point: str) -> str:
    """Hours, minutes, seconds and thousandths, as subtitles have them."""
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{point}{thousandths:03}"
