"""Arrivals are the same everywhere, of the wanted rate, and wait for nobody."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from bicameral.chips.arrivals import open_loop, poisson


def test_a_seed_fixes_the_moments():
    assert poisson(2.0, 50, "a") == poisson(2.0, 50, "a")
    assert poisson(2.0, 50, "a") != poisson(2.0, 50, "b")


def test_moments_begin_at_0_and_come_at_the_rate():
    moments = poisson(4.0, 4001, "rate")
    assert moments[0] == 0
    assert list(moments) == sorted(moments)
    assert moments[-1] / 4000 == pytest.approx(0.25, rel=0.05)


def test_gaps_are_exponential():
    moments = poisson(1.0, 4001, "gaps")
    gaps = [b - a for a, b in pairwise(moments)]
    assert sum(gap > 1 for gap in gaps) / 4000 == pytest.approx(0.368, abs=0.03)


@pytest.mark.parametrize(("rate", "count"), [(0, 5), (-1, 5), (1, 0)])
def test_no_arrivals_are_refused(rate, count):
    with pytest.raises(ValueError, match="above 0"):
        poisson(rate, count, "x")


async def test_nobody_waits_for_a_slow_answer():
    """The first is answered only once the last has been sent: a closed loop would hang here."""
    last = asyncio.Event()
    due = []

    async def send(number, planned):
        due.append(planned)
        if number == 3:
            last.set()
        await last.wait()
        return number

    assert await asyncio.wait_for(open_loop((0, 0.001, 0.002, 0.003), send), 10) == [0, 1, 2, 3]
    assert [round(d - due[0], 6) for d in due] == [0, 0.001, 0.002, 0.003]


async def test_what_is_due_counts_from_the_plan_even_when_the_loop_was_held():
    loop = asyncio.get_running_loop()

    async def send(number, planned):
        late = loop.time() - planned
        if number == 0:
            until = loop.time() + 0.05
            while loop.time() < until:  # holds the loop, as a garbage collection would
                pass
        return late

    late = await open_loop((0, 0.01), send)
    assert late[1] >= 0.03


async def test_a_failure_of_our_own_flies():
    async def send(number, planned):
        raise RuntimeError("ours")

    with pytest.raises(ExceptionGroup):
        await open_loop((0,), send)
