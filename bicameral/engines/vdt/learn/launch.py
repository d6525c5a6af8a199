"""Starts a training in one process, in one of torchrun's, or in several that it starts itself."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path

import torch
from msgspec.structs import replace
from torch import distributed

from bicameral.engines.vdt import checkpoint
from bicameral.engines.vdt.learn.order import Order
from bicameral.engines.vdt.learn.pieces import ASKED, GO, TIME, Shown, Silent, asking
from bicameral.engines.vdt.learn.run import MODEL, Run
from bicameral.engines.vdt.learn.share import ALONE, Share
from bicameral.errors import ConfigError

Screen = Callable[[], AbstractContextManager[Shown]]
"""Made anew in the process that shows; it can be pickled."""
_LOOK = 0.5  # seconds between two looks whether somebody has asked to stop
_PATIENCE = timedelta(days=1)  # others wait while the first trains a codec or draws a sheet


def launch(order: Order, screen: Screen, environment: Mapping[str, str] = os.environ) -> int:
    """Why it ended, as of `Run.go`. ConfigError if there are not as many GPUs as asked for."""
    if int(environment.get("WORLD_SIZE", "1")) > 1:
        share = Share(int(environment["RANK"]), int(environment["WORLD_SIZE"]))
        local = int(environment.get("LOCAL_RANK", "0"))
        # torchrun tells them all to end; the first decides when, and saves.
        return _joined(order, screen, share, "env://", local, (signal.SIGINT, signal.SIGTERM))
    if order.gpus < 2:
        return _one(order, screen, ALONE)
    if order.device.startswith("cuda") and torch.cuda.device_count() < order.gpus:
        raise ConfigError(f"--gpus {order.gpus}: there are {torch.cuda.device_count()}")
    Share(0, order.gpus).rows(order.schedule.batch)  # said here once rather than by all of them
    with tempfile.TemporaryDirectory() as folder, asking() as asked:
        told = False
        started = torch.multiprocessing.spawn(
            _started, (order, screen, Path(folder) / "group"), order.gpus, join=False
        )
        while not started.join(timeout=_LOOK):
            if asked() and not told:
                os.kill(started.pids()[0], signal.SIGTERM)
                told = True
        return _why(order, asked())


def _why(order: Order, asked: bool) -> int:
    """As the processes cannot say: whether anything is left to do."""
    if asked:
        return ASKED
    path = Path(order.out) / MODEL
    steps = checkpoint.read(path)[2].get("steps") if path.exists() else None
    return GO if steps == order.schedule.steps else TIME


def _started(rank: int, order: Order, screen: Screen, meeting: Path) -> None:
    _joined(order, screen, Share(rank, order.gpus), f"file://{meeting}", rank, (signal.SIGINT,))


def _joined(
    order: Order, screen: Screen, share: Share, meeting: str, local: int, deaf: Collection[int]
) -> int:
    cuda = order.device.startswith("cuda")
    if cuda:
        order = replace(order, device=f"cuda:{local}")
        torch.cuda.set_device(local)
    distributed.init_process_group(
        "nccl" if cuda else "gloo",
        init_method=meeting,
        rank=share.rank,
        world_size=share.count,
        timeout=_PATIENCE,
    )
    try:
        return _one(order, screen, share, deaf if share.rank else ())
    finally:
        distributed.destroy_process_group()


def _one(order: Order, screen: Screen, share: Share, deaf: Collection[int] = ()) -> int:
    if order.device.startswith("cuda"):
        torch.set_float32_matmul_precision("high")
    watched = screen() if share.rank == 0 else nullcontext(Silent())
    with watched as shown, asking(deaf=deaf) as asked:
        return Run(order, shown, share=share, asked=asked).go()
