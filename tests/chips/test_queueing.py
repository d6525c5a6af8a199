from __future__ import annotations

import math

import pytest

from bicameral.chips.queueing import FULLEST, erlang_c, most_arrivals, waiting


@pytest.mark.parametrize(("places", "offered"), [(1, 0.5), (3, 2.0), (20, 17.0)])
def test_erlang_c_is_the_sum_that_it_stands_for(places: int, offered: float) -> None:
    full = offered**places / math.factorial(places) * places / (places - offered)
    free = sum(offered**n / math.factorial(n) for n in range(places))
    assert erlang_c(places, offered) == pytest.approx(full / (free + full))


def test_one_place_waits_as_the_textbook_says() -> None:
    # M/M/1 and M/D/1: the mean wait is load / (1 - load), or half of it, services long.
    assert waiting(1, 0.8, 1.0, 1.0).mean == pytest.approx(4.0)
    assert waiting(1, 0.8, 1.0, 0.0).mean == pytest.approx(2.0)
    with pytest.raises(ValueError, match="do not go into"):
        waiting(2, 2.0, 1.0, 1.0)


def test_the_most_that_may_come_keeps_the_wait() -> None:
    most = most_arrivals(4, 1.0, 1.0, within=0.5, percentile=90)
    assert 0 < most < FULLEST * 4
    assert waiting(4, most, 1.0, 1.0).within(90) <= 0.5
    assert waiting(4, most * 1.01, 1.0, 1.0).within(90) > 0.5
    assert most_arrivals(4, 1.0, 1.0, within=None, percentile=90) == FULLEST * 4
