from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="needs `make torch`: see the Makefile")

from bicameral.engines.vdt.position import plane, turn, turns, waves  # noqa: E402


def test_a_wave_is_sines_then_cosines_of_the_place() -> None:
    table = waves(20, 8)
    for place in (0, 1, 7, 19):
        for index in range(4):
            angle = place / 10_000 ** (index / 4)
            assert table[place, index].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[place, index + 4].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_half_of_a_plane_tells_the_column_and_half_the_row() -> None:
    table = plane(3, 5, 16).view(3, 5, 16)
    assert torch.equal(table[..., :8], waves(5, 8).expand(3, 5, 8))
    assert torch.equal(table[..., 8:], waves(3, 8)[:, None].expand(3, 5, 8))


def test_no_two_places_of_a_plane_are_alike() -> None:
    table = plane(16, 12, 32)
    apart = torch.cdist(table, table) + torch.eye(len(table)) * 9
    assert apart.min() > 0.1


def test_turning_keeps_lengths() -> None:
    x = torch.randn(2, 3 * 4 * 5, 16)
    assert torch.allclose(turn(x, turns(3, 4, 5, 16)).norm(dim=-1), x.norm(dim=-1), atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_what_is_seen_depends_on_how_far_apart_places_are_alone(axis: int) -> None:
    sizes = (6, 6, 6)
    q, k = torch.randn(2, 24, generator=torch.Generator().manual_seed(0))
    table = turns(*sizes, 24).view(2, *sizes, 12)

    def seen(here: tuple[int, ...], there: tuple[int, ...]) -> float:
        return (turn(q, table[:, *here]) @ turn(k, table[:, *there])).item()

    def at(place: int) -> tuple[int, ...]:
        return tuple(place if a == axis else 2 for a in range(3))

    near = [seen(at(i), at(i + 2)) for i in range(4)]
    assert near == pytest.approx([near[0]] * 4, abs=1e-4)
    assert abs(near[0] - seen(at(0), at(3))) > 1e-2
    assert abs(near[0] - seen(at(2), at(0))) > 1e-2


def test_the_place_at_nought_turns_nothing() -> None:
    x = torch.randn(1, 12)
    assert torch.equal(turn(x, turns(1, 1, 1, 12)), x)


@pytest.mark.parametrize("head", [6, 32, 64, 72])
def test_rows_and_columns_turn_a_third_of_the_pairs_each(head: int) -> None:
    sines = turns(2, 2, 2, head)[1].view(2, 2, 2, head // 2)
    turned = [(sines[place] != 0).sum().item() for place in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    third = head // 6
    assert turned == [head // 2 - 2 * third, third, third]


def test_any_size_agrees_where_places_are_the_same() -> None:
    small, large = turns(2, 3, 3, 24).view(2, 2, 3, 3, 12), turns(5, 7, 4, 24).view(2, 5, 7, 4, 12)
    assert torch.equal(small, large[:, :2, :3, :3])
