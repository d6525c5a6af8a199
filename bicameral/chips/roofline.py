"""How long a chip needs at the speed of light: pure functions of shapes, rates and loads.

The usual roofline of serving language models: a decoding step reads the weights and the cache
once, or is bound by its arithmetic; reading prompts is arithmetic, and goes on between the steps
of those that decode. What keeps real engines from it is counted here too (layers, reductions,
bytes moved between chips), in units; what a unit costs is fitted elsewhere.
"""

from __future__ import annotations

import msgspec

from bicameral.chips.chip import Chip
from bicameral.chips.network import Network
from bicameral.errors import ConfigError

# Bytes an element takes, with the scales of its block (fp4: NVFP4's; int4: groups of 128).
BYTES = {"bf16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5625, "int4": 0.5156, "int2": 0.2656}
# The share of a chip's memory that engines give to weights and cache.
USABLE = 0.95
_MICRO = 1e-6
_ACTIVATION = 2.0  # bytes of an activation's element that travels between chips


class Precision(msgspec.Struct, frozen=True, kw_only=True):
    """Number formats of the weights, of the routed experts' and of the cache.

    Raises ConfigError for a format that BYTES does not have.
    """

    weights: str
    experts: str
    cache: str = "bf16"

    def __post_init__(self) -> None:
        for dtype in (self.weights, self.experts, self.cache):
            if dtype not in BYTES:
                raise ConfigError(f"unknown number format '{dtype}'; known: {', '.join(BYTES)}")


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """How one replica lies on its chips: each of `data` groups of `tensor` chips attends alone.

    Experts lie over all chips, whole ones (`experts` groups) or parts of each.
    """

    tensor: int = 1
    data: int = 1
    experts: int = 1

    @property
    def chips(self) -> int:
        """Chips of one replica."""
        return self.tensor * self.data


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Requests in flight in one replica, and tokens read and written for each."""

    concurrency: float
    read: float
    written: float


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What one output token waits for, in seconds at the speed of light or per unit of 1 us.

    `step`: the decoding step's roofline. `reading`: others' prompts, read between two steps.
    `reductions`: all-reduces of a step. `moved`, `moved_reading`: their bytes over the link.
    `layers`, `expert_layers` (weighted with experts chosen, eight being one) and
    `reading_layers`: overheads of each. `unpacked`: reading experts in a format that the chip
    cannot multiply.
    """

    step: float
    reading: float
    reductions: float
    moved: float
    moved_reading: float
    layers: float
    expert_layers: float
    reading_layers: float
    unpacked: float


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """What the first token waits for: the own prompt, those before it, one step, a constant.

    `moved`: bytes between chips while reading; `requests`: those in flight, in units of 1 us.
    """

    own: float
    before: float
    step: float
    moved: float
    requests: float
    once: float


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """Memory of each chip in bytes: all, what the weights take, and one sequence's cache."""

    usable: float
    weights: float
    sequence: float

    @property
    def sequences(self) -> float:
        """How many sequences fit beside the weights in one attention group; below 1: none."""
        return max(0.0, (self.usable - self.weights) / self.sequence)


def room(network: Network, chip: Chip, precision: Precision, layout: Layout, load: Load) -> Room:
    """What fits on each chip of a replica when every sequence is at its longest."""
    split = layout.tensor
    own = _stored(network, precision) / split
    experts = network.expert * network.experts * BYTES[precision.experts] / layout.chips
    kept = network.kept(load.read + load.written, BYTES[precision.cache])
    return Room(
        usable=chip.fact("memory_gb").value * 1e9 * USABLE,
        weights=own + experts,
        sequence=kept / min(split, network.splits),
    )


def _stored(network: Network, precision: Precision) -> float:
    return network.always * BYTES[precision.weights] + 2.0 * (network.head + network.embedding)


def batch(network: Network, chip: Chip, precision: Precision, layout: Layout, load: Load) -> float:
    """Sequences that really run together in one attention group: what fits caps what is asked.

    Raises ConfigError if the weights alone do not fit.
    """
    space = room(network, chip, precision, layout, load)
    if space.weights > space.usable:
        raise ConfigError(
            f"{network.name} needs {space.weights / 1e9:.0f} GB on each of {layout.chips} "
            f"{chip.name}, which has {space.usable / 1e9:.0f} GB to use: take more chips or "
            "smaller weights"
        )
    return min(max(1.0, load.concurrency / layout.data), max(1.0, space.sequences))


def terms(
    network: Network, chip: Chip, precision: Precision, layout: Layout, load: Load
) -> tuple[Terms, Prompt]:
    """What a token and the first token wait for, with the batch capped by memory."""
    own = batch(network, chip, precision, layout, load)
    light = _Light(network, chip, precision, layout)
    between = (own - 1) / max(1.0, load.written)
    several = layout.tensor > 1
    step = light.step(own, load.read + load.written / 2)
    prompt = light.prompt(load.read)
    sent_prompt = light.sent(load.read)
    return Terms(
        step=step,
        reading=prompt * between,
        reductions=2 * network.layers * several * _MICRO,
        moved=light.sent(own),
        moved_reading=sent_prompt * between,
        layers=network.layers * _MICRO,
        expert_layers=network.moe_layers * network.chosen / 8 * _MICRO,
        reading_layers=network.layers * between * _MICRO,
        unpacked=light.unpacked(own),
    ), Prompt(
        own=prompt,
        before=prompt * (own - 1),
        step=step,
        moved=sent_prompt,
        requests=own * _MICRO,
        once=1e-3,
    )


class _Light:
    """The roofline of one network on one kind of chip, laid out in one way."""

    def __init__(self, network: Network, chip: Chip, precision: Precision, layout: Layout) -> None:
        self.network, self.layout, self.precision = network, layout, precision
        self.bandwidth = chip.fact("bandwidth_gbs").value * 1e9
        self.rate = chip.rate(precision.weights).value * 1e12
        self.expert_rate = chip.rate(precision.experts).value * 1e12
        self.wide_rate = chip.rate("bf16").value * 1e12
        self.native = chip.native(precision.experts)
        self.link = chip.fact("link_gbs").value * 1e9 if layout.tensor > 1 else None

    def step(self, own: float, context: float) -> float:
        """Seconds of a decoding step of `own` sequences in each attention group."""
        return max(self._memory(own, context), self._arithmetic(own))

    def _memory(self, own: float, context: float) -> float:
        n, split = self.network, self.layout.tensor
        weights = (n.always * BYTES[self.precision.weights] + 2.0 * n.head) / split
        cache = own * n.kept(context, BYTES[self.precision.cache]) / min(split, n.splits)
        return (weights + self._touched(own) + cache) / self.bandwidth

    def _touched(self, own: float) -> float:
        """Bytes of the routed experts that a step reads on each chip."""
        n = self.network
        share = n.covered(own * self.layout.data)
        each = n.expert * n.experts * BYTES[self.precision.experts]
        return share * each / self.layout.chips

    def _arithmetic(self, own: float) -> float:
        n, split = self.network, self.layout.tensor
        wide = n.head / split / self.wide_rate
        routed = n.expert * n.chosen / split / self.expert_rate
        return 2 * own * (n.always / split / self.rate + wide + routed)

    def prompt(self, read: float) -> float:
        """Seconds to read one prompt of `read` tokens, in each attention group at once."""
        n, split = self.network, self.layout.tensor
        weights = n.always / split / self.rate + n.expert * n.chosen / split / self.expert_rate
        pairs = read**2 / 2 * n.reach_prefill * n.attending
        near = read * min(read, n.window or read) * n.reach_prefill * n.windowed
        return 2 * read * weights + 2 * (pairs + near) / split / self.wide_rate

    def sent(self, tokens: float) -> float:
        """Seconds to move the activations of `tokens` tokens in a pass's all-reduces."""
        if self.link is None:
            return 0.0
        split = self.layout.tensor
        each = 2 * self.network.layers * tokens * self.network.hidden * _ACTIVATION
        return each * 2 * (split - 1) / split / self.link

    def unpacked(self, own: float) -> float:
        """Seconds of reading experts whose format the chip must unpack before it multiplies."""
        return 0.0 if self.native else self._touched(own) / self.bandwidth
