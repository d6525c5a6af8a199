"""A net in this process through transformers and torch: text, or text and pictures, on any chip.

`path` is a folder with config.json, *.safetensors and a tokenizer; nothing is fetched
(HF_HUB_OFFLINE is set unless the environment says otherwise). It answers one by one, `slots` of
them at a time: for many users at once a batching server behind the engine 'openai' does more.
Where a request is silent, generation_config.json says how to draw, as in transformers itself:
do_sample, temperature, top_k, top_p, min_p, repetition_penalty. frequency_penalty and
presence_penalty count the answer's tokens, logprobs are those before any of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from bicameral.config import MemberOptions
from bicameral.engines.hf import folder as folders
from bicameral.engines.hf import load
from bicameral.engines.hf.draw import Wish, wish
from bicameral.engines.hf.line import Line, deadline
from bicameral.engines.hf.net import Asked, Net, Over
from bicameral.engines.hf.prompt import Prompts
from bicameral.engines.hf.spell import Piece
from bicameral.engines.llama import check
from bicameral.engines.llama.voice import PLAIN
from bicameral.engines.llama_cpp import CORES
from bicameral.errors import BicameralError, Broken, ConfigError, ModelError, TooLong, WeightsError
from bicameral.model import admit
from bicameral.types import (
    Card,
    Delta,
    Done,
    Event,
    Feature,
    Modality,
    Price,
    Reach,
    Reasoning,
    Request,
    Sampling,
    Text,
)

_FEATURES = frozenset(
    {Feature.STOP, Feature.SEED, Feature.LOGPROBS, Feature.PENALTIES, Feature.LOGIT_BIAS}
)
_SWITCHES = "chat_template_kwargs"  # a processor would take more of them than the template does
_EXTRA = frozenset({"top_k", "min_p", "repeat_penalty", "ignore_eos", _SWITCHES})
_CONTEXT = 4096  # tokens, where neither the config nor the folder says
_WIDEST = 64  # characters a token may stand for; only runs of blanks come near
_FREE = Price(input=0, output=0)


class Options(MemberOptions, frozen=True, kw_only=True):
    """`path` is the folder, `device` cpu, cuda:0, mps, xpu or auto: the chip that torch finds.

    `dtype` auto: as the weights are, on a CPU float32. `context` None: what the model was made for.
    `slots` answer at once, `queue` more may wait; a net that sees answers one at a time. `threads`
    is for a CPU. `chat_template` is Jinja text, the path of a file with it, or plain, for base
    models. `remote_code` runs Python that comes with the weights, with all your rights: read it
    first.
    """

    path: str
    device: str = "auto"
    dtype: load.DtypeName = "auto"
    context: Annotated[int, Meta(ge=64, le=2**24)] | None = None
    slots: Annotated[int, Meta(ge=1, le=64)] = 1
    queue: Annotated[int, Meta(ge=0, le=10**6)] = 64
    threads: Annotated[int, Meta(ge=1, le=512)] | None = None
    chat_template: str | None = None
    remote_code: bool = False


@asynccontextmanager
async def open(name: str, options: Options) -> AsyncIterator[Transformers]:
    """Load the weights in a thread and serve them until left."""
    model = await asyncio.to_thread(_load, name, options)
    try:
        yield model
    finally:
        await model.close()


def _load(name: str, options: Options) -> Transformers:
    folder = folders.look(Path(options.path).expanduser())
    if folder.sees and options.slots > 1:
        raise ConfigError(f"[models.{name}] slots: a net that sees answers one at a time")
    context = _context(name, options, folder)
    where = load.device(name, options.device)
    loaded = load.load(folder, where, dtype=options.dtype, remote_code=options.remote_code)
    template = _template(name, options)
    prompts = Prompts(name, loaded, sees=folder.sees, template=template)
    if not prompts.templated:
        raise ConfigError(
            f"[models.{name}] path: {folder.path} has no chat template, so it is a base model; "
            "use an instruct model, or give a chat_template ('plain' for questions and answers)"
        )
    net = Net(name, folder, loaded, prompts, context)
    _awake(net, folder)
    card = Card(
        name=name,
        engine="transformers",
        accepts=frozenset({Modality.TEXT} | ({Modality.IMAGE} if folder.sees else set())),
        features=_FEATURES,
        extra=_EXTRA - ({_SWITCHES} if folder.sees else set()),
        context=context,
        reach=options.reach_or(Reach.DEVICE),
        owner=options.owner,
        price=options.price() or _FREE,
        chip=loaded.chip,
        watts=options.watts,
        serves=folder.path.resolve().name,
    )
    return Transformers(card, options, folder, net)


def _context(name: str, options: Options, folder: folders.Folder) -> int:
    most = folder.context or options.context or _CONTEXT
    if options.context is not None and options.context > most:
        raise ConfigError(f"[models.{name}] context: it was made for {most} tokens at most")
    return options.context or most


def _template(name: str, options: Options) -> str | None:
    given = options.chat_template
    if given == "plain":
        return PLAIN
    if given is None or "{" in given:
        return given
    try:
        return Path(given).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"[models.{name}] chat_template: is neither Jinja text nor a readable file"
        ) from error


def _awake(net: Net, folder: folders.Folder) -> None:
    """Say one token, which warms the chip up and tries the chat template."""
    hi = Request.ask("hi", sampling=Sampling(max_tokens=1))
    try:
        net.answer(Asked(request=hi, wish=Wish()), lambda piece: None, lambda: False)
    except ModelError as error:
        raise WeightsError(f"{folder.path}: it loads but cannot speak: {error}") from error


class Transformers:
    """A net with `slots` places to answer at and a bounded line before them."""

    def __init__(self, card: Card, options: Options, folder: folders.Folder, net: Net) -> None:
        self._card = card
        self._habits = folder.sampling
        self._net = net
        threads = options.threads or CORES.count
        cores = CORES if card.chip == "cpu" else None
        self._line = Line(
            card.name, slots=options.slots, queue=options.queue, cores=cores, threads=threads
        )
        self._workers = ThreadPoolExecutor(
            options.slots,
            thread_name_prefix=card.name,
            initializer=net.threads,
            initargs=(threads,),
        )
        self._answering: set[asyncio.Future[Over | None]] = set()

    @property
    def card(self) -> Card:
        """What the folder and the options say it is."""
        return self._card

    async def run(self, request: Request) -> AsyncGenerator[Event]:
        """Speak an answer, token by token."""
        admit(self._card, request)
        asked = self._asked(request)
        run = self._begin(asked, await self._line.enter(request))
        try:
            async for event in self._events(run, request):
                yield event
        finally:
            run.cancel()

    async def close(self) -> None:
        """Wait for what still answers, then let go of the weights."""
        if self._answering:
            await asyncio.wait(self._answering)
        await asyncio.to_thread(self._free)

    def _free(self) -> None:
        self._workers.shutdown()
        self._net.close()

    def _asked(self, request: Request) -> Asked:
        check.fields(request)
        size = sum(len(message.text) for message in request.messages)
        if self._card.context and size > _WIDEST * self._card.context:
            raise TooLong(
                self._card.name,
                f"the prompt of {size} characters cannot fit {self._card.context} tokens",
            )
        return Asked(request=request, wish=wish(request, self._habits, self._net.vocabulary))

    def _begin(self, asked: Asked, began: float) -> _Run:
        run = _Run(self._net, asked)
        work = asyncio.get_running_loop().run_in_executor(self._workers, run.work)
        self._answering.add(work)

        def ended(work: asyncio.Future[Over | None]) -> None:
            self._answering.discard(work)
            self._line.leave(began)
            run.said.put_nowait(work.exception() or work.result())

        work.add_done_callback(ended)
        return run

    async def _events(self, run: _Run, request: Request) -> AsyncIterator[Event]:
        name, phase = self._card.name, "first token"
        while True:
            async with deadline(name, request, phase):
                said = await run.said.get()
            if not isinstance(said, Piece):
                break
            phase = "total"
            part = Reasoning(said.text) if said.thought else Text(said.text)
            yield Delta(part, by=name, logprobs=said.logprobs)
        if isinstance(said, BicameralError):
            raise said
        if not isinstance(said, Over):
            raise _failed(name, said) from said
        yield Done(usage=said.usage, reason=said.reason, by=name, served=self._card.serves)


def _failed(name: str, said: BaseException | None) -> Broken:
    """What no part of the engine expected, as an error of ours."""
    return Broken(name, f"the answer broke off: {load.first_line(said) if said else 'cancelled'}")


class _Run:
    """One answer by a worker thread; `said` ends with Over, or with what went wrong."""

    def __init__(self, net: Net, asked: Asked) -> None:
        self._net = net
        self._asked = asked
        self._loop = asyncio.get_running_loop()
        self._gone = False
        self.said: asyncio.Queue[Piece | Over | BaseException | None] = asyncio.Queue()

    def work(self) -> Over | None:
        """Answer to the end; blocks, so it runs in the worker thread."""
        if self._gone:
            return None
        return self._net.answer(self._asked, self._say, lambda: self._gone)

    def _say(self, piece: Piece) -> None:
        with suppress(RuntimeError):  # the loop was closed under us
            self._loop.call_soon_threadsafe(self.said.put_nowait, piece)

    def cancel(self) -> None:
        """Stop before the next layer."""
        self._gone = True
