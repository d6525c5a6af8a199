"""Anthropic's Messages API, or any server that speaks it.

What the API has no field for (seed, logit_bias, penalties, logprobs, n, free JSON) is not on the
card, so a request for it is refused by name before it is sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from bicameral.engines.remote import anthropic_wire as wire
from bicameral.engines.remote.member import Call, Remote
from bicameral.engines.remote.upstream import RemoteOptions, connect, reach_of
from bicameral.errors import ConfigError
from bicameral.types import Card, Feature, Modality, Request

_FEATURES = (Feature.TOOLS, Feature.STOP, Feature.JSON_SCHEMA)
URL = "https://api.anthropic.com/v1"
VERSION = "2023-06-01"


class Options(RemoteOptions, frozen=True, kw_only=True):
    """`max_tokens` is the length of an answer where the request sets none: the API demands one.

    `features` can name fewer: older models know no json_schema.
    """

    key_env: str | None = "ANTHROPIC_API_KEY"
    max_tokens: int = 4096
    accepts: tuple[Modality, ...] = (Modality.TEXT, Modality.IMAGE)
    features: tuple[Feature, ...] = _FEATURES


@asynccontextmanager
async def open(name: str, options: Options) -> AsyncIterator[Remote]:
    """The model `options.model`; ConfigError if the options cannot work."""
    _check(name, options)
    base = options.url or URL
    card = _card(name, options, base)
    async with connect(name, options, base, options.key_env, _headers, wire.fault) as upstream:

        def write(request: Request) -> Call:
            body = wire.body(request, options.model, options.max_tokens)
            cap = options.max_event
            return Call(
                "/messages", body, True, lambda _: wire.MessageStream(name, upstream.refusal, cap)
            )

        yield Remote(card, upstream, write)


def _check(name: str, options: Options) -> None:
    for feature in options.features:
        if feature not in _FEATURES:
            raise ConfigError(
                f"[models.{name}] features: the Messages API has no '{feature.value}'; "
                f"known: {', '.join(f.value for f in _FEATURES)}"
            )
    if not {Modality.TEXT, Modality.IMAGE} >= set(options.accepts):
        raise ConfigError(f"[models.{name}] accepts: the Messages API takes text and image only")


def _card(name: str, options: Options, base: str) -> Card:
    return Card(
        name=name,
        engine="anthropic",
        accepts=frozenset(options.accepts),
        features=frozenset(options.features),
        extra=wire.EXTRA,
        context=options.context,
        reach=options.reach_or(reach_of(base)),
        owner=options.owner or "Anthropic",
        price=options.price(),
        watts=options.watts,
        serves=options.model,
    )


def _headers(key: str | None) -> Mapping[str, str]:
    return {"anthropic-version": VERSION, **({"x-api-key": key} if key else {})}
