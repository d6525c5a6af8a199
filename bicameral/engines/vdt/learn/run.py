"""One training in its folder: what was ordered, its states, its log, its pictures, its weights.

A folder holds order.json, state-*.safetensors (the last two), log.jsonl, curves.png,
sheet-STEP.png, index.json of what the data were, model.safetensors with the averaged weights, and,
where the design has a codec, codec.safetensors and the codec's own states and log.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import torch
from msgspec import Struct
from msgspec.structs import replace

from bicameral.engines.vdt import checkpoint
from bicameral.engines.vdt.codec import Codec, Convolutional, Pixels, load, tensors
from bicameral.engines.vdt.learn import curves
from bicameral.engines.vdt.learn.autoencode import CodecTrainer, floor
from bicameral.engines.vdt.learn.clips import Clips, kept
from bicameral.engines.vdt.learn.looks import Looks
from bicameral.engines.vdt.learn.order import Order
from bicameral.engines.vdt.learn.pieces import GO, Log, Pace, Piece, Shown, States
from bicameral.engines.vdt.learn.share import ALONE, Share
from bicameral.engines.vdt.learn.sources import opened
from bicameral.engines.vdt.learn.train import Trainer
from bicameral.errors import ConfigError

MODEL, INDEX, _CODEC, _ORDER = "model.safetensors", "index.json", "codec.safetensors", "order.json"
_MAY_CHANGE = ("out", "minutes", "every", "save", "compiled", "device", "gpus", "half")
_NAMED = 3  # skipped films that are named


class Record(Struct, frozen=True, kw_only=True):
    """order.json: what was ordered, of what data, by which programs."""

    order: Order
    data: str
    versions: dict[str, str]


class Run:
    """One process's work on a training; `go` tells why it ended."""

    def __init__(
        self,
        order: Order,
        shown: Shown,
        *,
        share: Share = ALONE,
        asked: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._order, self._shown, self._share, self._asked = order, shown, share, asked
        self._first = share.rank == 0
        self._folder = Path(order.out)
        until = None if order.minutes is None else clock() + 60 * order.minutes
        self._pace = Pace(until=until, save=order.save, look=order.every, clock=clock)
        self._said_no_curves = False

    def go(self) -> int:
        """GO: all steps are done. TIME: the minutes are up. ASKED: somebody asked to stop."""
        order = self._order
        self._folder.mkdir(parents=True, exist_ok=True)
        pile = opened(order.data, index=self._folder / INDEX)
        source, held = pile.within(order.shape), pile.within(order.shape, held=True)
        if self._first:
            self._begin(pile.found.what, source)
        code, codec = self._with_codec(source, held)
        if codec is None:
            return code
        trainer = Trainer(
            order.design,
            order.schedule,
            source,
            codec,
            device=order.device,
            compiled=order.compiled,
            share=self._share,
            ahead=True,
            said=self._say,
        )
        looks = Looks(trainer, held, codec, order.device)
        log = Log(self._folder / "log.jsonl")
        piece = Piece(
            trainer,
            States(self._folder, "state"),
            log,
            self._pace,
            self._shown,
            batch=order.schedule.batch,
            rate=order.schedule.rate_at,
            look=lambda: self._look(trainer, looks, log),
            asked=self._asked,
            agreed=self._agreed,
            first=self._first,
        )
        piece.restore()
        code = piece.run(order.design.kind, order.schedule.steps)
        if self._first:
            self._publish(trainer, codec, piece.seconds, pile.found.what)
            self._curves(log)
        self._agreed(code)  # nobody leaves while the first still writes
        return code

    def _agreed(self, code: int) -> int:
        return self._share.agreed(code, torch.device(self._order.device))

    def _say(self, text: str) -> None:
        if self._first:
            self._shown.say(text)

    def _begin(self, data: str, source: Clips) -> None:
        """Compare with what was ordered before, and write it down."""
        path = self._folder / _ORDER
        record = Record(order=self._order, data=data, versions=_versions())
        if path.exists():
            before = _record(path)
            _same(before.order, self._order, self._folder)
            if before.data != data:
                self._say(f"warning: the data have changed: {before.data} were there before")
        path.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1))
        self._say(data)
        if source.count is not None and not kept(source.count):
            self._say(f"{source.count:,} clips are few: it is looked at with those it learns from")
        if source.skipped:
            named = [f"{name} ({why})" for name, why in source.skipped.items()][:_NAMED]
            self._say(f"{len(source.skipped):,} films are left out: {'; '.join(named)}")

    def _with_codec(self, source: Clips, held: Clips) -> tuple[int, Codec | None]:
        """The codec, trained by the first process if it is not there yet; None: stopped before."""
        order, path = self._order, self._folder / _CODEC
        if order.design.codec is None:
            return GO, Pixels()
        code = GO
        if self._first and not path.exists():
            code = self._train_codec(source, held, path)
        code = self._agreed(code)
        if code != GO:
            return code, None
        design, read, _ = checkpoint.read(path)
        if design.codec != order.design.codec:
            raise ConfigError(f"{path} is of another codec: train into another folder")
        codec = load(order.design, read)
        return GO, codec.to(order.device) if isinstance(codec, Convolutional) else codec

    def _train_codec(self, source: Clips, held: Clips, path: Path) -> int:
        order = self._order
        trainer = CodecTrainer(order.design, order.codec, source, device=order.device)
        piece = Piece(
            trainer,
            States(self._folder, "codec-state"),
            Log(self._folder / "codec-log.jsonl"),
            replace(self._pace, look=0),
            self._shown,
            batch=order.codec.batch,
            rate=order.codec.rate_at,
            asked=self._asked,
        )
        piece.restore()
        code = piece.run("codec", order.codec.steps)
        if code == GO:
            codec = trainer.done()
            decibels = floor(codec, held, order.device)
            self._say(f"codec: {decibels:.1f} dB of signal to noise")
            about = {
                "schedule": msgspec.to_builtins(order.codec),
                "decibels": decibels,
                "seconds": piece.seconds,
            }
            checkpoint.save(path, order.design, tensors(codec), **about)
        return code

    def _look(self, trainer: Trainer, looks: Looks, log: Log) -> Mapping[str, float]:
        path = self._folder / f"sheet-{trainer.step_count:08}.png"
        looks.sheet(path)
        losses = looks.losses()
        self._curves(log)
        return losses

    def _curves(self, log: Log) -> None:
        order = self._order
        try:
            curves.draw(log.rows(), self._folder / "curves.png", f"{order.data}, {self._folder}")
        except ConfigError as error:
            if not self._said_no_curves:
                self._say(f"no curves.png: {error}")
            self._said_no_curves = True

    def _publish(self, trainer: Trainer, codec: Codec, seconds: float, data: str) -> None:
        """model.safetensors: the averaged weights, the codec's, and what they are."""
        half, order = torch.bfloat16 if self._order.half else torch.float32, self._order
        weights = {name: each.to("cpu", half) for name, each in trainer.average.items()}
        weights |= {name: each.cpu() for name, each in tensors(codec).items()}
        checkpoint.save(
            self._folder / MODEL,
            order.design,
            weights,
            schedule=msgspec.to_builtins(order.schedule),
            codec=msgspec.to_builtins(order.codec) if order.design.codec else None,
            steps=trainer.step_count,
            seconds=round(seconds, 1),
            data=data,
            stride=order.stride,
        )


def _versions() -> dict[str, str]:
    import numpy

    return {
        "python": sys.version.split()[0],
        "torch": str(torch.__version__),
        "numpy": numpy.__version__,
    }


def _record(path: Path) -> Record:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (msgspec.MsgspecError, ConfigError) as error:
        raise ConfigError(f"{path} is no order of a training: {error}") from error


def _same(before: Order, now: Order, folder: Path) -> None:
    """ConfigError names what differs and may not."""
    steps = before.schedule.steps
    plain = replace(now, schedule=replace(now.schedule, steps=steps))
    was, is_ = (msgspec.to_builtins(each) for each in (before, plain))
    differing = []
    for key in was:
        if key in _MAY_CHANGE or was[key] == is_[key]:
            continue
        if isinstance(was[key], dict):
            inner = [k for k in was[key] if was[key][k] != is_[key].get(k)]
            differing += [f"{key}.{k} was {was[key][k]}, not {is_[key].get(k)}" for k in inner]
        else:
            differing.append(f"{key} was {was[key]}, not {is_[key]}")
    if differing:
        raise ConfigError(
            f"{folder} holds another training: {'; '.join(differing)}. "
            "Give the same again, or another --out"
        )
