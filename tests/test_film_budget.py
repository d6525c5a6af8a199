from __future__ import annotations

import pytest

from bicameral.model import bound, worst_cost
from bicameral.types import Card, Modality, Price, Request, VideoSpec

PER_SECOND = Price(input=0, output=0, second=10**9)
CARD = Card(name="film", engine="x", emits=frozenset({Modality.VIDEO}), price=PER_SECOND)


def wanted(**spec: int) -> Request:
    return Request.ask("", output=Modality.VIDEO, video=VideoSpec(**spec))


def test_film_costs_what_its_length_costs() -> None:
    asked = wanted(frames=17, fps=8)
    made = bound(CARD, asked)
    assert made is not None
    assert made.media_ms == 2125
    assert worst_cost(CARD, asked) == 2_125_000_000


@pytest.mark.parametrize("spec", [{}, {"frames": 16}, {"fps": 8}])
def test_film_of_unknown_length_is_bounded_by_nothing(spec: dict[str, int]) -> None:
    assert worst_cost(CARD, wanted(**spec)) is None
