"""A server that we start and keep up ourselves: vLLM, SGLang, llama-server and others by recipe.

It is spoken to like any server of OpenAI's protocol (see openai.py). It runs as a child process of
this one, on 127.0.0.1 with a key of its own, and ends with it. While it is down, requests are
refused at once, so that a mind can ask another member.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from msgspec.structs import replace

from bicameral.engines import openai
from bicameral.engines.launch import auto
from bicameral.engines.launch.keeper import Keeper, Life
from bicameral.engines.launch.listening import HOST
from bicameral.engines.launch.options import Options as Options
from bicameral.engines.launch.options import check
from bicameral.engines.launch.order import Orders
from bicameral.engines.launch.recipe import Recipe, recipe
from bicameral.engines.launch.version import version
from bicameral.engines.remote.member import Remote
from bicameral.engines.remote.openai_wire import fault
from bicameral.engines.remote.presets import Preset
from bicameral.engines.remote.refusal import Lost, ServerError
from bicameral.engines.remote.upstream import connect
from bicameral.engines.told import Told
from bicameral.errors import Broken, ConfigError, ModelError, Unreachable
from bicameral.model import admit
from bicameral.types import Card, Event, Modality, Reach, Request

log = logging.getLogger(__name__)
_MOMENT = 1.0  # seconds in which the end of a server shows after it has dropped a request


@asynccontextmanager
async def open(name: str, options: Options) -> AsyncIterator[Launched]:
    """The model, once its server is up; ConfigError or ChipError if it does not come up."""
    check(name, options)
    row = recipe(options.recipe, name)
    if options.kind not in row.kinds:
        kinds = " or ".join(f'kind = "{kind}"' for kind in row.kinds)
        raise ConfigError(f"[models.{name}] kind: the recipe '{options.recipe}' serves {kinds}")
    async with launched(name, options, row) as model:
        yield model


@asynccontextmanager
async def launched(name: str, options: Options, row: Recipe) -> AsyncIterator[Launched]:
    """The same by a recipe at hand."""
    if options.chip == auto.AUTO:
        options = await asyncio.to_thread(auto.placed, name, options, row)
    with auto.held(options.chip):
        async with _up(name, options, row) as model:
            yield model


@asynccontextmanager
async def _up(name: str, options: Options, row: Recipe) -> AsyncIterator[Launched]:
    key = secrets.token_hex(24)
    orders = Orders(name, options, row, key)
    line = _Line(name, options, row, key)
    keeper = Keeper(name, options, row, orders, key, line.open)
    model = Launched(line.card, keeper, orders)
    try:
        await keeper.open()
        model.learn_version()
        yield model
    finally:
        await model.close()


class _Line:
    """How the server is spoken to, on whichever port it is."""

    def __init__(self, name: str, options: Options, row: Recipe, key: str) -> None:
        self.card = _card(name, options)
        self._key = key
        self._name = name
        self._api = row.api
        self._options = replace(options, model=options.alias)

    @asynccontextmanager
    async def open(self, port: int) -> AsyncIterator[Remote]:
        """A connection pool to that port, with the key that the server was given."""
        url = f"http://{HOST}:{port}{self._api}"
        bearer = {"Authorization": f"Bearer {self._key}"}
        async with connect(
            self._name, self._options, url, None, lambda _: bearer, self._fault
        ) as upstream:
            write = openai.Writer(upstream, self._options, Preset(url=url, source="")).write
            yield Remote(self.card, upstream, write)

    def _fault(self, name: str, status: int, body: bytes, retry: float | None) -> ModelError:
        return fault(name, status, body.replace(self._key.encode(), b"[key]"), retry)


def _card(name: str, options: Options) -> Card:
    chat = options.kind == "chat"
    return Card(
        name=name,
        engine="launched",
        accepts=frozenset(options.accepts),
        emits=frozenset({Modality.TEXT if chat else Modality.EMBEDDING}),
        features=frozenset(options.features if chat else ()),
        extra=None,
        context=options.context,
        reach=options.reach_or(Reach.DEVICE),
        owner=options.owner,
        price=options.price(),
        chip=options.chip,
        watts=options.watts,
        serves=options.alias,
    )


class Launched:
    """A Model whose server is a child process; `version` is what its program says, once known."""

    def __init__(self, card: Card, keeper: Keeper, orders: Orders) -> None:
        self._card = card
        self._keeper = keeper
        self._orders = orders
        self._learning: asyncio.Task[None] | None = None
        self.version: str | None = None

    @property
    def card(self) -> Card:
        """What the options say it is."""
        return self._card

    @property
    def pid(self) -> int:
        """The server's process; 0 while there is none."""
        return self._keeper.pid

    @property
    def restarts(self) -> int:
        """How often it was started again."""
        return self._keeper.restarts

    def run(self, request: Request) -> AsyncGenerator[Event]:
        """Ask the server if it is up."""
        return self.telling(request, Told())

    async def telling(self, request: Request, told: Told) -> AsyncGenerator[Event]:
        """The same; what its death cuts off is Broken and never asked again here."""
        admit(self._card, request)
        life = self._keeper.life()
        begun = False
        try:
            async with aclosing(life.remote.telling(request, told)) as events:
                async for event in events:
                    begun = True
                    yield event
        except (Unreachable, Broken) as error:
            if isinstance(error, ServerError) or not await _ended(life):
                raise
            taken_up = begun or told.lost or isinstance(error, Lost | Broken)
            raise self._died(life, bool(taken_up)) from error

    def _died(self, life: Life, taken_up: bool) -> ModelError:
        if not taken_up:
            return self._keeper.refusal()
        return Broken(self._card.name, f"its server {life.why} as it answered")

    def learn_version(self) -> None:
        """Ask for the version beside the work."""
        self._learning = asyncio.create_task(self._learn())

    async def _learn(self) -> None:
        asked = self._orders.version()
        if asked is not None:
            self.version = await version(*asked)
        log.info("%s: version %s, log %s", self._card.name, self.version, self._orders.log)

    async def close(self) -> None:
        """End the server."""
        if self._learning is not None:
            self._learning.cancel()
            await asyncio.gather(self._learning, return_exceptions=True)
        await self._keeper.close()


async def _ended(life: Life) -> bool:
    """Whether the server is found dead, now or in a moment."""
    try:
        await asyncio.wait_for(life.over.wait(), _MOMENT)
    except TimeoutError:
        return False
    return True
