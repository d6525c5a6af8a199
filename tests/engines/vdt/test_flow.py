from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs `make torch`: see the Makefile")

from bicameral.engines.vdt import flow  # noqa: E402
from bicameral.engines.vdt.parts import spread  # noqa: E402
from tests.engines.vdt.nets import awake, clips, dice, knowing, some, tiny, wide  # noqa: E402

DESIGN = tiny("modern")
CLEAN = tiny("modern", predicts="clean")
NOTHING = torch.zeros(1, 4, 4, 4)


def last(films: Any) -> Any:
    *_, film = films
    return film


def noisy(seed: int, clip: Any) -> Any:
    return torch.randn(clip.shape, generator=dice(seed))


def test_levels_are_logit_normal() -> None:
    sigma = flow.levels(20_000, 1.0, dice())
    logit = sigma.logit()
    assert logit.mean().item() == pytest.approx(0, abs=0.03)
    assert logit.std().item() == pytest.approx(1, abs=0.03)


def test_a_shift_moves_levels_up_by_its_formula() -> None:
    plain, moved = flow.levels(100, 1.0, dice()), flow.levels(100, 3.0, dice())
    assert torch.allclose(moved, 3 * plain / (1 + 2 * plain))
    assert (moved > plain).all()
    assert (moved < 1).all()


@pytest.mark.parametrize("design", [DESIGN, CLEAN], ids=["velocity", "clean"])
def test_a_net_that_knows_the_clip_has_no_loss(design: Any) -> None:
    clip = clips(design, 3)
    loss = flow.loss(knowing(design, clip), design, clip, some(design, 3), dice())
    assert loss.abs().max() < 1e-6


@pytest.mark.parametrize("design", [DESIGN, CLEAN], ids=["velocity", "clean"])
def test_the_loss_is_the_error_at_the_noise_it_draws(design: Any) -> None:
    net, clip, mask = awake(design), clips(design, 3), some(design, 3)
    draw = dice(5)
    sigma = flow.levels(3, design.shift, draw)
    noise = torch.randn(clip.shape, generator=draw)
    want = flow.error(net, design, clip, mask, noise, sigma)
    assert torch.equal(flow.loss(net, design, clip, mask, dice(5)), want)


def test_the_error_is_the_mean_over_what_is_generated() -> None:
    clip, mask = clips(DESIGN, 4), some(DESIGN, 4, share=0.2)
    noise = noisy(0, clip)

    def off_by_two(x: Any, *_: Any) -> Any:
        return noise - clip + 2

    error = flow.error(off_by_two, DESIGN, clip, mask, noise, torch.full((4,), 0.5))
    assert torch.allclose(error, torch.full((4,), 4.0), atol=1e-4)


def test_a_net_of_clean_clips_is_judged_by_the_velocity_that_follows() -> None:
    """Off by d from the clip at level s is off by d / s in velocity; at a low level by d / 0.05."""
    clip, mask = clips(CLEAN, 2), torch.ones(2, 4, 4, 4)
    off = knowing(CLEAN, clip + 0.1)
    error = flow.error(off, CLEAN, clip, mask, noisy(0, clip), torch.tensor([0.4, 0.01]))
    assert error.tolist() == pytest.approx([(0.1 / 0.4) ** 2, (0.1 / 0.05) ** 2], rel=1e-3)


def test_each_token_has_the_time_of_its_mask_times_the_level() -> None:
    clip, noise = clips(DESIGN, 2), noisy(0, clips(DESIGN, 2))
    mask = torch.rand(2, 4, 4, 4, generator=dice()) * (some(DESIGN, 2))
    sigma = torch.tensor([0.25, 0.75])
    seen = []

    def net(x: Any, told: Any, time: Any, known: Any) -> Any:
        seen.append((x, told, time, known))
        return x

    flow.error(net, DESIGN, clip, mask, noise, sigma)
    [(x, told, time, known)] = seen
    assert torch.equal(told, mask)
    assert torch.allclose(time, mask * sigma.view(2, 1, 1, 1))
    late = spread(time, DESIGN.patch)
    assert torch.allclose(x, (1 - late) * clip + late * noise)
    given = wide(DESIGN, mask) == 0
    assert torch.equal(x[given], clip[given])
    assert torch.equal(known[given], clip[given])
    assert (known[~given] == 0).all()


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 7, 50, 200])
@pytest.mark.parametrize("predicts", ["velocity", "clean"])
def test_a_net_that_knows_the_clip_gives_it_back(predicts: str, steps: int, shift: float) -> None:
    design = tiny("modern", predicts=predicts, shift=shift)
    clip, mask = clips(design, 2), some(design, 2)
    known = torch.where(wide(design, mask) > 0, 0, clip)
    made = flow.sample(knowing(design, clip), design, known, mask, dice(), steps=steps)
    assert (last(made) - clip).abs().max() < 1e-4


@pytest.mark.parametrize("predicts", ["velocity", "clean"])
def test_a_token_that_is_noised_in_part_starts_from_what_is_there(predicts: str) -> None:
    """At a mask of 0.3 the sampler starts from a clip three tenths noise, and cleans that."""
    design = tiny("modern", predicts=predicts)
    clip, mask = clips(design, 1), torch.full((1, 4, 4, 4), 0.3)
    seen = []

    def net(x: Any, told: Any, time: Any, known: Any) -> Any:
        seen.append((x, time, known))
        return knowing(design, clip)(x, told, time, known)

    made = last(flow.sample(net, design, clip, mask, dice(), steps=10))
    x, time, known = seen[0]
    assert torch.allclose(x, 0.7 * clip + 0.3 * noisy(0, clip))
    assert torch.allclose(time, torch.full_like(time, 0.3))
    assert (known == 0).all()
    assert (made - clip).abs().max() < 1e-4


def test_noise_becomes_what_the_net_has_learnt() -> None:
    """A net that is exact for numbers of spread 0.3, each on its own, gives such numbers."""

    def exact(x: Any, mask: Any, time: Any, known: Any) -> Any:
        late = spread(time, DESIGN.patch)
        return (late - (1 - late) * 0.09) / ((1 - late) ** 2 * 0.09 + late**2) * x

    known, mask = torch.zeros(32, 4, 1, 8, 8), torch.ones(32, 4, 4, 4)
    made = last(flow.sample(exact, DESIGN, known, mask, dice(), steps=200))
    assert abs(made.mean()) < 0.01
    assert made.std().item() == pytest.approx(0.3, rel=0.05)


def test_steps_go_evenly_from_noise_to_the_clip() -> None:
    times = []

    def net(x: Any, mask: Any, time: Any, known: Any) -> Any:
        times.append(time.max().item())
        return 0 * x

    list(flow.sample(net, DESIGN, clips(DESIGN, 1), NOTHING + 1, dice(), steps=4))
    assert times == pytest.approx([1, 0.75, 0.5, 0.25])


def test_guidance_leans_away_from_a_guess_of_nothing_given() -> None:
    clip, mask = clips(DESIGN, 1), some(DESIGN, 1)
    given = wide(DESIGN, mask) == 0
    noise = noisy(0, clip)
    asked = []

    def net(x: Any, told: Any, time: Any, known: Any) -> Any:
        free = bool((told == 1).all())
        asked.append(free)
        now = time.max().item()
        if free:
            assert (time == now).all()
            assert (known == 0).all()
            assert torch.allclose(x[given], ((1 - now) * clip + now * noise)[given])
        return torch.full_like(x, 0.1 if free else 0.3)

    made = last(flow.sample(net, DESIGN, clip, mask, dice(), steps=2, guidance=3.0))
    assert asked == [False, True, False, True]
    assert torch.allclose(made[~given], (noise - (0.1 + 3 * 0.2))[~given], atol=1e-6)


def test_guidance_says_truly_how_late_a_token_is_that_is_noised_in_part() -> None:
    clip, mask = clips(DESIGN, 1), torch.full((1, 4, 4, 4), 0.3)
    mask[:, 0] = 0
    late = []

    def net(x: Any, told: Any, time: Any, known: Any) -> Any:
        late.append(time[:, 1:].unique().tolist())
        return 0 * x

    list(flow.sample(net, DESIGN, clip, mask, dice(), steps=1, guidance=2.0))
    assert late == [[pytest.approx(0.3)], [pytest.approx(0.3)]]


def test_without_guidance_the_net_is_asked_once_a_step() -> None:
    asked = []

    def net(x: Any, mask: Any, time: Any, known: Any) -> Any:
        asked.append(time)
        return 0 * x

    list(flow.sample(net, DESIGN, clips(DESIGN, 1), some(DESIGN, 1), dice(), steps=5))
    assert len(asked) == 5
