"""chip = "auto": the options of a launched member with the chip that the planner takes for it.

It is chosen once, as the member opens, from the chips that are here then; of chips that are as
good, one that no other member of this process has.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from msgspec.structs import replace

from bicameral.chips.choose import Asked, candidates, choose
from bicameral.chips.find import Look, look
from bicameral.chips.workload import Measured
from bicameral.config import convert
from bicameral.engines.launch.options import Options
from bicameral.engines.launch.recipe import Recipe
from bicameral.engines.launch.shape import shape

log = logging.getLogger(__name__)
AUTO = "auto"
# Else CUDA counts the fastest first, and nvidia-smi by address: cuda:1 would be two chips.
_ORDER = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}

_HELD: Counter[str] = Counter()


def placed(name: str, options: Options, row: Recipe, seen: Callable[[], Look] = look) -> Options:
    """The options with a chip in place of "auto"; takes seconds, as each vendor's tool is asked.

    Raises ChipError if no chip here can run it, ConfigError or WeightsError if too little is known.
    """
    asked = _asked(name, options)
    busy = {chip for chip, members in _HELD.items() if members > 0}
    choice = choose(asked, candidates(seen(), row.chips), busy)
    log.info("%s: chip %s, as %s", name, choice.chip, choice.reason)
    env = {**_ORDER, **options.env} if choice.chip.startswith("cuda") else options.env
    return replace(options, chip=choice.chip, env=env)


def _asked(name: str, options: Options) -> Asked:
    known = shape(name, options.model, options.network)
    rows = tuple(
        convert({"model": name, **row}, Measured, f"[models.{name}]", f"measured {number}")
        for number, row in enumerate(options.measured, 1)
    )
    if known is None:
        return Asked(name=name, network=None, measured=rows)
    return Asked(name=name, network=known.network, precision=known.precision, measured=rows)


@contextmanager
def held(chip: str) -> Iterator[None]:
    """For as long as the block runs, the chips of "cuda:0,1" are not the first to be chosen."""
    kind, _, numbers = chip.partition(":")
    chips = [f"{kind}:{number}" for number in numbers.split(",") if number]
    _HELD.update(chips)
    try:
        yield
    finally:
        _HELD.subtract(chips)
