"""The ways to lay a model on a pool of chips, each at the point where it keeps the goal.

A replica lies within a node, on 1, 2, 4, ... chips: tensor parallel, or for mixtures of experts
attention side by side with the experts over all (pipelines are not planned). Blocks of such sizes
fit into nodes without a gap whenever enough chips are free, so that counting chips is enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from bicameral.chips.chip import Chip
from bicameral.chips.forecast import Spread
from bicameral.chips.operating import Asked, asked, points
from bicameral.chips.replica import (
    Encoding,
    Forecast,
    Replica,
    Rows,
    Setting,
    Steady,
    reading_seconds,
)
from bicameral.chips.roofline import BYTES, USABLE, Layout, Load, Precision
from bicameral.chips.workload import Measured, Model, Pool, Workload
from bicameral.errors import ConfigError

Does = Literal["all", "prefill", "decode", "encode"]
# The part of the first token's goal that encoding what is in the prompt may take, where that is
# done elsewhere.
ENCODING = 0.25
# Tokens of a measurement may be off by this part from the load's for it to count.
_ALIKE = 0.25


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """One replica of a model in a pool, as `words` say, that takes `rate` requests a second.

    `covers`: which parts of a request it does. `held`: what it is held to. `moved`: bytes that come
    or go over the network for a request. `late`: seconds to the first token besides. `served`: the
    part of the requests that has anything for it.
    """

    model: str
    pool: str
    does: Does
    precision: str
    layout: Layout
    words: str
    covers: tuple[str, ...]
    places: int
    rate: Spread
    held: Asked
    replica: Replica
    moved: float = 0.0
    late: float = 0.0
    served: float = 1.0

    @property
    def chips(self) -> int:
        """Chips of the replica."""
        return self.layout.chips

    def planned(self) -> float:
        """Requests a second to count on."""
        return self.rate.low if self.held.sure else self.rate.value


class Found(msgspec.Struct):
    """The options of a model in a pool, and in words why others are none.

    `taken`: an encoder's own time, even if it is too slow to encode alone within its part.
    """

    options: list[Option]
    refused: list[str]
    notes: list[str]
    taken: Steady | None = None
    taken_chips: int = 1


def sizes(pool: Pool) -> list[int]:
    """Chips that a replica in this pool may have."""
    most = min(pool.per_node, pool.count)
    return [2**n for n in range(most.bit_length()) if 2**n <= most]


def layouts(model: Model, size: int) -> Iterator[Layout]:
    """Ways to lie on `size` chips."""
    tensors = [size]
    if model.network and model.network.experts:
        tensors = [2**n for n in range(size.bit_length()) if 2**n <= size]
    for tensor in tensors:
        yield Layout(tensor=tensor, data=size // tensor)


def words(layout: Layout, precision: str) -> str:
    """A layout as a person reads it."""
    data = f" x dp{layout.data}" if layout.data > 1 else ""
    return f"{precision} tp{layout.tensor}{data}"


def search(work: Workload, model: Model, pool: Pool, inline: Mapping[str, Encoding]) -> Found:
    """All ways in which a replica in `pool` does all of `model`'s part within the goal.

    With encoders in the workload: those that leave the encoding to others, and if `inline` has them
    all, those that do it themselves.
    """
    found = Found([], [], [])
    needed = [encoder.name for encoder in work.encoders]
    apart = asked(work.goal, work.load.written, before=_before(work, needed))
    ways: list[tuple[tuple[str, ...], Encoding, Asked]] = [((model.name,), Encoding(), apart)]
    if needed and all(name in inline for name in needed):
        whole = asked(work.goal, work.load.written)
        ways.append(((model.name, *needed), _sum(inline[n] for n in needed), whole))
    for covers, encoding, held in ways:
        for replica, option in _replicas(work, model, pool, encoding, found):
            _add(found, replica, option, pool, covers, held)
    return found


def _before(work: Workload, encoders: Sequence[str]) -> float:
    return ENCODING * (work.goal.first_token_s or 0.0) if encoders else 0.0


def _sum(parts: Iterable[Encoding]) -> Encoding:
    every = list(parts)
    own, mean = _added([p.own for p in every]), _added([p.mean for p in every])
    return Encoding(own, mean, sum(p.bytes for p in every))


def _added(spreads: Sequence[Spread]) -> Spread:
    return Spread(*(sum(getattr(s, end) for s in spreads) for end in ("value", "low", "high")))


_Way = tuple[str, Layout]


def _replicas(
    work: Workload, model: Model, pool: Pool, encoding: Encoding, found: Found
) -> Iterator[tuple[Replica, _Way]]:
    """Each precision and layout that fits; a measurement stands in for its forecast."""
    rows = alike(work, model, pool, found.notes)
    for (named, tensor), measured in rows.items():
        if tensor in sizes(pool):
            yield Rows(measured, encoding), (named, Layout(tensor=tensor))
        else:
            found.notes.append(
                f"{model.name} was measured on {tensor} x {pool.name}, which is no size of replica "
                "that is planned there: not used"
            )
    for size in sizes(pool):
        for precision in model.precisions:
            for layout in layouts(model, size):
                if layout.data > 1 or not _stands_in(rows, precision, size):
                    yield from _forecast(work, model, pool, (precision, layout), encoding, found)


def _stands_in(rows: Mapping[tuple[str, int], object], precision: Precision, size: int) -> bool:
    return (precision.weights, size) in rows or ("", size) in rows


def alike(
    work: Workload, model: Model, pool: Pool, notes: list[str]
) -> dict[tuple[str, int], list[Measured]]:
    """Measurements of this model in this pool with such requests, by precision and chips."""
    rows: dict[tuple[str, int], list[Measured]] = {}
    for row in work.measured:
        if row.model != model.name or row.chip not in (pool.name, pool.chip.id):
            continue
        if model.reads or _near(work, row):
            rows.setdefault((row.precision, row.tensor), []).append(row)
        else:
            notes.append(
                f"{model.name} on {pool.name} was measured with {row.input:g} tokens in and "
                f"{row.output:g} out, which is another load: not used"
            )
    return rows


def _near(work: Workload, row: Measured) -> bool:
    pairs = ((row.input, work.load.read.mean), (row.output, work.load.written.mean))
    return all(given and abs(given - wanted) <= _ALIKE * wanted for given, wanted in pairs)


def _forecast(
    work: Workload,
    model: Model,
    pool: Pool,
    way: tuple[Precision, Layout],
    encoding: Encoding,
    found: Found,
) -> Iterator[tuple[Replica, _Way]]:
    precision, layout = way
    if model.network is None:
        found.refused.append(f"{pool.name}: {model.name} has no network, so it is not forecast")
        return
    chip = _left(pool.chip, encoding.bytes)
    setting = Setting(model.network, chip, precision, layout)
    longest = work.load.read.longest + work.load.written.longest
    try:
        replica = Forecast(setting, asked_load(work), longest, encoding)
    except ConfigError as error:
        found.refused.append(f"{pool.name} {words(layout, precision.weights)}: {error}")
        return
    yield replica, (precision.weights, layout)


def weights(model: Model, precision: Precision) -> float:
    """Bytes that a model's weights take; 0 where its shape is not known."""
    n = model.network
    if n is None:
        return 0.0
    experts = n.expert * n.experts * BYTES[precision.experts]
    return n.always * BYTES[precision.weights] + 2.0 * (n.head + n.embedding) + experts


def _left(chip: Chip, taken: float) -> Chip:
    """The chip with so many bytes less of memory."""
    if not taken or chip.memory_gb is None:
        return chip
    left = chip.memory_gb.value - taken / 1e9 / USABLE
    memory = msgspec.structs.replace(chip.memory_gb, value=left)
    return msgspec.structs.replace(chip, memory_gb=memory)


def asked_load(work: Workload) -> Load:
    """The mean request; how many at once is put in later."""
    return Load(concurrency=1, read=work.load.read.mean, written=work.load.written.mean)


def _add(
    found: Found,
    replica: Replica,
    way: _Way,
    pool: Pool,
    covers: tuple[str, ...],
    held: Asked,
) -> None:
    precision, layout = way
    named = words(layout, precision or "as measured")
    every = points(replica, held)
    if not every:
        found.refused.append(_slow(f"{pool.name} {named}", replica, held))
    found.options += [
        Option(
            model=covers[0],
            pool=pool.name,
            does="all",
            precision=precision,
            layout=layout,
            words=named,
            covers=covers,
            places=point.places,
            rate=point.rate,
            held=held,
            replica=replica,
        )
        for point in every
        if point.rate.value > 0
    ]


def _slow(named: str, replica: Replica, held: Asked) -> str:
    speed = replica.at(1.0)
    end = "at worst " if held.sure else ""
    first, token = ((s.high if held.sure else s.value) for s in (speed.first, speed.token))
    return (
        f"{named}: one request alone has its first token {end}after {first:.3g} s, then one each "
        f"{token * 1e3:.3g} ms"
    )


def encoders(work: Workload, encoder: Model, pool: Pool) -> Found:
    """The ways to run an encoder in `pool`, one chip each; a measurement beats a forecast."""
    found = Found([], [], [])
    made = _encoder(work, encoder, pool, found)
    if made is None:
        return found
    replica, precision, layout = made
    found.taken, found.taken_chips = replica, layout.chips
    share = min(1.0, work.items(encoder))
    first = work.goal.first_token_s
    held = Asked(
        first=None if first is None else ENCODING * first,
        token=None,
        percentile=work.goal.percentile,
        sure=work.goal.sure,
        written=1.0,
        variation=0.0,
    )
    _add(found, replica, (precision, layout), pool, (encoder.name,), held)
    found.options = [
        msgspec.structs.replace(o, does="encode", rate=_scaled(o.rate, 1 / share), served=share)
        for o in found.options
    ]
    return found


def _encoder(
    work: Workload, encoder: Model, pool: Pool, found: Found
) -> tuple[Steady, str, Layout] | None:
    """The one that does most a chip; of a request that has anything to encode, all at once."""
    each = max(1.0, work.items(encoder))
    rows = alike(work, encoder, pool, found.notes)
    fastest = max(
        (row for group in rows.values() for row in group if row.tensor in sizes(pool)),
        key=lambda row: (row.items_s or 0.0) / row.tensor,
        default=None,
    )
    if fastest is not None:
        seconds = each / (fastest.items_s or 1.0)
        steady = Steady(
            Spread(seconds, seconds, seconds), fastest.kind, f"{fastest.source}, {fastest.date}"
        )
        return steady, fastest.precision, Layout(tensor=fastest.tensor)
    return _encoder_forecast(encoder, pool, each, found)


def _encoder_forecast(
    encoder: Model, pool: Pool, each: float, found: Found
) -> tuple[Steady, str, Layout] | None:
    if encoder.network is None:
        found.refused.append(f"{pool.name}: {encoder.name} has no network and no measurement")
        return None
    load = Load(concurrency=1, read=encoder.tokens, written=1)
    best: tuple[float, Spread, Precision] | None = None
    for precision in encoder.precisions:
        setting = Setting(encoder.network, pool.chip, precision, Layout())
        try:
            Forecast(setting, load, encoder.tokens)
        except ConfigError as error:
            found.refused.append(f"{pool.name}: {error}")
            continue
        one = reading_seconds(setting, encoder.tokens)
        if best is None or one.value < best[0]:
            best = (one.value, one, precision)
    if best is None:
        return None
    note = f"{encoder.name}: forecast as the reading of prompts; no encoder was fitted on"
    steady = Steady(_scaled(best[1], each), "modelled", "forecast as reading a prompt", (note,))
    return steady, best[2].weights, Layout()


def _scaled(spread: Spread, times: float) -> Spread:
    return Spread(spread.value * times, spread.low * times, spread.high * times)


def encoding(found: Found, work: Workload, encoder: Model) -> Encoding:
    """What encoding takes of a replica that does it beside its own work, on however many chips.

    More chips make it no faster: encoders were seen not to gain from tensor parallelism.
    """
    if found.taken is None:
        return Encoding()
    own = _scaled(found.taken.seconds, found.taken_chips)
    stored = max((weights(encoder, p) for p in encoder.precisions), default=0.0)
    return Encoding(own, _scaled(own, min(1.0, work.items(encoder))), stored)
