"""Who follows which gradient, and how far."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from bicameral.engines.vdt.design import Design  # noqa: E402
from bicameral.engines.vdt.learn.descent import Descent  # noqa: E402
from bicameral.engines.vdt.network import build  # noqa: E402

SMALL = {"frames": 4, "height": 8, "width": 8, "channels": 1, "patch": 2, "dim": 16, "heads": 2}


@pytest.fixture(params=["modern", "faithful"])
def net(request: pytest.FixtureRequest):
    torch.manual_seed(0)
    net = build(Design(kind=request.param, depth=1, **SMALL))
    for each in net.parameters():
        each.grad = torch.randn_like(each)
    return net


def test_muon_moves_a_matrix_of_a_block_by_as_much_in_every_direction(net) -> None:
    weight = net.get_parameter("blocks.0.over_space.qkv.weight")
    before = weight.detach().clone()
    Descent(net, 1e-3, 0.02).step(0.5)
    sizes = torch.linalg.svdvals(weight.detach() - before)
    # 0.02 times the share, times the root of rows by columns; 5 steps are not quite orthogonal
    assert sizes.max() < 1.25 * 0.01 * 3**0.5
    assert sizes.min() > 0.6 * 0.01 * 3**0.5


def test_all_else_moves_by_adam(net) -> None:
    names = ["out.weight", "embed.weight", "blocks.0.over_space.qkv.bias"]
    before = {name: net.get_parameter(name).detach().clone() for name in names}
    Descent(net, 1e-3, 0.02).step(0.5)
    for name, old in before.items():  # the first step of Adam goes the whole rate
        moved = (net.get_parameter(name).detach() - old).abs()
        assert torch.allclose(moved, torch.full_like(moved, 5e-4), rtol=1e-2)


def test_without_muon_adam_moves_everything(net) -> None:
    moments = _after_a_step(Descent(net, 1e-3, 0.0))
    assert {f"exp_avg.{name}" for name, _ in net.named_parameters()} <= moments.keys()
    assert not any(key.startswith("momentum_buffer") for key in moments)


def test_a_gradient_is_followed_once(net) -> None:
    _after_a_step(Descent(net, 1e-3, 0.02))
    assert all(each.grad is None for each in net.parameters())


def test_moments_of_another_descent_are_missed(net) -> None:
    moments = _after_a_step(Descent(net, 1e-3, 0.0))
    with pytest.raises(KeyError, match="momentum_buffer"):
        Descent(net, 1e-3, 0.02).restore(moments)


def _after_a_step(descent: Descent):
    descent.step(1.0)
    return descent.moments()
