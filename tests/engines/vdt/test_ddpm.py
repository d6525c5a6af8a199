from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs `make torch`: see the Makefile")

from bicameral.engines.vdt import ddpm  # noqa: E402
from bicameral.engines.vdt.design import Autoencoder  # noqa: E402
from bicameral.errors import RequestError  # noqa: E402
from tests.engines.vdt.nets import awake, clips, dice, knowing, some, tiny, wide  # noqa: E402

DESIGN = tiny("faithful")


def last(films: Any) -> Any:
    *_, film = films
    return film


def saying(noise: Any, share: Any = -1.0) -> Any:
    """A net that says that, whatever it sees."""

    def net(x: Any, mask: Any, time: Any, known: Any) -> Any:
        both = [torch.as_tensor(part, dtype=x.dtype).expand_as(x) for part in (noise, share)]
        return torch.cat(both, dim=2)

    return net


def test_what_is_kept_falls_from_all_to_next_to_nothing() -> None:
    kept = ddpm.kept()
    assert len(kept) == ddpm.STEPS + 1
    assert kept[0] == 1
    assert kept[1].item() == pytest.approx(1 - 1e-4)
    assert kept[2].item() == pytest.approx((1 - 1e-4) * (1 - 1e-4 - (0.02 - 1e-4) / 999))
    assert kept[1000].item() == pytest.approx(4.04e-5, rel=5e-3)
    assert (kept.diff() < 0).all()


@pytest.mark.parametrize(("now", "after"), [(1000, 999), (2, 1), (800, 300), (40, 39)])
def test_a_step_back_is_what_bayes_says(now: int, after: int) -> None:
    """Of two normal laws: what the state tells of the one before, and what the clip does."""
    step = ddpm.move(torch.tensor([now]), torch.tensor([after]))
    kept = ddpm.kept()
    part = (kept[now] / kept[after]).sqrt()
    told = (part**2 / (1 - part**2), 1 / (1 - kept[after]))
    variance = 1 / sum(told)
    assert step.deviation.item() == pytest.approx(variance.sqrt().item(), rel=1e-4)
    assert step.lower.item() == pytest.approx(variance.log().item(), rel=1e-4)
    assert step.upper.item() == pytest.approx((1 - part**2).log().item(), rel=1e-4)
    state, clip = 0.7, -0.4
    mean = variance * (told[0] * state / part + told[1] * kept[after].sqrt() * clip)
    assert (step.of_clip * clip + step.of_state * state).item() == pytest.approx(mean.item(), 1e-4)


def test_the_last_step_ends_at_the_clip() -> None:
    step = ddpm.move(torch.tensor([1]), torch.tensor([0]))
    assert (step.of_clip.item(), step.of_state.item(), step.deviation.item()) == (1, 0, 0)
    assert math.isfinite(step.lower.item())


def test_a_net_that_knows_the_noise_and_the_variance_has_no_loss() -> None:
    clip, time = clips(DESIGN, 3), torch.tensor([2, 500, 1000])
    noise = torch.randn(clip.shape, generator=dice())
    loss = ddpm.error(saying(noise), DESIGN, clip, torch.ones(3, 4, 4, 4), noise, time)
    assert loss.abs().max() < 1e-6


def test_the_squared_error_is_of_what_is_generated_over_all_there_is() -> None:
    clip, mask, time = clips(DESIGN, 2), some(DESIGN, 2, share=0.3), torch.tensor([900, 1000])
    noise = torch.randn(clip.shape, generator=dice())
    loss = ddpm.error(saying(noise + 2), DESIGN, clip, mask, noise, time)
    bound = ddpm.error(saying(noise + 2), DESIGN, clip, 0 * mask, noise, time)
    assert torch.allclose(loss - bound, 4 * mask.mean((1, 2, 3)), atol=1e-5)


def test_the_bound_trains_the_variance_and_leaves_the_noise_alone() -> None:
    clip, time = clips(DESIGN, 1), torch.tensor([300])
    noise = torch.randn(clip.shape, generator=dice())
    guess = torch.zeros_like(clip, requires_grad=True)
    share = torch.zeros_like(clip, requires_grad=True)
    mask = some(DESIGN, 1)
    ddpm.error(saying(guess, share), DESIGN, clip, mask, noise, time).sum().backward()
    made = wide(DESIGN, mask)
    assert torch.allclose(guess.grad, -2 * made * noise / clip.numel(), atol=1e-7)
    assert (share.grad != 0).all()


@pytest.mark.parametrize("time", [2, 30, 400])
def test_the_best_variance_is_that_of_what_the_mean_misses(time: int) -> None:
    """The divergence of a normal law is least at its own variance plus the square it is off by."""
    step = ddpm.move(torch.tensor([time]), torch.tensor([time - 1]))
    room = step.upper.exp() - step.lower.exp()
    miss = (room / 2).sqrt() / (step.of_clip * step.noise / step.signal)
    best = (step.lower.exp() + room / 2).log()
    share = (2 * (best - step.lower) / (step.upper - step.lower) - 1).requires_grad_()
    clip = torch.zeros(1, 4, 1, 8, 8)
    noise = torch.zeros_like(clip) + miss
    loss = ddpm.error(
        saying(0.0, share), DESIGN, clip, torch.zeros(1, 4, 4, 4), noise, torch.tensor([time])
    )
    loss.sum().backward()
    assert abs(share.grad.item()) < 1e-4
    gap = step.lower - best
    nats = (gap.exp() - 1 - gap + room / 2 / best.exp()) / 2
    assert loss.item() == pytest.approx(nats.item() / math.log(2), rel=1e-3)


@pytest.mark.parametrize("centre", [0.99, -0.5, -0.996])
def test_the_chances_of_all_values_of_a_pixel_add_up_to_one(centre: float) -> None:
    """At time 1 the bound is what the clip's own 8-bit value costs, in bits."""
    first, nothing = torch.ones(256, dtype=torch.long), torch.zeros(256, 4, 4, 4)
    step = ddpm.move(first, first - 1)
    values = torch.arange(256) / 127.5 - 1
    clip = values.view(-1, 1, 1, 1, 1).expand(-1, 4, 1, 8, 8)
    guess = (clip - centre) * step.signal / step.noise  # so that the mean is the centre
    bits = ddpm.error(saying(guess, 0.5), DESIGN, clip, nothing, 0 * clip, first)
    assert (2**-bits).sum().item() == pytest.approx(1, abs=1e-3)


def test_latents_have_no_edges() -> None:
    """The chance of a latent beyond 1 is that of its own small bin, not of all beyond it."""
    latents = tiny("faithful", height=16, width=16, codec=Autoencoder(factor=2, channels=1))
    first, nothing = torch.ones(1, dtype=torch.long), torch.zeros(1, 4, 4, 4)
    clip = torch.full((1, 4, 1, 8, 8), 1.5)
    costs = [
        ddpm.error(saying(0.0, 1.0), design, clip, nothing, 0 * clip, first).item()
        for design in (latents, DESIGN)
    ]
    assert costs[1] < costs[0]
    assert costs[0] == pytest.approx(-math.log2(math.erf(1 / 255 / 0.01 / 2**0.5)), rel=1e-3)


@pytest.mark.parametrize(
    ("steps", "ancestral"), [(1, False), (1, True), (7, False), (50, True), (1000, True)]
)
def test_a_net_that_knows_the_clip_gives_it_back(steps: int, ancestral: bool) -> None:
    clip = clips(DESIGN, 2)
    mask = some(DESIGN, 2)
    known = torch.where(wide(DESIGN, mask) > 0, 0, clip)
    net = knowing(DESIGN, clip)
    made = ddpm.sample(net, DESIGN, known, mask, dice(), steps=steps, ancestral=ancestral)
    assert (last(made) - clip).abs().max() < 1e-4


def test_with_all_its_noise_ddim_is_the_ancestral_sampler_at_the_lower_variance() -> None:
    net, mask = awake(DESIGN), torch.ones(2, 4, 4, 4)

    def least(*inputs: Any) -> Any:
        guess, _ = net(*inputs).chunk(2, dim=2)
        return torch.cat([guess, -torch.ones_like(guess)], dim=2)

    known = torch.zeros(2, 4, 1, 8, 8)
    one = ddpm.sample(least, DESIGN, known, mask, dice(), steps=30, eta=1.0)
    two = ddpm.sample(least, DESIGN, known, mask, dice(), steps=30, ancestral=True)
    for here, there in zip(one, two, strict=True):
        assert torch.allclose(here, there, atol=2e-3)


@pytest.mark.parametrize("more", [{}, {"eta": 1.0}, {"ancestral": True}], ids=str)
def test_noise_becomes_what_the_net_has_learnt(more: dict[str, Any]) -> None:
    """A net that is exact for numbers of spread 0.3, each on its own, gives such numbers.

    In steps of five eta 1 gives a few hundredths less, its variance being the lower bound.
    """
    design = tiny("faithful", height=16, width=16, codec=Autoencoder(factor=2, channels=4))

    def exact(x: Any, mask: Any, time: Any, known: Any) -> Any:
        step = ddpm.move(time, time - 1)
        variance = 0.09 * step.signal**2 + step.noise**2
        return torch.cat([step.noise / variance * x, torch.zeros_like(x)], dim=2)

    known, mask = torch.zeros(16, 4, 4, 8, 8), torch.ones(16, 4, 4, 4)
    made = last(ddpm.sample(exact, design, known, mask, dice(), steps=200, **more))
    assert abs(made.mean()) < 0.01
    assert made.std().item() == pytest.approx(0.3, rel=0.07)


def test_each_step_shows_the_net_what_is_given_and_how_late_it_is() -> None:
    clip, mask = clips(DESIGN, 1), some(DESIGN, 1)
    given = wide(DESIGN, mask) == 0
    times = []

    def net(x: Any, asked: Any, time: Any, known: Any) -> Any:
        assert torch.equal(x[given], clip[given])
        assert torch.equal(known[given], clip[given])
        assert (known[~given] == 0).all()
        times.append(time.item())
        return torch.cat([x, x], dim=2)

    made = list(ddpm.sample(net, DESIGN, clip, mask, dice(), steps=4))
    assert times == [1000, 750, 500, 250]
    assert len(made) == 4
    assert all(torch.equal(film[given], clip[given]) for film in made)


def test_guidance_leans_away_from_a_guess_of_nothing_given() -> None:
    clip, mask = clips(DESIGN, 1), some(DESIGN, 1)
    given = wide(DESIGN, mask) == 0
    asked = []

    def net(x: Any, told: Any, time: Any, known: Any) -> Any:
        free = bool((told == 1).all())
        asked.append((free, bool((x[given] == clip[given]).any()), known.abs().sum().item() > 0))
        return torch.cat([torch.full_like(x, 0.1 if free else 0.3), x], dim=2)

    guided = last(ddpm.sample(net, DESIGN, clip, mask, dice(), steps=1, guidance=3.0))
    assert asked == [(False, True, True), (True, False, False)]
    start = torch.randn(clip.shape, generator=dice())
    step = ddpm.move(torch.tensor([1000]), torch.tensor([0]))
    clean = ((start - step.noise * (0.1 + 3 * 0.2)) / step.signal).clamp(-1, 1)
    assert torch.equal(guided[~given], clean[~given])


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_there_are_from_one_to_a_thousand_steps(steps: int) -> None:
    known, mask = torch.zeros(1, 4, 1, 8, 8), torch.ones(1, 4, 4, 4)
    with pytest.raises(RequestError, match="steps must be from 1 to 1000") as told:
        last(ddpm.sample(saying(0.0), DESIGN, known, mask, dice(), steps=steps))
    assert told.value.param == "steps"


def test_a_mask_between_nought_and_one_is_refused() -> None:
    clip, mask = clips(DESIGN, 1), torch.full((1, 4, 4, 4), 0.5)
    with pytest.raises(RequestError, match="must be 0 or 1 everywhere") as told:
        ddpm.loss(saying(0.0), DESIGN, clip, mask, dice())
    assert told.value.param == "mask"
    with pytest.raises(RequestError, match="must be 0 or 1 everywhere"):
        last(ddpm.sample(saying(0.0), DESIGN, clip, mask, dice(), steps=2))
