"""What is to be planned, as frozen values, and their check: models, chips, load and goal."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from bicameral.chips.chip import Chip
from bicameral.chips.network import Network
from bicameral.chips.roofline import Precision
from bicameral.config import nearest
from bicameral.errors import ChipError, ConfigError
from bicameral.options import Closed

Way = Literal["measured", "published", "modelled"]
Objective = Literal["cost", "energy", "latency"]


class Tokens(msgspec.Struct, frozen=True):
    """How many tokens requests have: each count with its share of them; one count: the mean.

    `variation` is the squared coefficient of variation, None where only the mean is known.
    """

    counts: tuple[tuple[float, float], ...]

    @property
    def mean(self) -> float:
        """Tokens of the average request."""
        return sum(count * share for count, share in self.counts)

    @property
    def longest(self) -> float:
        """Tokens of the longest."""
        return max(count for count, _ in self.counts)

    @property
    def variation(self) -> float | None:
        """The variance over the squared mean."""
        if len(self.counts) == 1:
            return None
        squares = sum(count**2 * share for count, share in self.counts)
        return squares / self.mean**2 - 1


def _counts(given: float | tuple[tuple[float, float], ...]) -> Tokens:
    return Tokens(given if isinstance(given, tuple) else ((float(given), 1.0),))


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One model to place. `share`: the part of the requests that it answers.

    An encoder `reads` pictures or audio for those that answer: it has no share, reads `tokens` for
    each item and hands on `moves` bytes of it (else an activation for each token).
    """

    name: str
    network: Network | None
    precisions: tuple[Precision, ...]
    share: float
    reads: Literal["pictures", "audio"] | None = None
    tokens: float = 0.0
    moves: float | None = None

    @property
    def handed(self) -> float | None:
        """Bytes that leave an encoder for one item; None: nobody said."""
        if self.moves is None and self.network and self.tokens:
            return 2.0 * self.tokens * self.network.hidden
        return self.moves


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """`count` chips alike, `per_node` in a node; `price` of a chip in nano-dollars an hour.

    `network_gbs`: GB/s of 10^9 from a node to others, one direction; None: unknown.
    """

    name: str
    chip: Chip
    count: int
    per_node: int
    price: int | None = None
    network_gbs: float | None = None

    def room(self, size: int) -> int:
        """How many chips blocks of at least `size` (a power of two) may take in all its nodes."""
        whole, rest = divmod(self.count, self.per_node)
        return (whole * (self.per_node // size) + rest // size) * size


class Load(Closed, frozen=True, kw_only=True):
    """What comes in: arrivals at random (Poisson), each request with so many tokens and items."""

    requests_per_hour: float
    input: float | tuple[tuple[float, float], ...]
    output: float | tuple[tuple[float, float], ...]
    pictures: float = 0.0
    audio: float = 0.0
    arrival: Literal["poisson"] = "poisson"

    @property
    def read(self) -> Tokens:
        """Tokens of the prompts."""
        return _counts(self.input)

    @property
    def written(self) -> Tokens:
        """Tokens of the answers."""
        return _counts(self.output)

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests_per_hour / 3600


class Goal(Closed, frozen=True, kw_only=True):
    """How fast answers must be, for `percentile` of the requests, and what is to be least.

    `sure`: even at the far end of the forecasts' bands, for who must not miss it.
    """

    first_token_s: float | None = None
    token_s: float | None = None
    percentile: float = 90.0
    minimise: Objective = "cost"
    sure: bool = False


class Measured(Closed, frozen=True, kw_only=True):
    """One measurement of a replica: `tensor` chips with `concurrency` requests in flight.

    Of a model that answers: `first_token_s`, `token_s` and the `input`, `output` tokens they were
    measured with. Of an encoder: `items_s`, items a second. `watts`: of all chips of the replica.
    `kind` says whether somebody here measured it or somebody published it.
    """

    model: str
    chip: str
    date: datetime.date
    source: str
    kind: Literal["measured", "published"] = "measured"
    precision: str = ""
    tensor: int = 1
    concurrency: int = 1
    input: float | None = None
    output: float | None = None
    first_token_s: float | None = None
    token_s: float | None = None
    items_s: float | None = None
    watts: float | None = None


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a plan is made from; `source` names the file in errors."""

    models: tuple[Model, ...]
    pools: tuple[Pool, ...]
    load: Load
    goal: Goal
    measured: tuple[Measured, ...] = ()
    source: str = "(workload)"

    @property
    def answering(self) -> tuple[Model, ...]:
        """The models that write tokens."""
        return tuple(m for m in self.models if m.reads is None)

    @property
    def encoders(self) -> tuple[Model, ...]:
        """Those that read pictures or audio for them, where there are any to read."""
        return tuple(m for m in self.models if m.reads and self.items(m))

    def items(self, encoder: Model) -> float:
        """How many items of a request an encoder reads."""
        if encoder.reads is None:
            return 0.0
        return float(getattr(self.load, encoder.reads))


def check(work: Workload) -> None:
    """Raises ConfigError for numbers that make no sense, ChipError where there is no chip."""
    at = work.source
    if not work.answering:
        raise ConfigError(f"{at}: [[models]]: there is no model that answers; add one")
    _named_once(at, "models", [m.name for m in work.models])
    _named_once(at, "chips", [p.name for p in work.pools])
    for pool in work.pools:
        _check_pool(at, pool)
    if not any(pool.count for pool in work.pools):
        raise ChipError(f"{at}: [[chips]]: there are none; say which chips there are, and how many")
    _check_load(at, work.load)
    _check_goal(at, work.goal)
    for model in work.models:
        _check_model(at, model)
    for row in work.measured:
        _check_measured(at, row, work)


def _named_once(at: str, table: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{at}: [[{table}]]: two are called '{name}'; give one another name")


def _above(where: str, value: float | None, *, least: float = 0.0, zero: bool = False) -> None:
    if value is None:
        return
    if not math.isfinite(value) or value < least or (value == least and not zero):
        raise ConfigError(f"{where}: {value:g} makes no sense; it must be above {least:g}")


def _check_pool(at: str, pool: Pool) -> None:
    where = f"{at}: [[chips]] {pool.name}"
    _above(f"{where} count", pool.count, zero=True)
    _above(f"{where} per_node", pool.per_node)
    _above(f"{where} network_gbs", pool.network_gbs)
    if pool.price is not None:
        _above(f"{where} price_per_hour", pool.price, zero=True)


def _check_load(at: str, load: Load) -> None:
    where = f"{at}: [load]"
    _above(f"{where} requests_per_hour", load.requests_per_hour)
    for name in ("pictures", "audio"):
        _above(f"{where} {name}", getattr(load, name), zero=True)
    for name, tokens in (("input", load.read), ("output", load.written)):
        for count, share in tokens.counts:
            _above(f"{where} {name}", count)
            _above(f"{where} {name}: a share", share)
        if not math.isclose(sum(share for _, share in tokens.counts), 1, abs_tol=1e-6):
            raise ConfigError(f"{where} {name}: write [tokens, share] pairs; the shares must be 1")


def _check_goal(at: str, goal: Goal) -> None:
    _above(f"{at}: [goal] first_token_s", goal.first_token_s)
    _above(f"{at}: [goal] token_s", goal.token_s)
    if not 0 < goal.percentile < 100:
        raise ConfigError(f"{at}: [goal] percentile: {goal.percentile:g} is not between 0 and 100")


def _check_model(at: str, model: Model) -> None:
    where = f"{at}: [[models]] {model.name}"
    _above(f"{where} share", model.share, zero=bool(model.reads))
    _above(f"{where} tokens", model.tokens, zero=True)
    _above(f"{where} moves", model.moves, zero=True)
    if not model.precisions:
        raise ConfigError(f"{where} precisions: name at least one")
    if model.reads and model.network and not model.tokens:
        raise ConfigError(f"{where} tokens: say how many tokens one of the {model.reads} is")


def _check_measured(at: str, row: Measured, work: Workload) -> None:
    where = f"{at}: [[measured]] {row.model} on {row.chip}"
    model = next((m for m in work.models if m.name == row.model), None)
    if model is None:
        hint = nearest(row.model, tuple(m.name for m in work.models))
        raise ConfigError(f"{where}: there is no such model; {hint}")
    if row.chip not in {name for p in work.pools for name in (p.name, p.chip.id)}:
        hint = nearest(row.chip, tuple(p.name for p in work.pools))
        raise ConfigError(f"{where}: there is no such chip; {hint}")
    known = {p.weights for p in model.precisions}
    if row.precision and row.precision not in known:
        raise ConfigError(f"{where} precision: '{row.precision}' is none of the model's precisions")
    wanted = ("items_s",) if model.reads else ("first_token_s", "token_s", "input", "output")
    for name in wanted:
        if getattr(row, name) is None:
            raise ConfigError(f"{where} {name}: is missing; a row without it measures nothing")
    for name in (*wanted, "watts", "tensor", "concurrency"):
        _above(f"{where} {name}", getattr(row, name))
