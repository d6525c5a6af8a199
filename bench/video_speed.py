"""How fast a net samples and trains, and what share of this chip's matmul peak that is.

Processor time of one thread, best of several rounds in which all take turns; used by
bench/video.py.
"""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bicameral.engines.vdt.codec import Pixels
from bicameral.engines.vdt.design import Design
from bicameral.engines.vdt.learn.clips import Shape
from bicameral.engines.vdt.learn.sources import opened
from bicameral.engines.vdt.learn.train import Schedule, Trainer
from bicameral.engines.vdt.modern import Block
from bicameral.engines.vdt.network import build
from bicameral.engines.vdt.position import turns

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
WAVES = 256
PEAK = 1024  # rows and columns of the matrices by which the peak is measured


def flops(design: Design) -> float:
    """Of one forward pass over one clip: twice the multiplications of every matrix product."""
    frames, rows, columns = design.grid
    space, dim = rows * columns, design.dim
    tokens, inside = frames * space, design.latent * design.patch**2
    told = (design.condition == "adaln") * tokens * (inside + 1) * dim
    clock = WAVES * dim + dim * dim
    mlp = 8 * dim * dim * tokens
    if design.kind == "faithful":
        seen = 9 * dim * dim * tokens + 2 * dim * tokens * (space + frames)
        block = seen + mlp + 6 * dim * dim
        ends = tokens * dim * 3 * inside + clock + 2 * dim * dim
        return 2 * (design.depth * block + ends + told)
    full = design.attention == "full"
    seen = 4 * dim * dim * tokens + 2 * dim * tokens * tokens
    if not full:
        seen = 8 * dim * dim * tokens + 2 * dim * tokens * (space + frames)
    shared = tokens * 3 * (2 if full else 3) * dim * dim
    embed = tokens * dim * (inside + (design.condition == "tokens"))
    ends = embed + tokens * inside * dim + tokens * clock + shared
    return 2 * (design.depth * (seen + mlp) + ends + told)


def counted(design: Design) -> float:
    """The same as torch counts it while it runs; of attention it knows the plain products only."""
    plain = sdpa_kernel(SDPBackend.MATH)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), plain:
        build(design)(*_inputs(design, 1))
    return float(counter.get_total_flops())


def fastest(runs: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Seconds of processor time of each, the best of the rounds."""
    best = dict.fromkeys(runs, math.inf)
    for run in runs.values():
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            began = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - began)
    return best


def peaks(rounds: int) -> dict[str, float]:
    """FLOP/s of a matrix product by type."""
    runs = {}
    for name, kind in TYPES.items():
        one = torch.randn(PEAK, PEAK).to(kind)
        runs[name] = lambda one=one: one @ one
    return {name: 2 * PEAK**3 / seconds for name, seconds in fastest(runs, rounds).items()}


def speed(design: Design, rounds: int) -> str:
    """Sampling and training of one design, as Markdown."""
    peak, cost = peaks(rounds), flops(design)
    print(
        f"{cost / 1e9:.3f} GFLOP a clip and forward pass by the design; torch counts "
        f"{counted(design) / 1e9:.3f}. Matmul of {PEAK} x {PEAK}: "
        + ", ".join(f"{name} {value / 1e9:,.0f} GFLOP/s" for name, value in peak.items())
        + ".\n"
    )
    lines = ["| what | type | clips at once | a second | GFLOP/s | of the peak |", "|---" * 6 + "|"]
    for name, kind in TYPES.items():
        runs = {f"steps of a clip|{count}": _sampling(design, kind, count) for count in (1, 16)}
        runs |= {"clips trained|16": _training(design, name, 16)}
        if kind is torch.bfloat16:  # minutes to compile: only what one would train in
            runs |= {"clips trained, compiled|16": _training(design, name, 16, compiled=True)}
        for what, seconds in fastest(runs, rounds).items():
            label, _, count = what.partition("|")
            work = cost * int(count) * (3 if "trained" in label else 1)
            lines.append(
                f"| {label} | {name} | {count} | {int(count) / seconds:,.1f} | "
                f"{work / seconds / 1e9:,.1f} | {100 * work / seconds / peak[name]:.0f} % |"
            )
    return "\n".join(lines)


def _inputs(design: Design, count: int) -> tuple[Tensor, ...]:
    frames, rows, columns = design.grid
    size = (count, frames, design.latent, rows * design.patch, columns * design.patch)
    mask = torch.ones(count, *design.grid)
    when = torch.full((count,), 500) if design.kind == "faithful" else mask / 2
    return torch.randn(size), mask, when, torch.zeros(size)


def _sampling(design: Design, kind: torch.dtype, count: int) -> Callable[[], Any]:
    net, inputs = build(design).eval().requires_grad_(False), _inputs(design, count)

    def run() -> Any:
        with torch.inference_mode(), torch.autocast("cpu", kind, enabled=kind != torch.float32):
            return net(*inputs)

    return run


def _training(
    design: Design, precision: Any, count: int, *, compiled: bool = False
) -> Callable[[], Any]:
    schedule = Schedule(steps=1000, batch=count, precision=precision)
    shape = Shape(frames=design.frames, height=design.height, width=design.width, channels=3)
    clips = opened("balls:box").within(shape).batch(count, np.random.default_rng(0))

    class Same:
        def batch(self, count: int, dice: Any) -> Any:
            return clips

    return Trainer(design, schedule, Same(), Pixels(), compiled=compiled, said=print).step


def rivals(design: Design, rounds: int) -> str:
    """One block beside the nearest ones of diffusers, as Markdown; or why not."""
    if importlib.util.find_spec("diffusers") is None:
        return "diffusers is not installed here: its blocks are not measured."
    lines = [
        "| block | type | parameters | forward ms | both ways ms |",
        "|---" * 5 + "|",
    ]
    for name, kind in TYPES.items():
        blocks = {
            "ours, time then space, a time for each token": _ours(design, full=False),
            "ours, over all tokens, a time for each token": _ours(design, full=True),
            **_theirs(design),
        }
        runs: dict[str, Callable[[], Any]] = {}
        for label, (block, call) in blocks.items():
            runs[f"{label}|forward"] = _forward(call, kind)
            runs[f"{label}|both"] = _both(block, call, kind)
        took = fastest(runs, rounds)
        for label, (block, _) in blocks.items():
            count = sum(p.numel() for p in block.parameters())
            ways = (took[f"{label}|{way}"] * 1e3 for way in ("forward", "both"))
            lines.append(
                f"| {label} | {name} | {count:,} | " + " | ".join(f"{w:.1f}" for w in ways) + " |"
            )
    return "\n".join(lines)


CLIPS = 16  # in a block at once
Timed = tuple[nn.Module, Callable[[], Tensor]]


def _ours(design: Design, *, full: bool) -> Timed:
    frames, rows, columns = design.grid
    dim, head = design.dim, design.dim // design.heads
    block = Block(dim, design.heads, full=full)
    x = torch.randn(CLIPS, frames, rows * columns, dim)
    shared = torch.randn(CLIPS, frames, rows * columns, 3 * block.parts * dim)
    where = (turns(frames, rows, columns, head),) * 2
    if not full:
        where = turns(frames, 1, 1, head), turns(1, rows, columns, head)

    def call() -> Tensor:
        # As the linear layer before gives it.
        return block(x, shared.to(_kind()).chunk(3 * block.parts, dim=-1), where)

    return block, call


def _theirs(design: Design) -> dict[str, Timed]:
    """Wan's without its cross-attention, as we have none; and the one of Latte and PixArt."""
    from diffusers.models.attention import BasicTransformerBlock
    from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed, WanTransformerBlock

    class Nothing(nn.Module):
        def forward(self, *args: Any) -> float:
            return 0.0

    frames, rows, columns = design.grid
    tokens, dim, head = frames * rows * columns, design.dim, design.dim // design.heads
    x = torch.randn(CLIPS, tokens, dim)
    wan = WanTransformerBlock(dim, 4 * dim, design.heads)
    wan.attn2 = Nothing()
    rotary = WanRotaryPosEmbed(head, (1, 1, 1), 1024)(torch.randn(1, 1, frames, rows, columns))
    each, one = torch.randn(CLIPS, tokens, 6, dim), torch.randn(CLIPS, 6, dim)
    pixart = BasicTransformerBlock(
        dim,
        design.heads,
        head,
        activation_fn="gelu-approximate",
        attention_bias=True,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
    )
    flat = one.flatten(1)
    return {
        "diffusers, Wan, a time for each token": (wan, lambda: wan(x, x, each, rotary)),
        "diffusers, Wan, one time": (wan, lambda: wan(x, x, one, rotary)),
        "diffusers, Latte and PixArt, one time, no positions, no query norm": (
            pixart,
            lambda: pixart(x, timestep=flat),
        ),
    }


def _kind() -> torch.dtype:
    on = torch.is_autocast_enabled("cpu")
    return torch.get_autocast_dtype("cpu") if on else torch.float32


def _forward(call: Callable[[], Tensor], kind: torch.dtype) -> Callable[[], Any]:
    def run() -> Any:
        with torch.no_grad(), torch.autocast("cpu", kind, enabled=kind != torch.float32):
            return call()

    return run


def _both(block: nn.Module, call: Callable[[], Tensor], kind: torch.dtype) -> Callable[[], Any]:
    def run() -> None:
        block.zero_grad(set_to_none=True)
        with torch.autocast("cpu", kind, enabled=kind != torch.float32):
            out = call()
        out.float().square().mean().backward()

    return run
