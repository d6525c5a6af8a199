"""How fast a model will serve on a chip: the roofline times one shared set of coefficients.

The same coefficients serve every chip, engine and model, so that forecasts of two chips may be
compared. Every forecast has a band, from chips (or generations of chips) that the fit had not
seen, and wider where the chip's own facts are in doubt.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

import msgspec

from bicameral.chips.chip import Chip
from bicameral.chips.network import Network
from bicameral.chips.roofline import (
    Layout,
    Load,
    Precision,
    Prompt,
    Room,
    Terms,
    batch,
    room,
    terms,
)
from bicameral.errors import ConfigError

_SHIPPED = Path(__file__).with_name("coefficients.toml")


class Band(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ratios measured / forecast that nine of ten rows lay between.

    `seen`: on a chip left out of the fit; `unseen`: on a generation left out of it.
    """

    seen: tuple[float, float]
    unseen: tuple[float, float]


class Coefficients(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What each term costs, for a token and for the first one; fitted once, for all chips.

    `generations`: those of the chips that it was fitted on; `most` requests at once and
    `widest` in chips of a replica: the largest of those measurements.
    """

    token: Terms
    first: Prompt
    token_band: Band
    first_band: Band
    most: float
    widest: int
    generations: tuple[str, ...]


class Spread(msgspec.Struct, frozen=True):
    """A forecast and the band that nine of ten measurements should lie in."""

    value: float
    low: float
    high: float


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What one replica will do under a load.

    `token`: seconds between two tokens of one answer; `first`: until its first, once it is taken
    up; `throughput`: output tokens a second of the replica; `running`: requests that run at once,
    where memory caps what was asked for (the rest wait, which `first` leaves out).
    """

    token: Spread
    first: Spread
    throughput: Spread
    running: float
    chips: int
    room: Room
    notes: tuple[str, ...]


@cache
def shipped() -> Coefficients:
    """The coefficients that come with the package."""
    text = _SHIPPED.read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), Coefficients)


def weighed(coefficients: Terms | Prompt, counted: Terms | Prompt) -> float:
    """The sum of terms, each times its coefficient."""
    names = counted.__struct_fields__
    return sum((getattr(coefficients, n) * getattr(counted, n) for n in names), 0.0)


def forecast(
    network: Network,
    chip: Chip,
    precision: Precision,
    layout: Layout,
    load: Load,
    coefficients: Coefficients | None = None,
) -> Forecast:
    """What one replica does under `load`.

    Raises ConfigError if the weights do not fit, a fact of the chip that it needs is unknown, or
    the chip is of a kind that no coefficients were fitted on.
    """
    _fitted_kind(chip)
    known = coefficients or shipped()
    setting = (precision, layout, load)
    token, first = _times(network, chip, *setting, known)
    slow = _times(network, chip.pushed("low"), *setting, known)
    fast = _times(network, chip.pushed("high"), *setting, known)
    seen = chip.generation in known.generations
    spread_token = _spread(token, fast[0], slow[0], _pick(known.token_band, seen))
    spread_first = _spread(first, fast[1], slow[1], _pick(known.first_band, seen))
    running = layout.data * batch(network, chip, *setting)
    space = room(network, chip, *setting)
    return Forecast(
        token=spread_token,
        first=spread_first,
        throughput=_throughput(spread_token, spread_first, running, load),
        running=running,
        chips=layout.chips,
        room=space,
        notes=tuple(_notes(chip, space, running, layout, load, known)),
    )


def _fitted_kind(chip: Chip) -> None:
    """GPUs and the like only: on CPUs, published runs were 7 to 20 times slower than forecast."""
    if chip.kind in ("cpu", "neuromorphic"):
        raise ConfigError(
            f"no {chip.kind} chip was among those that forecasts are fitted on, and their error "
            f"would be of no use: measure {chip.name}"
        )


def _times(
    network: Network,
    chip: Chip,
    precision: Precision,
    layout: Layout,
    load: Load,
    known: Coefficients,
) -> tuple[float, float]:
    token, first = terms(network, chip, precision, layout, load)
    return weighed(known.token, token), weighed(known.first, first)


def _pick(band: Band, seen: bool) -> tuple[float, float]:
    return band.seen if seen else band.unseen


def _spread(value: float, fast: float, slow: float, band: tuple[float, float]) -> Spread:
    return Spread(value, fast * band[0], slow * band[1])


def _throughput(token: Spread, first: Spread, running: float, load: Load) -> Spread:
    """Little's law: each running request gives its tokens within its own time."""

    def rate(one: float, start: float) -> float:
        return running * load.written / (start + one * max(0.0, load.written - 1))

    return Spread(
        rate(token.value, first.value), rate(token.high, first.high), rate(token.low, first.low)
    )


def _notes(
    chip: Chip, space: Room, running: float, layout: Layout, load: Load, known: Coefficients
) -> list[str]:
    said = []
    if running < load.concurrency:
        said.append(f"memory holds {running:.0f} of {load.concurrency:.0f} requests; others wait")
    if space.sequences < 1:
        said.append("not even one sequence at its longest fits beside the weights")
    if running > known.most:
        said.append(f"nothing with over {known.most:g} requests at once was fitted on")
    if layout.chips > known.widest:
        said.append(f"nothing with over {known.widest} chips a replica was fitted on: it is slower")
    if chip.generation not in known.generations:
        said.append(f"nothing of the generation '{chip.generation or chip.name}' was fitted on")
    said += [f"{chip.name}, {doubt}" for doubt in chip.doubts()]
    return said
