"""A GGUF model in this process, through llama.cpp's own server as xllamacpp binds it.

The server decodes on its own thread and calls back once a token from the thread that asked; a
callback that returns true cancels. So each run has a worker thread that only waits and hands the
chunks to the event loop. Chunks need no bounded buffer: a run has no more of them than its context
has tokens, and a reader that stalls must not keep the cores.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bicameral.config import MemberOptions
from bicameral.engines.llama import check, tools, wire
from bicameral.engines.llama.cores import Cores, usable
from bicameral.engines.llama.gguf import Header, header
from bicameral.engines.llama.voice import PLAIN, Body, Voice, prefix, read
from bicameral.engines.weights import locate
from bicameral.errors import ConfigError, ModelError, Overloaded, Timeout, TooLong, WeightsError
from bicameral.model import admit
from bicameral.types import (
    Card,
    Done,
    Event,
    Feature,
    Finish,
    Modality,
    Price,
    Reach,
    Reasoning,
    Request,
    Usage,
)

CORES = Cores(usable())
"""The one line in which every local model of this process waits."""

# A prompt can be cancelled between two batches. Tokens per CPU second at batches of 32, 64, 128,
# 512 (1 thread): SmolLM2-135M 109, 121, 125, 110; Qwen2.5-1.5B 25, 28, 25, 28. So a small model
# takes 64 and a large one, whose batch lasts longer, 32; a GPU needs more to be busy.
_BATCH_SMALL, _BATCH_LARGE, _BATCH_GPU = 64, 32, 512
_LARGE = 512 * 2**20  # bytes of weights
_CONTEXT = 4096
_PROMPT_CACHE = 256  # MiB of memory for the prefixes of conversations that left their slot
_WIDEST = 64  # characters a token may stand for; only runs of blanks come near
_FEATURES = frozenset(Feature) - {Feature.MANY, Feature.TOOLS}
_FREE = Price(input=0, output=0)


class Options(MemberOptions, frozen=True, kw_only=True):
    """`weights` is a path to a GGUF file, or the name of weights that were pulled.

    `context` tokens go to each of `slots` requests that decode together; `queue` more may wait,
    the next is refused as busy. `threads`, `gpu_layers` None: what the machine has. `mmproj` is the
    path of a vision projector. `chat_template` is Jinja text, the path of a file with it, or plain:
    turns as plain text, so that a base model can take part in an ensemble of tokens.
    `tools` overrides whether the model takes tools, which its chat template tells otherwise.
    """

    weights: str
    context: int | None = None
    slots: int = 1
    queue: int = 64
    threads: int | None = None
    gpu_layers: int | None = None
    mmproj: str | None = None
    chat_template: str | None = None
    tools: bool | None = None


@asynccontextmanager
async def open(name: str, options: Options) -> AsyncIterator[LlamaCpp]:
    """Load the weights in a thread and serve them until left."""
    model = await asyncio.to_thread(_load, name, options)
    try:
        yield model
    finally:
        await model.close()


def _load(name: str, options: Options) -> LlamaCpp:
    _check(name, options)
    path = locate(options.weights)
    said = header(path)
    template = _template(name, options, said)
    context = _context(name, options, said)
    server = _serve(path, options, context, options.chat_template and template)
    card = Card(
        name=name,
        engine="llama_cpp",
        accepts=frozenset({Modality.TEXT} | ({Modality.IMAGE} if options.mmproj else set())),
        features=_FEATURES | ({Feature.TOOLS} if _takes_tools(options, template) else set()),
        extra=frozenset(check.EXTRA),
        context=context,
        reach=options.reach_or(Reach.DEVICE),
        owner=options.owner,
        price=options.price() or _FREE,
        chip=_chip(options),
        watts=options.watts,
        serves=said.name,
    )
    return LlamaCpp(card, options, server, wire.cleaner(said.control))


def _check(name: str, options: Options) -> None:
    bounds = (("slots", 1, 256), ("queue", 0, 10**6), ("threads", 1, 512), ("context", 64, 2**24))
    for key, low, high in bounds:
        value = getattr(options, key)
        if value is not None and not low <= value <= high:
            raise ConfigError(f"[models.{name}] {key}: must be from {low} to {high}")
    if options.mmproj and not Path(options.mmproj).expanduser().is_file():
        raise ConfigError(f"[models.{name}] mmproj: there is no file {options.mmproj}")


def _context(name: str, options: Options, said: Header) -> int:
    most = said.context or options.context or _CONTEXT
    if options.context is not None and options.context > most:
        raise ConfigError(
            f"[models.{name}] context: {said.name} was trained for {most} tokens at most"
        )
    return options.context or min(_CONTEXT, most)


def _template(name: str, options: Options, said: Header) -> str:
    given = options.chat_template
    if given is None and not said.template:
        raise ConfigError(
            f"[models.{name}] weights: {said.name} has no chat template, so it is a base model; "
            "use an instruct model, or give a chat_template ('plain' for an ensemble of tokens)"
        )
    if given == "plain":
        return PLAIN
    if given is None or "{" in given:
        return given or said.template
    try:
        return Path(given).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"[models.{name}] chat_template: is neither Jinja text nor a readable file"
        ) from error


def _takes_tools(options: Options, template: str) -> bool:
    return "tools" in template if options.tools is None else options.tools


def _chip(options: Options) -> str:
    kinds = [device["type"].name for device in _binding().get_device_info()]
    has_gpu = any("GPU" in kind for kind in kinds)
    return "gpu" if has_gpu and options.gpu_layers != 0 else "cpu"


def _serve(path: Path, options: Options, context: int, template: str | None) -> Any:
    """llama.cpp's server. Its loopback port cannot be left out; a random key closes it to all."""
    xllamacpp = _binding()
    p = xllamacpp.CommonParams()
    p.model.path = str(path)
    p.n_ctx, p.n_parallel = context * options.slots, options.slots
    p.n_batch = p.n_ubatch = _batch(path, options)
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = options.threads or CORES.count
    p.n_gpu_layers = -1 if options.gpu_layers is None else options.gpu_layers
    p.mmproj.path = str(Path(options.mmproj).expanduser()) if options.mmproj else ""
    p.chat_template = template or ""
    p.fit_params = False  # it would shrink the context to what it deems fit
    p.cache_ram_mib = _PROMPT_CACHE
    p.verbosity = -1
    p.api_keys = [secrets.token_hex(32)]
    p.endpoint_slots = p.endpoint_props = p.endpoint_metrics = p.ui = False
    p.n_threads_http, p.warmup = 1, False
    try:
        return _awake(xllamacpp.Server(p))
    except (RuntimeError, ValueError) as error:
        raise WeightsError(
            f"{path}: llama.cpp cannot load it: the file is damaged or cut off, of an unknown "
            "architecture, too large for the memory, or its chat template is wrong"
        ) from error


def _awake(server: Any) -> Any:
    """Decode one token, which warms the weights up and tries the chat template.

    It also proves that the server's loop runs: destroying one whose loop is just starting loses
    the order to stop, and then waits for it for ever with the interpreter's lock held.
    """
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1, "stream": True}
    server.handle_chat_completions(body, lambda chunk: None)
    return server


def _batch(path: Path, options: Options) -> int:
    if _chip(options) == "gpu":
        return _BATCH_GPU
    return _BATCH_LARGE if path.stat().st_size > _LARGE else _BATCH_SMALL


def _binding() -> Any:
    try:
        import xllamacpp
    except ImportError as error:
        raise ConfigError(
            "the engine 'llama_cpp' needs xllamacpp: pip install 'bicameral[llama]'"
        ) from error
    return xllamacpp


class LlamaCpp:
    """A local model with `slots` places to decode in and a bounded line before them."""

    def __init__(self, card: Card, options: Options, server: Any, clean: wire.Clean) -> None:
        self._card = card
        self._server = server
        self._clean = clean
        self._threads = options.threads or CORES.count
        self._room = options.slots + options.queue
        self._slots = asyncio.Semaphore(options.slots)
        self._workers = ThreadPoolExecutor(options.slots, thread_name_prefix=card.name)
        self._inside = 0
        self._lasted = 1.0
        self._decoding: set[asyncio.Future[None]] = set()
        self._prefix: str | None = None

    @property
    def card(self) -> Card:
        """What the weights and the options say it is."""
        return self._card

    async def run(self, request: Request) -> AsyncGenerator[Event]:
        """Decode an answer."""
        admit(self._card, request)
        body = self._body(request)
        run = await self._start(body, request)
        try:
            async for event in self._events(run, request):
                yield event
        finally:
            run.cancel()

    @asynccontextmanager
    async def voice(self, request: Request) -> AsyncIterator[Voice]:
        """The request as this model reads it, for an ensemble that joins models by the byte."""
        admit(self._card, request)
        body = self._body(request)
        ask = partial(self._ask, request=request)
        if self._prefix is None:
            self._prefix = await prefix(ask)
        yield await read(self._card.name, body, ask, self._clean, self._prefix)

    async def close(self) -> None:
        """Wait for what still decodes, then let go of the weights."""
        if self._decoding:
            await asyncio.wait(self._decoding)
        await asyncio.to_thread(self._free)

    def _free(self) -> None:
        self._workers.shutdown()
        self._server = None

    def _body(self, request: Request) -> dict[str, Any]:
        check.fields(request)
        if request.format and request.format.schema is not None:
            check.schema(request.format.schema, param="response_format")
        if must := tools.must_call(request):
            check.schema(tools.call_schema(must), param="tools")
        size = sum(len(message.text) for message in request.messages)
        if self._card.context and size > _WIDEST * self._card.context:
            raise TooLong(
                self._card.name,
                f"the prompt of {size} characters cannot fit {self._card.context} tokens",
            )
        return wire.body(request, self._clean)

    async def _ask(self, body: Body, request: Request) -> AsyncGenerator[wire.Chunk]:
        """What the server answers; closing it cancels."""
        run = await self._start(body, request)
        try:
            async for chunk in self._chunks(run, request):
                yield chunk
        finally:
            run.cancel()

    async def _start(self, body: Body, request: Request) -> _Run:
        """Wait for a place and begin; the place is free again when the thread is done."""
        if self._inside >= self._room:
            raise Overloaded(
                self._card.name,
                f"busy: {self._room} requests are running or waiting; try again later, or raise "
                "'slots' or 'queue'",
                retry_after=max(1.0, round(self._lasted, 1)),
            )
        self._inside += 1
        try:
            async with self._deadline(request, "queue"):
                await self._slots.acquire()
                try:
                    await CORES.enter(self, self._threads)
                except asyncio.CancelledError:
                    self._slots.release()
                    raise
        except BaseException:
            self._inside -= 1
            raise
        return self._begin(body)

    def _begin(self, body: Body) -> _Run:
        run = _Run(self._server)
        began = time.monotonic()
        work = asyncio.get_running_loop().run_in_executor(self._workers, run.work, body)
        self._decoding.add(work)

        def ended(work: asyncio.Future[None]) -> None:
            self._decoding.discard(work)
            CORES.leave(self)
            self._slots.release()
            self._inside -= 1
            self._lasted = time.monotonic() - began
            run.chunks.put_nowait(work.exception())

        work.add_done_callback(ended)
        return run

    async def _events(self, run: _Run, request: Request) -> AsyncIterator[Event]:
        name, thought = self._card.name, False
        calls = tools.Calls(request.tools)
        reason: Finish = "stop"
        used = Usage()
        async for chunk in self._chunks(run, request):
            for delta in wire.deltas(chunk, name):
                thought = thought or isinstance(delta.part, Reasoning)
                for said in calls.feed(delta):
                    yield said
            reason = wire.reason(chunk) or reason
            used = wire.usage(chunk, thought=thought) or used
        rest, reason = calls.end(reason)
        for delta in rest:
            yield delta
        yield Done(usage=used, reason=reason, by=name, served=self._card.serves)

    async def _chunks(self, run: _Run, request: Request) -> AsyncIterator[wire.Chunk]:
        phase = "first token"
        while True:
            async with self._deadline(request, phase):
                chunk = await run.chunks.get()
            if chunk is None:
                return
            if isinstance(chunk, BaseException):
                raise self._fault(chunk) from chunk
            if "error" in chunk:
                raise wire.fault(self._card.name, chunk["error"])
            if "usage" not in chunk and "prompt_progress" not in chunk:
                phase = "total"
            yield chunk

    def _fault(self, error: BaseException) -> ModelError:
        """The binding raises ValueError and RuntimeError for bodies the server refuses."""
        return wire.fault(self._card.name, {"message": str(error), "code": 400})

    @asynccontextmanager
    async def _deadline(self, request: Request, phase: str) -> AsyncIterator[None]:
        left = request.remaining()
        try:
            async with asyncio.timeout(left):
                yield
        except TimeoutError as error:
            raise Timeout(self._card.name, phase, left or 0.0) from error


class _Run:
    """One answer being decoded by a worker thread; `chunks` ends with None or what went wrong."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._gone = False
        self.chunks: asyncio.Queue[wire.Chunk | BaseException | None] = asyncio.Queue()

    def work(self, body: Body) -> None:
        """Decode to the end; blocks, so it runs in the worker thread."""
        server, self._server = self._server, None  # whoever holds it last must not be the loop
        if not self._gone:
            handle = "handle_chat_completions" if "messages" in body else "handle_completions"
            getattr(server, handle)(body, self._take)

    def _take(self, chunk: dict[str, Any]) -> bool:
        if not self._gone:
            with contextlib.suppress(RuntimeError):  # the loop was closed under us
                self._loop.call_soon_threadsafe(self.chunks.put_nowait, chunk)
        return self._gone

    def cancel(self) -> None:
        """Stop at the next token, or at the next batch of the prompt."""
        self._gone = True
