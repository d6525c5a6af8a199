"""How a stream is watched: the keys of the [watch] table and of a watch asked for over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta

from bicameral.config import Closed, Config, convert

GateName = Literal["none", "difference", "motion", "small", "spiking", "voice"]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]


class WatchSettings(Closed, frozen=True, kw_only=True):
    """When reasoning is woken, how it is asked, and what is kept. Times are seconds of the stream.

    `gate` scores each frame, of a video at most `fps` a second. An event begins at a score of
    `threshold` (by default the gate's own) and is over when the score stays under `release` times
    that for `quiet` seconds. The question is asked `settle` seconds into it, or at its end if that
    comes first, about the frame that scored highest; again after each `recheck` seconds that it
    goes on, or as soon as it scores half as much again. The next event may begin `cooldown`
    seconds after. No more than `wakes` questions a minute are asked, `burst` of them at once;
    events beyond that are told together every `summary` seconds.

    A model has `within` seconds to answer, and `answer_tokens` for yes or no (a model that thinks
    needs more), `detail_tokens` for what it saw. An answer to a question older than `fresh` is
    told as late, and a question older than `patience` is given up as undescribed; these three
    times are of the clock on the wall. `backlog` questions are kept while the model is away.

    `clip` seconds before a wake are kept as evidence. `stall`, `frozen` and `black` are how long
    a source may be silent, show the same picture, or show none.
    """

    gate: GateName = "difference"
    threshold: Annotated[float, Meta(gt=0)] | None = None
    release: Annotated[float, Meta(gt=0, le=1)] = 0.5
    fps: Annotated[float, Meta(gt=0, le=1000)] = 10.0
    settle: Seconds | None = None
    quiet: Seconds = 1.0
    cooldown: Seconds = 2.0
    recheck: Seconds | None = 60.0
    wakes: Annotated[float, Meta(gt=0, le=6000)] = 12.0
    burst: Annotated[int, Meta(ge=1, le=1000)] = 4
    summary: Annotated[float, Meta(gt=0, le=86_400)] = 60.0
    answer_tokens: Annotated[int, Meta(ge=1, le=100_000)] = 64
    detail_tokens: Annotated[int, Meta(ge=0, le=100_000)] = 160
    within: Annotated[float, Meta(gt=0, le=86_400)] = 60.0
    fresh: Annotated[float, Meta(gt=0, le=86_400)] = 30.0
    patience: Annotated[float, Meta(gt=0, le=86_400)] = 900.0
    backlog: Annotated[int, Meta(ge=1, le=100_000)] = 500
    clip: Annotated[float, Meta(ge=0, le=60)] = 5.0
    stall: Annotated[float, Meta(gt=0, le=3600)] = 10.0
    frozen: Annotated[float, Meta(gt=0, le=86_400)] = 30.0
    black: Annotated[float, Meta(gt=0, le=86_400)] = 2.0


class WatchOptions(WatchSettings, frozen=True, kw_only=True):
    """The [watch] table: the settings above as defaults of every watch, and what may be watched.

    `sources` names what a client of the server may watch; it can name nothing else, neither a file
    nor an address, unless `urls` lets it give the http(s) address of a recording, which is
    fetched as pictures are, under the same rules. `streams` is how many watches the server runs at
    once.
    """

    sources: Mapping[str, str] = {}
    urls: bool = False
    streams: Annotated[int, Meta(ge=0, le=1000)] = 8


def options(config: Config) -> WatchOptions:
    """The [watch] table of the config; ConfigError if it is wrong."""
    return convert(config.watch, WatchOptions, config.source, "watch")
