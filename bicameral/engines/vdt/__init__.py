"""Video by a diffusion transformer with unified masks: VDT (Lu et al., arXiv 2305.13311).

One net and one checkpoint predict, go back, interpolate, complete, animate a picture, and dream.
Written from the paper's description; nothing of the authors' code, which is not free, is in it.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """`Options` and `open` of the engine, only now: who trains or scores a net needs no member."""
    if name in ("Options", "open"):
        from bicameral.engines.vdt import member

        return getattr(member, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
