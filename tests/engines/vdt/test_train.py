"""Training in pieces: a run that was cut, stopped, damaged or shared is the run that was not."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

torch = pytest.importorskip("torch")

from bicameral.engines.vdt import checkpoint, load  # noqa: E402
from bicameral.engines.vdt.codec import Pixels  # noqa: E402
from bicameral.engines.vdt.design import Autoencoder, Design  # noqa: E402
from bicameral.engines.vdt.learn.autoencode import CodecSchedule  # noqa: E402
from bicameral.engines.vdt.learn.launch import launch  # noqa: E402
from bicameral.engines.vdt.learn.order import Order  # noqa: E402
from bicameral.engines.vdt.learn.pieces import ASKED, GO, TIME, Log, asking  # noqa: E402
from bicameral.engines.vdt.learn.run import Run  # noqa: E402
from bicameral.engines.vdt.learn.share import Share, faster  # noqa: E402
from bicameral.engines.vdt.learn.sources import opened  # noqa: E402
from bicameral.engines.vdt.learn.train import Schedule, Trainer  # noqa: E402
from bicameral.engines.vdt.network import build  # noqa: E402
from bicameral.errors import ConfigError, WeightsError  # noqa: E402

DESIGN = Design(
    kind="modern", frames=4, height=8, width=8, channels=1, patch=2, depth=2, dim=32, heads=2
)
SCHEDULE = Schedule(steps=24, batch=4, rate=1e-3, warm=2)


class Watcher:
    """Keeps what it is told; `after` is called with each step that is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.told: list[int] = []

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def say(self, text: str) -> None:
        self.said.append(text)

    def begin(self, what: str, steps: int, done: int) -> None:
        self.said.append(f"{what} {done}/{steps}")

    def tell(self, step: int, loss: float, speed: float) -> None:
        self.told.append(step)


class Clock:
    """A second passes with each look at it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture
def order(tmp_path: Path) -> Order:
    films = np.random.default_rng(0).integers(0, 256, (6, 5, 8, 8), np.uint8)
    np.savez(tmp_path / "films.npz", clips=films)
    return Order(
        data=str(tmp_path / "films.npz"),
        design=DESIGN,
        schedule=SCHEDULE,
        out=str(tmp_path / "run"),
        every=0,
    )


def run(order: Order, watcher: Watcher | None = None, **more: Any) -> int:
    return Run(order, watcher or Watcher(), **more).go()


def losses(order: Order, name: str = "log.jsonl") -> list[tuple[int, float | None]]:
    rows = Log(Path(order.out) / name).rows()
    return [(row.step, row.loss) for row in rows if row.loss is not None]


def weights(order: Order) -> dict[str, torch.Tensor]:
    return checkpoint.read(Path(order.out) / "model.safetensors")[1]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def states(order: Order) -> list[str]:
    return sorted(path.name for path in Path(order.out).glob("state-*"))


@pytest.mark.parametrize("muon", [0.0, 0.02])
def test_pieces_are_the_whole(order: Order, tmp_path: Path, muon: float) -> None:
    order = replace(order, schedule=replace(SCHEDULE, muon=muon))
    whole = replace(order, out=str(tmp_path / "whole"))
    assert run(whole) == GO
    pieces = replace(order, minutes=0.12)
    ends, watcher = [TIME], Watcher()
    while ends[-1] == TIME:
        ends.append(run(pieces, watcher, clock=Clock()))
    assert len(ends) > 3
    assert ends[-1] == GO
    assert losses(pieces) == losses(whole)
    assert [step for step, _ in losses(pieces)] == [10, 20, 24]
    assert same(weights(pieces), weights(whole))


def test_a_log_that_is_ahead_of_its_state_is_cut(order: Order, tmp_path: Path) -> None:
    whole = replace(order, out=str(tmp_path / "whole"))
    run(whole)
    run(replace(order, minutes=0.5, save=10.0), clock=Clock())
    with (Path(order.out) / "log.jsonl").open("a") as file:
        file.write('{"step":23,"seconds":1,"loss":7}\n{"step":24,"sec')
    run(order)
    assert losses(order) == losses(whole)


def test_the_last_two_states_are_kept_and_a_damaged_one_is_passed_over(
    order: Order, tmp_path: Path
) -> None:
    run(replace(order, minutes=1.0, save=5.0), clock=Clock())
    *_, before, newest = kept = states(order)
    assert len(kept) == 2
    path = Path(order.out) / newest
    path.write_bytes(path.read_bytes()[:-100])
    watcher = Watcher()
    run(order, watcher)
    assert any("warning" in text and newest in text for text in watcher.said)
    assert f"modern {int(before[6:14])}/24" in watcher.said
    whole = replace(order, out=str(tmp_path / "whole"))
    run(whole)
    assert same(weights(order), weights(whole))
    assert losses(order) == losses(whole)


def test_nothing_but_damaged_states_is_an_error(order: Order) -> None:
    run(replace(order, schedule=replace(SCHEDULE, steps=2)))
    (path,) = (Path(order.out) / name for name in states(order))
    path.write_bytes(b"")
    with pytest.raises(WeightsError, match="remove state-"):
        run(replace(order, schedule=replace(SCHEDULE, steps=2)))


def test_ctrl_c_saves(order: Order, tmp_path: Path) -> None:
    class Interrupting(Watcher):
        def tell(self, step: int, loss: float, speed: float) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    with asking() as asked:
        assert run(order, Interrupting(), asked=asked) == ASKED
    assert states(order) == ["state-00000010.safetensors"]
    assert run(order) == GO
    whole = replace(order, out=str(tmp_path / "whole"))
    run(whole)
    assert same(weights(order), weights(whole))


def test_steps_may_grow_and_nothing_else_may_change(order: Order) -> None:
    short = replace(order, schedule=replace(SCHEDULE, steps=3))
    run(short)
    with pytest.raises(ConfigError, match=r"schedule\.rate was 0\.001, not 0\.5"):
        run(replace(order, schedule=replace(SCHEDULE, rate=0.5)))
    with pytest.raises(ConfigError, match=r"design\.dim was 32, not 64"):
        run(replace(order, design=replace(DESIGN, dim=64)))
    run(replace(order, schedule=replace(SCHEDULE, steps=5)))
    assert states(order)[-1] == "state-00000005.safetensors"


def test_looks_and_what_they_leave(order: Order) -> None:
    watcher = Watcher()
    run(replace(order, every=24), watcher)
    from PIL import Image

    with Image.open(Path(order.out) / "sheet-00000024.png") as picture:
        assert picture.height > 7 * 3 * 32
    tasks = [row.tasks for row in Log(Path(order.out) / "log.jsonl").rows() if row.tasks]
    assert len(tasks) == 1
    assert len(tasks[0]) == 7
    assert all(loss > 0 for loss in tasks[0].values())


def test_what_the_weights_say_of_themselves(order: Order) -> None:
    run(replace(order, half=True))
    path = Path(order.out) / "model.safetensors"
    design, tensors, about = checkpoint.read(path)
    assert design == DESIGN
    assert {each.dtype for each in tensors.values()} == {torch.bfloat16}
    assert about["steps"] == 24
    assert about["schedule"]["rate"] == 1e-3  # type: ignore[index]
    assert "6 films of 5 frames" in str(about["data"])
    assert "seconds" in about
    loaded = load.load(path, torch.device("cpu"), half=False)
    assert loaded.design == DESIGN


def test_a_codec_is_trained_first_in_pieces_too(order: Order, tmp_path: Path) -> None:
    coded = replace(
        order,
        design=replace(DESIGN, patch=1, codec=Autoencoder(factor=2, channels=2, hidden=8)),
        schedule=replace(SCHEDULE, steps=3),
        codec=CodecSchedule(steps=12, batch=2),
    )
    whole = replace(coded, out=str(tmp_path / "whole"))
    watcher = Watcher()
    assert run(whole, watcher) == GO
    assert any("dB of signal to noise" in text for text in watcher.said)
    assert run(replace(coded, minutes=0.15), clock=Clock()) == TIME
    assert not (Path(coded.out) / "codec.safetensors").exists()
    assert run(coded) == GO
    assert losses(coded, "codec-log.jsonl") == losses(whole, "codec-log.jsonl")
    assert same(weights(coded), weights(whole))
    path = Path(coded.out) / "model.safetensors"
    codec = load.load(path, torch.device("cpu"), half=False).codec
    latent = codec.encode(torch.rand(1, 4, 1, 8, 8))
    assert latent.shape == (1, 4, 2, 4, 4)


@pytest.mark.slow  # two processes import torch
def test_processes_that_share_a_batch_compute_what_one_does(order: Order, tmp_path: Path) -> None:
    short = replace(order, schedule=replace(SCHEDULE, steps=3))
    run(short)
    shared = replace(short, out=str(tmp_path / "shared"), gpus=2)
    assert launch(shared, Watcher) == GO
    for one, two in zip(losses(short), losses(shared), strict=True):
        assert one == pytest.approx(two, rel=1e-5)
    one, two = weights(short), weights(shared)
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-5)
    assert any((one[name] != 0).any() for name in one)


def test_a_batch_must_divide() -> None:
    with pytest.raises(ConfigError, match="set batch to 6"):
        Share(0, 3).rows(5)
    assert Share(1, 2).rows(6) == slice(3, 6)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_loss_falls(order: Order, precision: str) -> None:
    films = np.zeros((1, 4, 8, 8), np.uint8)
    films[..., 2:6, 2:6] = 255
    np.savez(order.data, clips=films)
    schedule = Schedule(steps=40, batch=4, rate=3e-3, warm=2, precision=precision)  # type: ignore[arg-type]
    source = opened(order.data).within(order.shape)
    trainer = Trainer(DESIGN, schedule, source, Pixels(), ahead=True)
    seen = [trainer.step() for _ in range(40)]
    assert np.mean(seen[-10:]) < 0.6 * np.mean(seen[:10])


# --- a net that is compiled --------------------------------------------------------------------


def tried(
    compiled: Any, monkeypatch: pytest.MonkeyPatch, design: Design = DESIGN
) -> tuple[Any, Any, list[str]]:
    """The net, what came of compiling it so, and what was said."""
    monkeypatch.setattr(torch, "compile", compiled)
    torch.manual_seed(0)
    net, said = build(design), []
    before = {name: each.clone() for name, each in net.named_parameters()}
    run = faster(net, design, 2, torch.device("cpu"), half=False, said=said.append)
    assert all(torch.equal(each, before[name]) for name, each in net.named_parameters())
    assert all(each.grad is None for each in net.parameters())
    return net, run, said


@pytest.mark.parametrize("kind", ["modern", "faithful"])
def test_a_compiled_net_that_learns_alike_is_taken(
    monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    design = replace(DESIGN, kind=kind)
    net, run, said = tried(lambda net: lambda *inputs: net(*inputs), monkeypatch, design)
    assert run is not net
    assert said == []


@pytest.mark.parametrize("factor", [1.2, float("nan")])
def test_a_compiled_net_that_learns_otherwise_is_not(
    monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    net, run, said = tried(lambda net: lambda *inputs: net(*inputs) * factor, monkeypatch)
    assert run is net
    assert "gradients are off" in said[0]


def test_a_compiler_that_fails_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(net: Any) -> Any:
        def run(*inputs: Any) -> Any:
            raise RuntimeError("it began\ng++: error: no such file")

        return run

    net, run, said = tried(fails, monkeypatch)
    assert run is net
    assert said == ["--compile has no effect here: g++: error: no such file"]


def test_a_gradient_that_is_no_number_ends_it_and_spoils_no_state(order: Order) -> None:
    steep = replace(order, schedule=replace(SCHEDULE, rate=1e30, warm=0))
    with pytest.raises(ConfigError, match="no number any more"):
        run(steep)
    assert not Path(order.out, "model.safetensors").exists()
