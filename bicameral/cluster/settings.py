"""What a [models.NAME.cluster] table may say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

from bicameral.config import Closed
from bicameral.errors import ConfigError

Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1, le=1024)]


class Bounds(Closed, frozen=True, kw_only=True):
    """How many replicas there are at least and at most; in between, as many as there is work for.

    One is added once there has been too much to do for `up_seconds`, one taken away once there has
    been too little for `down_seconds`.
    """

    min: Count = 1
    max: Count
    up_seconds: Seconds = 2.0
    down_seconds: Seconds = 60.0


class Settings(Closed, frozen=True, kw_only=True):
    """The [models.NAME.cluster] table; `cluster = true` takes it as it is here.

    `replicas` is how many there are, or a table of bounds (min, max). Each stands where the node
    has `resources` (such as GPU = 1, or a label of your own) and `num_cpus` free, `memory` bytes
    too if given, answers at most `max_ongoing` requests at once, and has `place_seconds` to find
    its node and `start_seconds` to open the model there. Up to `queue` requests wait until one is
    free. One that has to go gets no new requests, and `drain_seconds` for those it has; one that
    works on for `grace_seconds` after it was told to stop is killed.
    """

    replicas: Count | Bounds = 1
    resources: Mapping[str, Annotated[float, Meta(gt=0)]] = {}
    num_cpus: Annotated[float, Meta(ge=0)] = 1.0
    memory: Annotated[int, Meta(ge=2**20)] | None = None
    max_ongoing: Count = 32
    queue: Annotated[int, Meta(ge=0, le=10**6)] = 256
    place_seconds: Seconds = 30.0
    start_seconds: Seconds = 300.0
    drain_seconds: Seconds = 30.0
    grace_seconds: Seconds = 10.0

    @property
    def bounds(self) -> Bounds:
        """The replicas as bounds."""
        count = self.replicas
        return count if isinstance(count, Bounds) else Bounds(min=count, max=count)


def checked(name: str, settings: Settings) -> Settings:
    """The same; ConfigError if its keys cannot hold together."""
    where = f"[models.{name}.cluster]"
    if settings.bounds.max < settings.bounds.min:
        raise ConfigError(f"{where} replicas: max is less than min")
    for label, key in (("CPU", "num_cpus"), ("memory", "memory")):
        if label in settings.resources:
            raise ConfigError(f"{where} resources: write {label} as {key}, a key of the table")
    return settings
