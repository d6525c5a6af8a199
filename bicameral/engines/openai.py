"""Any server that speaks OpenAI's chat completions or embeddings, hosted or local.

A request that still carries its wire is relayed byte for byte; any other is written anew and its
answer read into Deltas. What may go wrong on the way is the business of upstream.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Literal

from bicameral.engines.remote import openai_relay as relay
from bicameral.engines.remote.member import Call, Remote, Sink
from bicameral.engines.remote.openai_read import ChatStream, Embeddings
from bicameral.engines.remote.openai_wire import chat_body, embeddings_body, fault
from bicameral.engines.remote.presets import Preset, preset
from bicameral.engines.remote.upstream import RemoteOptions, Upstream, connect, reach_of
from bicameral.errors import ConfigError, Unsupported
from bicameral.types import Card, Feature, Modality, Request

_PATHS = {"chat": "/chat/completions", "embeddings": "/embeddings"}


class Options(RemoteOptions, frozen=True, kw_only=True):
    """Give `url`, up to and with /v1 or its like, or a `preset` of presets.toml.

    `accepts` and `features` say what the model at the other end can do: chat servers differ.
    `ask_usage` false: never send stream_options, for servers that refuse it.
    """

    preset: str | None = None
    kind: Literal["chat", "embeddings"] = "chat"
    accepts: tuple[Modality, ...] = (Modality.TEXT,)
    features: tuple[Feature, ...] = tuple(Feature)
    ask_usage: bool | None = None
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None


@asynccontextmanager
async def open(name: str, options: Options) -> AsyncIterator[Remote]:
    """The model `options.model` of that server; ConfigError if the options cannot work."""
    row = _row(name, options)
    async with connect(
        name, options, row.url, options.key_env or row.key_env, _bearer, fault
    ) as upstream:
        card = _card(name, options, row)
        yield Remote(card, upstream, Writer(upstream, options, row).write)


def _row(name: str, options: Options) -> Preset:
    if options.preset is not None:
        row = preset(options.preset, name)
        return row if options.url is None else _moved(row, options.url)
    if options.url is None:
        raise ConfigError(f"[models.{name}] url: is missing; give it or a preset")
    return Preset(url=options.url, source="")


def _moved(row: Preset, url: str) -> Preset:
    """The preset's quirks at another address, such as another region or port."""
    return Preset(
        url=url,
        source=row.source,
        owner=row.owner,
        key_env=row.key_env,
        ask_usage=row.ask_usage,
        max_tokens_field=row.max_tokens_field,
    )


def _card(name: str, options: Options, row: Preset) -> Card:
    chat = options.kind == "chat"
    return Card(
        name=name,
        engine="openai",
        accepts=frozenset(options.accepts),
        emits=frozenset({Modality.TEXT if chat else Modality.EMBEDDING}),
        features=frozenset(options.features if chat else ()),
        extra=None,
        context=options.context,
        reach=options.reach_or(reach_of(row.url)),
        owner=options.owner or row.owner,
        price=options.price(),
        watts=options.watts,
        serves=options.model,
    )


def _bearer(key: str | None) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def _no_nested(name: str, request: Request) -> None:
    """A field inside another, such as messages[].x, has no place in a body that is written anew."""
    for field in request.extra:
        if "." in field:
            raise Unsupported(
                f"{name} gets '{field}' only from a request that one member gets untouched",
                param=field,
                code="unsupported",
            )


class Writer:
    """Writes requests for one member."""

    def __init__(self, upstream: Upstream, options: Options, row: Preset) -> None:
        self._upstream = upstream
        self._options = options
        self._path = _PATHS[options.kind]
        self._ask_usage = row.ask_usage if options.ask_usage is None else options.ask_usage
        self._max_tokens_field = options.max_tokens_field or row.max_tokens_field

    def write(self, request: Request) -> Call:
        """The relay if the request's bytes are at hand, else a translation."""
        if request.wire is not None:
            return self._relayed(request)
        if self._options.kind == "embeddings":
            return self._embedded(request)
        return self._translated(request)

    def _relayed(self, request: Request) -> Call:
        wire, name, o = request.wire, self._upstream.name, self._options
        assert wire is not None
        body = relay.splice(wire, o.model, ask_usage=self._ask_usage)

        def sink(headers: Mapping[str, str]) -> Sink:
            passed, refusal = relay.passed_on(headers), self._upstream.refusal
            if wire.stream:
                wanted = wire.include_usage
                return relay.RelayStream(name, refusal, o.max_event, passed, wanted=wanted)
            return relay.RelayBody(name, refusal, o.max_body, passed)

        return Call(self._path, body, wire.stream, sink)

    def _translated(self, request: Request) -> Call:
        if request.n > 1:
            raise Unsupported(
                f"{self._upstream.name} gives several answers only to a request that one member "
                "gets untouched; ask n times instead",
                param="n",
                code="unsupported",
            )
        _no_nested(self._upstream.name, request)
        body = chat_body(
            request,
            self._options.model,
            max_tokens_field=self._max_tokens_field,
            ask_usage=self._ask_usage,
        )
        name, refusal, cap = self._upstream.name, self._upstream.refusal, self._options.max_event
        return Call(self._path, body, True, lambda _: ChatStream(name, refusal, cap))

    def _embedded(self, request: Request) -> Call:
        name, refusal, cap = self._upstream.name, self._upstream.refusal, self._options.max_body
        count = len(request.messages)
        body = embeddings_body(request, self._options.model)
        return Call(self._path, body, False, lambda _: Embeddings(name, refusal, cap, count))
