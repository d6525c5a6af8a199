"""Ten mistakes that are known of VDT's own code, by the number they have in our notes of it."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs `make torch`: see the Makefile")

import numpy as np  # noqa: E402

from bicameral.engines.vdt import flow, masks, modern  # noqa: E402
from bicameral.engines.vdt.codec import Pixels  # noqa: E402
from bicameral.engines.vdt.learn.train import Schedule, Trainer  # noqa: E402
from bicameral.engines.vdt.network import build, process  # noqa: E402
from bicameral.errors import RequestError  # noqa: E402
from tests.engines.vdt.nets import KINDS, awake, clips, dice, some, tiny, wide  # noqa: E402

both = pytest.mark.parametrize("kind", KINDS)
GRID = (16, 8, 8)


class Grey:
    """A source of clips of noise."""

    def batch(self, count: int, draw: Any) -> Any:
        return draw.integers(0, 256, (count, 4, 8, 8, 1), dtype=np.uint8)


def trained_on(kind: str, **schedule: Any) -> Any:
    """The masks of one step of training."""
    design = tiny(kind)
    seen: list[Any] = []
    trainer = Trainer(design, Schedule(batch=16, **schedule), Grey(), Pixels())
    trainer.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    trainer.step()
    [mask] = seen
    return mask


def sampled(kind: str, net: Any, known: Any, mask: Any, **more: Any) -> Any:
    """The clip after five steps."""
    design = tiny(kind)
    with torch.no_grad():
        *_, clip = process(design).sample(net, design, known, mask, dice(), steps=5, **more)
    return clip


def of_tokens(net: Any, kind: str, clip: Any, mask: Any) -> Any:
    """The gradient of the loss by what the net puts out as noise or velocity."""
    design = tiny(kind)
    outs: list[Any] = []

    def kept(*inputs: Any) -> Any:
        out = net(*inputs).detach().requires_grad_()
        outs.append(out)
        return out

    process(design).loss(kept, design, clip, mask, dice()).sum().backward()
    return outs[0].grad[:, :, : design.latent]


def test_1_a_completion_without_given_frames_at_the_end_is_not_empty() -> None:
    draw = np.random.default_rng(0)
    drawn = [masks.fixed("complete", GRID, draw) for _ in range(400)]
    assert all(mask.any() for mask in drawn)
    assert 60 < sum(bool(mask[-1].any()) for mask in drawn) < 140  # a quarter of them


@pytest.mark.parametrize("task", masks.TASKS)
def test_2_every_mask_is_drawn_with_the_numpy_of_today(task: Any) -> None:
    for draws in (masks.fixed, masks.widened):
        assert draws(task, GRID, np.random.default_rng(0)).dtype == np.float32


@both
def test_3_each_clip_of_a_batch_has_a_mask_of_its_own(kind: str) -> None:
    drawn = trained_on(kind)
    assert len({mask.numpy().tobytes() for mask in drawn}) > 4


@both
def test_3_the_loss_of_a_clip_is_by_its_own_mask(kind: str) -> None:
    design = tiny(kind)
    net, clip, mask = awake(design), clips(design, 2), some(design, 2)
    other = torch.cat([mask[:1], 1 - mask[1:]])
    one, two = (process(design).loss(net, design, clip, m, dice()) for m in (mask, other))
    assert torch.allclose(one[0], two[0], rtol=1e-5)
    assert abs(one[1] - two[1]) > 1e-3


def test_4_the_modern_net_is_told_the_mask() -> None:
    design = tiny("modern")
    net, x, mask = awake(design), clips(design, 1), some(design, 1)
    time = torch.full_like(mask, 0.5)
    assert (net(x, mask, time) - net(x, 1 - mask, time)).abs().max() > 1e-3


def test_4_the_modern_net_is_told_how_late_each_token_is() -> None:
    design = tiny("modern")
    net, x, mask = awake(design), clips(design, 1), some(design, 1)
    times = (mask * 0.5, (1 - mask) * 0.5)
    assert (net(x, mask, times[0]) - net(x, mask, times[1])).abs().max() > 1e-3


def test_4_the_faithful_net_is_not_as_in_the_paper() -> None:
    design = tiny("faithful")
    net, x, mask = awake(design), clips(design, 1), some(design, 1)
    time = torch.tensor([500])
    assert torch.equal(net(x, mask, time), net(x, 1 - mask, time))


def test_5_the_modern_loss_does_not_shrink_with_what_is_generated() -> None:
    design = tiny("modern")
    clip, sigma = torch.ones(3, 4, 1, 8, 8), torch.full((3,), 0.5)
    mask = torch.stack([masks_ * torch.ones(4, 4, 4) for masks_ in (torch.ones(4, 1, 1),) * 3])
    mask[1, 1:] = 0
    mask[2, :, 1:] = 0
    loss = flow.error(lambda x, *_: 0 * x, design, clip, mask, -clip, sigma)
    assert loss.tolist() == [4, 4, 4]


def test_5_the_faithful_loss_does_as_in_the_paper() -> None:
    from bicameral.engines.vdt import ddpm

    design = tiny("faithful")
    clip, time = torch.zeros(2, 4, 1, 8, 8), torch.tensor([1000, 1000])
    mask = torch.ones(2, 4, 4, 4)
    mask[1, 1:] = 0

    def minus(x: Any, *_: Any) -> Any:
        return torch.cat([0 * x, 0 * x - 1], dim=2)

    loss = ddpm.error(minus, design, clip, mask, clip + 1, time)
    assert (loss[0] - loss[1]).item() == pytest.approx(0.75, abs=1e-5)


@both
def test_5_what_is_given_is_not_judged(kind: str) -> None:
    design = tiny(kind)
    mask = some(design, 2)
    grad = of_tokens(awake(design), kind, clips(design, 2), mask)
    made = wide(design, mask) > 0
    assert (grad[~made] == 0).all()
    assert (grad[made] != 0).all()


@both
def test_6_what_is_dropped_for_guidance_is_what_is_given_and_there_is_no_label(kind: str) -> None:
    assert (trained_on(kind, free=1.0, tasks="predict") == 1).all()
    assert (trained_on(kind, free=0.0, tasks="predict") == 0).any((1, 2, 3)).all()
    assert not any(isinstance(part, torch.nn.Embedding) for part in build(tiny(kind)).modules())


@pytest.mark.parametrize("full", [False, True])
def test_7_a_fresh_block_of_the_modern_net_leaves_tokens_as_they_are(full: bool) -> None:
    block = modern.Block(24, 2, full=full)
    x = torch.randn(2, 4, 16, 24)
    where = modern.Modern(tiny("modern", attention="full" if full else "factorized"))._where(
        4, 4, 4, x
    )
    shared = [torch.zeros(2, 4, 16, 24)] * (3 * block.parts)
    assert torch.equal(block(x, shared, where), x)


@both
def test_8_guidance_goes_through_the_signature_that_nets_have(kind: str) -> None:
    design = tiny(kind)
    net, known, mask = awake(design), clips(design, 2), some(design, 2)
    plain, led = (sampled(kind, net, known, mask, guidance=g) for g in (1.0, 4.0))
    made = wide(design, mask) > 0
    assert (plain - led)[made].abs().max() > 1e-3
    assert torch.equal(led[~made], known[~made])


@both
@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_9_the_sampler_itself_puts_back_what_is_given_bit_for_bit(
    kind: str, guidance: float
) -> None:
    design = tiny(kind)
    net, known, mask = awake(design), 3 * clips(design, 3), some(design, 3)
    made = wide(design, mask) > 0
    out = sampled(kind, net, known, mask, guidance=guidance)
    assert torch.equal(out[~made], known[~made])
    assert (out[made] != known[made]).all()


@both
def test_9_where_all_is_given_the_clip_comes_back_as_it_was(kind: str) -> None:
    design = tiny(kind)
    known = 3 * clips(design, 2)
    assert torch.equal(sampled(kind, awake(design), known, torch.zeros(2, 4, 4, 4)), known)


@both
def test_9_where_nothing_is_given_the_clip_is_not_looked_at(kind: str) -> None:
    design = tiny(kind)
    net, mask = awake(design), torch.ones(2, 4, 4, 4)
    one, two = (sampled(kind, net, clips(design, 2, seed), mask) for seed in (0, 1))
    assert torch.equal(one, two)


@both
def test_9_equal_seeds_make_equal_clips(kind: str) -> None:
    design = tiny(kind)
    net, known, mask = awake(design), clips(design, 2), some(design, 2)
    assert torch.equal(sampled(kind, net, known, mask), sampled(kind, net, known, mask))


@pytest.mark.parametrize("shape", [(4, 8, 8), (7, 8, 8), (1, 4, 12), (3, 16, 4)])
def test_10_the_modern_net_makes_clips_of_any_size(shape: tuple[int, int, int]) -> None:
    frames, rows, columns = shape
    design = tiny("modern")
    known, mask = (
        torch.zeros(1, frames, 1, rows, columns),
        torch.ones(1, frames, rows // 2, columns // 2),
    )
    out = sampled("modern", awake(design), known, mask)
    assert out.shape == known.shape
    assert out.isfinite().all()


@pytest.mark.parametrize("shape", [(5, 8, 8), (3, 8, 8), (4, 16, 8), (4, 8, 4)])
def test_10_the_faithful_net_says_what_size_it_has(shape: tuple[int, int, int]) -> None:
    frames, rows, columns = shape
    known, mask = (
        torch.zeros(1, frames, 1, rows, columns),
        torch.ones(1, frames, rows // 2, columns // 2),
    )
    with pytest.raises(RequestError, match="places for 4 frames of 8 x 8 pixels only"):
        sampled("faithful", awake(tiny("faithful")), known, mask)
