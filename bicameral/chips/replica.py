"""One replica of a model on some chips: how fast it answers with so many requests in flight.

Either forecast or measured; who asks sees which. Measurements are not carried beyond the largest
number of requests in flight that anybody measured.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import msgspec

from bicameral.chips.chip import Chip
from bicameral.chips.forecast import Coefficients, Spread, forecast, shipped, weighed
from bicameral.chips.forecast import Forecast as Forecasted
from bicameral.chips.network import Network
from bicameral.chips.roofline import Layout, Load, Precision, Room, batch, room, terms
from bicameral.chips.workload import Measured, Way
from bicameral.errors import ConfigError

NOTHING = Spread(0.0, 0.0, 0.0)


class Speed(msgspec.Struct, frozen=True):
    """Seconds to the first token of a request that runs, and between two tokens of it."""

    first: Spread
    token: Spread

    def life(self, written: float) -> Spread:
        """Seconds that a request of `written` tokens runs."""
        steps = max(0.0, written - 1)
        first, token = self.first, self.token
        return Spread(
            first.value + steps * token.value,
            first.low + steps * token.low,
            first.high + steps * token.high,
        )


class Encoding(msgspec.Struct, frozen=True):
    """Seconds of the chips for what is encoded in a prompt: of one that has any, and in the mean.

    It delays the other requests of the replica as their prompts do; its weights take `bytes` of
    every chip.
    """

    own: Spread = NOTHING
    mean: Spread = NOTHING
    bytes: float = 0.0

    def slows(self, first: Spread, token: Spread, before: float, between: float) -> Speed:
        """The speed with it: `before` others' prompts wait first, `between` two tokens as many."""
        late = _plus(_plus(first, self.own, 1.0), self.mean, before)
        return Speed(late, _plus(token, self.mean, between))


class Steady:
    """What takes each request as long, one at a time: an encoder.

    `seconds`: of one request that has anything for it.
    """

    most = 1
    room: Room | None = None

    def __init__(self, seconds: Spread, way: Way, source: str, notes: tuple[str, ...] = ()) -> None:
        self.seconds, self.way, self.source, self.notes = seconds, way, source, notes

    def at(self, running: float) -> Speed:
        """As fast as ever: `running` is 1."""
        return Speed(self.seconds, NOTHING)


class Replica(Protocol):
    """`most` requests run at once at best; `at` is monotone enough to search in."""

    most: int
    way: Way
    source: str
    room: Room | None
    notes: tuple[str, ...]

    def at(self, running: float) -> Speed:
        """How fast each of `running` requests (1 to `most`) is answered."""


class Setting(msgspec.Struct, frozen=True):
    """What lies where: a network in a precision, on chips in a layout."""

    network: Network
    chip: Chip
    precision: Precision
    layout: Layout


class Forecast:
    """A replica that nobody has measured.

    Raises ConfigError if the weights or the `longest` request do not fit, or the chip is of a kind
    that is not forecast.
    """

    way: Way = "modelled"

    def __init__(
        self,
        setting: Setting,
        load: Load,
        longest: float,
        encoding: Encoding | None = None,
        known: Coefficients | None = None,
    ) -> None:
        self._setting, self._load, self._encoding = setting, load, encoding or Encoding()
        self._known = known or shipped()
        place = (setting.network, setting.chip, setting.precision, setting.layout)
        batch(*place, load)
        self.room: Room | None = room(*place, load)
        if room(*place, msgspec.structs.replace(load, read=longest, written=0.0)).sequences < 1:
            raise ConfigError(
                f"beside the weights of {setting.network.name} no request of {longest:g} tokens "
                f"fits on {setting.layout.chips} {setting.chip.name}"
            )
        fits = int(self.room.sequences) * setting.layout.data
        self.most = max(1, min(int(self._known.most), fits))
        whole = self._of(float(self.most))
        self.notes = whole.notes
        self.source = "forecast from the roofline and shared coefficients"
        self.at = lru_cache(maxsize=4096)(self._at)

    def _of(self, running: float) -> Forecasted:
        s = self._setting
        load = msgspec.structs.replace(self._load, concurrency=running)
        return forecast(s.network, s.chip, s.precision, s.layout, load, self._known)

    def _at(self, running: float) -> Speed:
        found = self._of(running)
        own = max(0.0, running - 1)
        return self._encoding.slows(
            found.first, found.token, self._known.first.before * own, own / self._load.written
        )


def _plus(spread: Spread, more: Spread, times: float) -> Spread:
    return Spread(
        spread.value + times * more.value,
        spread.low + times * more.low,
        spread.high + times * more.high,
    )


class Rows:
    """A replica as it was measured, straight lines between the measurements.

    `watts`: the most that it drew, if every row says. Below the fewest requests in flight that
    were measured, the speed of those holds: it is not slower there. What a row lacks of a band
    stays without one: low and high are the value.
    """

    def __init__(self, rows: Sequence[Measured], encoding: Encoding | None = None) -> None:
        self._rows = _newest(rows)
        self._encoding = encoding or Encoding()
        self.most = self._rows[-1].concurrency
        self.room: Room | None = None
        self.notes: tuple[str, ...] = ()
        self.way: Way = "measured" if all(r.kind == "measured" for r in self._rows) else "published"
        stated = [r.watts for r in self._rows if r.watts is not None]
        self.watts = max(stated) if len(stated) == len(self._rows) else None
        self.source = "; ".join(dict.fromkeys(f"{r.source}, {r.date}" for r in self._rows))

    def at(self, running: float) -> Speed:
        """How fast each of `running` requests is answered."""
        first, token = (self._between(name, running) for name in ("first_token_s", "token_s"))
        own = max(0.0, running - 1)
        written = self._rows[0].output or 1.0
        whole = (Spread(first, first, first), Spread(token, token, token))
        return self._encoding.slows(*whole, own, own / written)

    def _between(self, name: str, running: float) -> float:
        rows = self._rows
        right = bisect_left([r.concurrency for r in rows], running)
        if right == 0 or right == len(rows):
            return float(getattr(rows[min(right, len(rows) - 1)], name))
        left = rows[right - 1]
        share = (running - left.concurrency) / (rows[right].concurrency - left.concurrency)
        low, high = getattr(left, name), getattr(rows[right], name)
        return float(low + share * (high - low))


def _newest(rows: Sequence[Measured]) -> list[Measured]:
    """By requests in flight; of two measurements of the same, the newer."""
    dated = sorted(rows, key=lambda r: (r.date, r.kind == "measured"))
    kept = {row.concurrency: row for row in dated}
    return [kept[n] for n in sorted(kept)]


def reading_seconds(setting: Setting, read: float, known: Coefficients | None = None) -> Spread:
    """Seconds of the chips that one prompt of `read` tokens takes when many are read."""
    known = known or shipped()
    coefficients = msgspec.structs.replace(
        known.token, step=0.0, reductions=0.0, moved=0.0, layers=0.0, expert_layers=0.0, unpacked=0
    )
    # Of two requests of one token each, one reads its prompt for every token of the other; that
    # there is memory for both does not matter here.
    memory = setting.chip.fact("memory_gb")
    roomy = msgspec.structs.replace(
        setting.chip, memory_gb=msgspec.structs.replace(memory, value=memory.value * 1e6)
    )
    groups = setting.layout.data
    load = Load(concurrency=2 * groups, read=read, written=1)
    place = (setting.precision, setting.layout, load)
    value, fast, slow = (
        weighed(coefficients, terms(setting.network, chip, *place)[0]) / groups
        for chip in (roomy, roomy.pushed("high"), roomy.pushed("low"))
    )
    seen = setting.chip.generation in known.generations
    band = known.token_band.seen if seen else known.token_band.unseen
    return Spread(value, fast * band[0], slow * band[1])


def decoding_only(known: Coefficients) -> Coefficients:
    """The coefficients of a replica that is handed prompts which another has read."""
    token = msgspec.structs.replace(known.token, reading=0.0, moved_reading=0.0, reading_layers=0.0)
    first = msgspec.structs.replace(known.first, own=0.0, before=0.0, moved=0.0)
    return msgspec.structs.replace(known, token=token, first=first)
