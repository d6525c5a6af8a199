from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bicameral.callosum.space import ALIGN, Space, whole

SIZE = 64 * ALIGN


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20 * ALIGN)), max_size=60))
def test_blocks_never_overlap_and_all_of_it_comes_back(steps: list[tuple[bool, int]]) -> None:
    space = Space(SIZE)
    taken: dict[int, int] = {}
    for give, number in steps:
        if give and taken:
            offset = sorted(taken)[number % len(taken)]
            del taken[offset]
            space.give(offset)
        elif (offset := space.take(number)) is not None:
            end = offset + whole(number)
            assert end <= SIZE
            assert all(end <= o or o + whole(n) <= offset for o, n in taken.items())
            taken[offset] = number
    for offset in taken:
        space.give(offset)
    assert space.used == 0
    assert space.take(SIZE) == 0


def test_a_freed_block_is_the_next_one_taken() -> None:
    space = Space(SIZE)
    first, second = space.take(ALIGN), space.take(ALIGN)
    assert (first, second) == (0, ALIGN)
    space.give(0)
    assert space.take(10) == 0


def test_it_refuses_what_fits_no_free_block() -> None:
    space = Space(SIZE)
    blocks = [space.take(SIZE // 4) for _ in range(4)]
    space.give(blocks[0])
    space.give(blocks[2])
    assert space.longest == SIZE // 4
    assert space.take(SIZE // 2) is None
    space.give(blocks[1])
    assert space.take(SIZE // 2) == 0
