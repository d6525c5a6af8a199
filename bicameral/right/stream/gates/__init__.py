"""Gates: cheap judges of whether a frame is worth waking the reasoning for.

A gate only scores; it may say in `threshold` from which score it wakes by default (else 0.5), and
when a score wakes is decided in `bicameral.right.stream.wake`. Each gate is one file here that
defines `open(**options)`, loaded when it is first named.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol

from bicameral.errors import ConfigError
from bicameral.right.stream.frame import Frame

# Each is the file of that name beside this one.
GATES = ("none", "difference", "motion", "small", "spiking", "voice")


class Gate(Protocol):
    """Scores the frames of one source; it may keep a state, so each source has its own."""

    name: str

    def score(self, frame: Frame) -> float:
        """How much speaks for something worth waking for: finite, from 0, higher is more.

        It is called for every frame, in order. RequestError (param `gate`) for a frame of a
        kind the gate cannot read: silence would look like a quiet world.
        """
        ...

    def reset(self) -> None:
        """Forget what was seen: the next frame is the first one of a new scene."""
        ...


def open_gate(name: str, **options: Any) -> Gate:
    """The gate called `name`, fresh; ConfigError if there is none or its library is missing."""
    if name not in GATES:
        raise ConfigError(f"there is no gate '{name}'; known: {', '.join(GATES)}")
    gate: Gate = import_module(f"bicameral.right.stream.gates.{name}").open(**options)
    return gate
