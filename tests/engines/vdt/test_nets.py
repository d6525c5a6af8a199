from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs `make torch`: see the Makefile")

from bicameral.engines.vdt import checkpoint, parts  # noqa: E402
from bicameral.engines.vdt.design import Autoencoder, named  # noqa: E402
from bicameral.engines.vdt.faithful import Block  # noqa: E402
from bicameral.engines.vdt.network import build, process  # noqa: E402
from bicameral.errors import WeightsError  # noqa: E402
from tests.engines.vdt.nets import KINDS, awake, clips, dice, some, tiny, wide  # noqa: E402

DESIGNS = [
    tiny("faithful"),
    tiny("faithful", condition="adaln"),
    tiny("modern"),
    tiny("modern", attention="full"),
    tiny("modern", condition="adaln"),
    tiny("modern", predicts="clean"),
    tiny("modern", height=16, width=32, codec=Autoencoder(factor=2, channels=4)),
]
SHORT = ["faithful", "faithful-adaln", "modern", "full", "modern-adaln", "clean", "codec"]
every = pytest.mark.parametrize("design", DESIGNS, ids=SHORT)


def asked(design: Any, count: int = 2, seed: int = 0) -> tuple[Any, ...]:
    """What a net is given: a noisy clip, a mask, a time and what is known."""
    mask, x = some(design, count, seed), clips(design, count, seed)
    time = torch.arange(1, count + 1) * 300 if design.kind == "faithful" else mask * 0.4
    return x, mask, time, (wide(design, mask) == 0) * x


def size(name: str, **more: Any) -> tuple[int, Any]:
    design = named(name, **{"frames": 16, "height": 32, "width": 32, "channels": 4, **more})
    with torch.device("meta"):
        net = build(design)
    return sum(parameter.numel() for parameter in net.parameters()), net


@pytest.mark.parametrize(("name", "millions"), [("faithful-s", 41.4), ("faithful-l", 859.7)])
def test_the_faithful_net_has_as_many_weights_as_the_papers_code(
    name: str, millions: float
) -> None:
    """As counted in the code: the paper's own number leaves AdaLN and one layer out."""
    count, _ = size(name)
    assert round(count / 1e6, 1) == millions


def test_a_block_of_the_faithful_net_has_23_squares_of_its_width() -> None:
    with torch.device("meta"):
        block = Block(384, 6)
    weights = [parameter for parameter in block.parameters() if parameter.dim() == 2]
    assert sum(weight.numel() for weight in weights) == 23 * 384**2


def test_places_of_the_faithful_net_are_no_weights() -> None:
    net = build(tiny("faithful"))
    assert "places" in dict(net.named_buffers())
    assert "places" not in net.state_dict()
    assert {name for name, _ in net.named_parameters()} == set(net.state_dict())


@pytest.mark.parametrize(("name", "millions"), [("modern-s", 30.0), ("modern-l", 608.9)])
def test_the_modern_net_shares_its_modulation_and_is_smaller(name: str, millions: float) -> None:
    """16 squares of the width in a block, and 9 in all for the modulation of three parts."""
    count, net = size(name)
    assert round(count / 1e6, 1) == millions
    layers = [part for part in net.blocks[0].modules() if isinstance(part, torch.nn.Linear)]
    assert sum(layer.weight.numel() for layer in layers) == 16 * net.design.dim**2


@every
def test_a_net_puts_out_what_its_process_takes(design: Any) -> None:
    x, *others = asked(design)
    out = awake(design)(x, *others)
    channels = design.latent * (2 if design.kind == "faithful" else 1)
    assert out.shape == (*x.shape[:2], channels, *x.shape[3:])
    assert out.isfinite().all()


@every
def test_a_fresh_net_puts_out_nothing(design: Any) -> None:
    assert (build(design)(*asked(design)) == 0).all()


@every
def test_clips_of_a_batch_do_not_know_of_each_other(design: Any) -> None:
    net, inputs = awake(design), asked(design, 3)
    together = net(*inputs)
    for row in range(3):
        alone = net(*(part[row : row + 1] for part in inputs))
        assert torch.allclose(together[row : row + 1], alone, atol=1e-5)


@every
@pytest.mark.parametrize("place", [(0, 0, 0, 0), (3, 0, 7, 7), (1, 0, 0, 5)])
def test_each_pixel_tells_on_every_frame(design: Any, place: tuple[int, ...]) -> None:
    net = awake(design)
    x, _, time, _ = asked(design, 1)
    mask = torch.ones(1, *design.grid)
    other = x.clone()
    other[0, *place] += 1
    apart = (net(x, mask, time, 0 * x) - net(other, mask, time, 0 * x)).abs().amax((0, 2, 3, 4))
    assert (apart > 1e-7).all()


@every
@pytest.mark.parametrize("axis", ["frames", "rows", "columns"])
def test_a_net_knows_where_a_token_is(design: Any, axis: str) -> None:
    """To one that did not, a clip whose tokens change places would be the same clip."""
    net = awake(design)
    x, _, time, _ = asked(design, 1)
    mask = torch.ones(1, *design.grid)
    time = time if time.dim() == 1 else 0.4 * mask
    dim = {"frames": 1, "rows": 3, "columns": 4}[axis]
    by = 1 if axis == "frames" else design.patch

    def out(clip: Any) -> Any:
        return net(clip, mask, time, 0 * clip)

    assert (out(x.roll(by, dim)) - out(x).roll(by, dim)).abs().max() > 1e-4


@every
def test_a_net_knows_how_late_it_is(design: Any) -> None:
    net = awake(design)
    x, mask, time, known = asked(design)
    assert (net(x, mask, time, known) - net(x, mask, time / 2, known)).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_by_adaln_what_is_given_is_told_to_the_modulation_alone(kind: str) -> None:
    """Else the ablation would measure nothing: the tokens would still show what is given."""
    design = tiny(kind, condition="adaln")
    net = awake(design)
    x, mask, time, known = asked(design)
    given = wide(design, mask) == 0
    out = net(x, mask, time, known)
    assert torch.allclose(net(torch.where(given, 9.0, x), mask, time, known), out)
    assert (net(x, mask, time, known + given) - out).abs().max() > 1e-4


@every
def test_equal_seeds_make_equal_nets(design: Any) -> None:
    one, two, other = (awake(design, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@every
def test_a_net_comes_back_from_its_file(design: Any, tmp_path: Path) -> None:
    net, path = awake(design), tmp_path / "net.safetensors"
    checkpoint.save(path, design, dict(net.named_parameters()), step=7)
    again, tensors, about = checkpoint.read(path)
    other = awake(again, seed=1)
    other.load_state_dict(tensors)
    assert (again, about) == (design, {"step": 7})
    assert torch.equal(net(*asked(design)), other(*asked(design)))


def test_a_file_that_is_no_net_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match="no video diffusion transformer"):
        checkpoint.read(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        checkpoint.read(path)
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        checkpoint.read(tmp_path / "nowhere")


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_patches_taken_apart_come_together(patch: int) -> None:
    x = torch.randn(2, 3, 5, 8, 12)
    cells = parts.split(x, patch)
    assert cells.shape == (2, 3, 8 // patch, 12 // patch, 5 * patch**2)
    assert torch.equal(parts.join(cells, patch), x)


def test_a_cell_holds_the_pixels_of_its_place() -> None:
    x = torch.zeros(1, 1, 2, 6, 6)
    x[0, 0, :, 2:4, 4:6] = torch.arange(8).view(2, 2, 2) + 1.0
    cells = parts.split(x, 2)
    assert cells[0, 0, 1, 2].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert cells.count_nonzero() == 8


def test_a_mask_is_spread_over_the_pixels_of_its_cells() -> None:
    mask = torch.tensor([[[[1.0, 0.0], [0.0, 0.5]]]])
    over = parts.spread(mask, 3)
    assert over.shape == (1, 1, 1, 6, 6)
    assert (parts.split(over, 3) == mask[..., None]).all()


@pytest.mark.parametrize("tokens", [12, parts.SHORT])
def test_attention_written_out_is_that_of_torch(tokens: int) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, tokens, 8, requires_grad=True).unbind()
    ours = parts.attend(q, k, v)
    theirs = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    assert torch.allclose(ours, theirs, atol=1e-6)
    back = [torch.stack(torch.autograd.grad(x.sum(), (q, k, v))) for x in (ours, theirs)]
    assert torch.allclose(*back, atol=1e-6)


def test_times_near_and_far_are_told_apart() -> None:
    torch.manual_seed(0)
    clock = parts.Clock(16)
    one = clock(torch.tensor([0.0, 1.0, 500.0, 1000.0]))
    assert one.shape == (4, 16)
    assert (torch.cdist(one, one) + torch.eye(4)).min() > 1e-3
    assert torch.equal(clock(torch.tensor([[0, 1], [500, 1000]])).view(4, 16), one)


@pytest.mark.parametrize(
    "more", [{"kind": "faithful"}, {"kind": "modern"}, {"kind": "modern", "predicts": "clean"}]
)
def test_four_clips_are_learnt_by_heart(more: dict[str, Any]) -> None:
    """Of the loss at the same draws: a fresh net's, and that of one that saw four clips often."""
    design = tiny(**more, frames=2, height=4, width=4)
    torch.manual_seed(0)
    net, clip = build(design), clips(design, 4).sign()
    mask = torch.cat([some(design, 3), torch.ones(1, *design.grid)])
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)

    def loss(seed: int, times: int) -> Any:
        batch = (part.repeat(times, 1, 1, 1, *[1] * (part.dim() - 4)) for part in (clip, mask))
        return process(design).loss(net, design, *batch, dice(seed)).mean()

    with torch.no_grad():
        before = loss(0, 100)
    for step in range(70):
        optimizer.zero_grad()
        loss(step, 4).backward()
        optimizer.step()
    with torch.no_grad():
        after = loss(0, 100)
    assert after < before / 2.5
