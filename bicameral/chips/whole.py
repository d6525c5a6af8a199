"""How many of which: whole numbers of replicas that cover a demand at the least cost.

An integer programme: columns (a replica each) cover rows (parts of requests a second) and take
chips of pools. Its linear relaxation, solved exactly, bounds every whole plan from below; whole
plans are found by rounding and by branch and bound with the relaxation's prices, which ends with
the best one or, for large fleets, with one whose distance to the bound is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import ceil, floor, frexp

import msgspec

from bicameral.chips.linear import maximise

TRIED = 20_000
# Amounts are rounded up to so many binary digits in the relaxation, which only lowers its bound.
_DIGITS = 20
_SLACK = 1e-9
_PACKED = 5_000


class Column(msgspec.Struct, frozen=True):
    """One replica: `cost` >= 0, `chips` (a power of two) of pool `pool`, `covers` of each row."""

    pool: int
    chips: int
    cost: int
    covers: tuple[float, ...]


class Room(msgspec.Struct, frozen=True):
    """How many chips of a pool blocks of at least each size may take: (size, chips), rising."""

    limits: tuple[tuple[int, int], ...]

    @property
    def chips(self) -> int:
        """All chips of the pool."""
        return self.limits[0][1] if self.limits else 0


class Cover(msgspec.Struct, frozen=True):
    """How often each column is taken. No plan costs less than `bound`, or than this if `exact`."""

    counts: tuple[int, ...]
    cost: int
    bound: float
    exact: bool

    @property
    def gap(self) -> float:
        """The part of the cost by which a better plan could be cheaper at most."""
        return 0.0 if self.exact or not self.cost else max(0.0, 1 - self.bound / self.cost)


class Short(Exception):
    """The demand cannot be covered; `proven` False: no way was found in the steps allowed."""

    def __init__(self, *, proven: bool) -> None:
        super().__init__("the demand cannot be covered")
        self.proven = proven


def cover(
    columns: Sequence[Column],
    demand: Sequence[float],
    rooms: Sequence[Room],
    *,
    tried: int = TRIED,
) -> Cover:
    """The cheapest counts of `columns` that cover `demand`; raises Short if there are none.

    `tried`: how many branches to look at before the best so far is taken.
    """
    for row in range(len(demand)):
        if not any(column.covers[row] for column in columns):
            raise Short(proven=True)
    return _Search(columns, demand, rooms, tried).best()


def _raised(number: float) -> Fraction:
    """A little above `number`, with few digits: exact arithmetic with it stays short."""
    return Fraction(ceil(Fraction(number) * _scale(number))) / _scale(number)


def _lowered(number: float) -> Fraction:
    """A little below, likewise."""
    return Fraction(floor(Fraction(number) * _scale(number))) / _scale(number)


def _scale(number: float) -> Fraction:
    return Fraction(2) ** (_DIGITS - frexp(number)[1])


class _Search:
    """The state of one branch and bound."""

    def __init__(
        self,
        columns: Sequence[Column],
        demand: Sequence[float],
        rooms: Sequence[Room],
        tried: int,
    ) -> None:
        # What covers more than all is worth no more than all: this raises the bound.
        self.columns = [
            msgspec.structs.replace(c, covers=tuple(map(min, c.covers, demand))) for c in columns
        ]
        self.demand, self.rooms = demand, rooms
        self.owners = [next(r for r, x in enumerate(c.covers) if x) for c in columns]
        self.left = tried
        self.found: list[int] | None = None
        self.cost: float = float("inf")

    def best(self) -> Cover:
        bound, prices, rents = self._relaxed()
        near = self._near()
        self._keep(self._rounded(near, prices))
        reduced = [self._reduced(j, prices, rents) for j in range(len(self.columns))]
        order = sorted(range(len(self.columns)), key=lambda j: (self.owners[j], reduced[j]))
        guide = _Guide(near, prices, rents, self._rests(prices, rents))
        state = _State(list(self.demand), [dict(r.limits) for r in self.rooms])
        bound = max(bound, state.bound(guide, -1))
        self._branch(order, 0, [0] * len(self.columns), 0, state, guide)
        if self.found is None:
            raise Short(proven=self.left > 0)
        return Cover(tuple(self.found), int(self.cost), bound, self.left > 0)

    def _rests(self, prices: Sequence[float], rents: Sequence[float]) -> list[float]:
        """What each row costs at least in whole replicas, at the prices of the others and rents.

        The Lagrangian bound: rows that others cover as well are worth their price, chips their
        rent, and what is left falls apart into rows, each a knapsack.
        """
        rests = [p * d for p, d in zip(prices, self.demand, strict=True)]
        for row in range(len(rests)):
            if any(c.covers[row] and self.owners[j] != row for j, c in enumerate(self.columns)):
                continue
            own = [c for j, c in enumerate(self.columns) if self.owners[j] == row]
            items = [(self._net(c, row, prices, rents), c.covers[row]) for c in own]
            rests[row] = max(rests[row], knapsack(items, self.demand[row]))
        return rests

    def _net(
        self, column: Column, row: int, prices: Sequence[float], rents: Sequence[float]
    ) -> float:
        others = sum(
            p * x for r, (p, x) in enumerate(zip(prices, column.covers, strict=True)) if r != row
        )
        return max(0.0, column.cost + column.chips * rents[column.pool] - others)

    def _relaxed(self) -> tuple[float, list[float], list[float]]:
        """The dual programme: prices of rows and rents of pools; without a bound, none cover."""
        rows, pools = len(self.demand), len(self.rooms)
        gain = [_lowered(d) for d in self.demand]
        gain += [Fraction(-room.chips) for room in self.rooms]
        limits = [Fraction(c.cost) for c in self.columns]
        table = [
            [*map(_raised, c.covers), *(Fraction(-c.chips * (c.pool == k)) for k in range(pools))]
            for c in self.columns
        ]
        try:
            bound, found = maximise(gain, table, limits)
        except ValueError:
            raise Short(proven=True) from None
        prices = [float(p) for p in found]
        return float(bound), prices[:rows], prices[rows:]

    def _near(self) -> list[float]:
        """The relaxation's own counts, of the programme that pays a penalty for what is missing."""
        rows, width = len(self.demand), len(self.columns)
        dear = Fraction(10 * max(c.cost for c in self.columns) + 1)
        dear /= min((x for c in self.columns for x in map(_raised, c.covers) if x), default=1)
        gain = [dear] * rows + [Fraction(-c.cost) for c in self.columns]
        table = [
            [Fraction(i == r) for i in range(rows)] + [-_raised(c.covers[r]) for c in self.columns]
            for r in range(rows)
        ]
        table += [[Fraction(i == r) for i in range(rows + width)] for r in range(rows)]
        table += [
            [Fraction(0)] * rows + [Fraction(c.chips * (c.pool == k)) for c in self.columns]
            for k in range(len(self.rooms))
        ]
        limits = [Fraction(0)] * rows + [_raised(d) for d in self.demand]
        limits += [Fraction(room.chips) for room in self.rooms]
        return [float(x) for x in maximise(gain, table, limits)[1][rows:]]

    def _reduced(self, j: int, prices: Sequence[float], rents: Sequence[float]) -> float:
        column = self.columns[j]
        worth = sum(p * x for p, x in zip(prices, column.covers, strict=True))
        return column.cost - worth + column.chips * rents[column.pool]

    def _rounded(self, near: Sequence[float], prices: Sequence[float]) -> list[int] | None:
        """Rounded down, then what covers most for its cost until all is covered."""
        counts = [0] * len(self.columns)
        state = _State(list(self.demand), [dict(r.limits) for r in self.rooms])
        for j, column in enumerate(self.columns):
            counts[j] = min(floor(near[j] + _SLACK), state.most(column))
            state.take(column, counts[j])
        while state.open:
            fits = [
                j for j, c in enumerate(self.columns) if state.most(c) and state.useful(c, prices)
            ]
            if not fits:
                return None
            j = max(
                fits,
                key=lambda j: state.useful(self.columns[j], prices) / max(1, self.columns[j].cost),
            )
            counts[j] += 1
            state.take(self.columns[j], 1)
        return self._trimmed(counts)

    def _trimmed(self, counts: list[int]) -> list[int]:
        """Without replicas that the others can do without, the dearest first."""
        state = _State(list(self.demand), [dict(r.limits) for r in self.rooms])
        for j, column in enumerate(self.columns):
            state.take(column, counts[j])
        for j in sorted(range(len(counts)), key=lambda j: -self.columns[j].cost):
            while counts[j]:
                state.take(self.columns[j], -1)
                if state.open:
                    state.take(self.columns[j], 1)
                    break
                counts[j] -= 1
        return counts

    def _keep(self, counts: list[int] | None) -> None:
        if counts is None:
            return
        cost = sum(n * c.cost for n, c in zip(counts, self.columns, strict=True))
        if cost < self.cost:
            self.found, self.cost = list(counts), cost

    def _branch(
        self,
        order: Sequence[int],
        at: int,
        counts: list[int],
        cost: int,
        state: _State,
        guide: _Guide,
    ) -> None:
        """Every count of the columns from `at` on that may be better than the best so far."""
        if not state.open:
            self._keep(counts)
            return
        owner = self.owners[order[at]] if at < len(order) else len(self.demand)
        if self.left <= 0 or state.missed(owner):
            return
        self.left -= 1
        if cost + state.bound(guide, owner) >= self.cost * (1 - _SLACK):
            return
        j = order[at]
        column = self.columns[j]
        most = min(state.most(column), state.needed(column))
        for n in sorted(range(most + 1), key=lambda n: abs(n - guide.near[j])):
            state.take(column, n)
            counts[j] = n
            self._branch(order, at + 1, counts, cost + n * column.cost, state, guide)
            state.take(column, -n)
            if self.left <= 0:
                break
        counts[j] = 0


def knapsack(items: Sequence[tuple[float, float]], wanted: float) -> float:
    """A lower bound on the cost of whole (cost, covers) items that cover `wanted`; mostly exact."""
    ordered = sorted(items, key=lambda item: item[0] / item[1])
    least = [item[0] / item[1] for item in ordered]
    best, left = float("inf"), _PACKED

    def pack(at: int, wanted: float, cost: float) -> None:
        nonlocal best, left
        left -= 1
        if wanted <= 0:
            best = min(best, cost)
        elif at < len(ordered) and left > 0 and cost + least[at] * wanted < best:
            each, covers = ordered[at]
            for n in range(ceil(wanted / covers - _SLACK), -1, -1):
                pack(at + 1, wanted - n * covers if n * covers < wanted else 0.0, cost + n * each)

    pack(0, wanted, 0.0)
    return best if left > 0 else least[0] * wanted


class _Guide(msgspec.Struct, frozen=True):
    """The relaxation: counts, prices of rows, rents of pools, and each row's least cost."""

    near: Sequence[float]
    prices: Sequence[float]
    rents: Sequence[float]
    rests: Sequence[float]


class _State:
    """What is still to be covered, and the chips that are still free."""

    def __init__(self, demand: list[float], free: list[dict[int, int]]) -> None:
        self.demand, self.free = demand, free
        self.whole = tuple(demand)
        self.close = [1e-9 * d for d in demand]

    @property
    def open(self) -> bool:
        """Whether something is not covered yet."""
        return any(d > c for d, c in zip(self.demand, self.close, strict=True))

    def take(self, column: Column, n: int) -> None:
        """Adds `n` replicas; below 0: takes them back."""
        if not n:
            return
        for r, x in enumerate(column.covers):
            self.demand[r] -= n * x
        free = self.free[column.pool]
        for size in free:
            if size <= column.chips:
                free[size] -= n * column.chips

    def most(self, column: Column) -> int:
        """How many more fit into their pool: blocks of any size below theirs count as well."""
        free = self.free[column.pool]
        return max(
            0, min(left for size, left in free.items() if size <= column.chips) // column.chips
        )

    def needed(self, column: Column) -> int:
        """How many more could be of use."""
        return max(
            (
                ceil(d / x - _SLACK)
                for d, x in zip(self.demand, column.covers, strict=True)
                if x and d > 0
            ),
            default=0,
        )

    def useful(self, column: Column, prices: Sequence[float]) -> float:
        """What one more is worth, at the relaxation's prices."""
        each = zip(self.demand, column.covers, self.close, prices, strict=True)
        return sum(max(p, 1e-12) * min(d, x) for d, x, c, p in each if d > c)

    def missed(self, owner: int) -> bool:
        """Whether a row is open that no column from `owner`'s on covers."""
        return any(d > c for d, c in zip(self.demand[:owner], self.close[:owner], strict=True))

    def bound(self, guide: _Guide, owner: int) -> float:
        """What covering the rest costs at least, where rows after `owner` are untouched."""
        worth = sum(guide.rests[owner + 1 :])
        for row in range(owner + 1):
            worth += guide.prices[row] * max(0.0, self.demand[row])
        for row in range(owner + 1, len(self.demand)):
            if self.demand[row] < self.whole[row]:
                worth += guide.prices[row] * max(0.0, self.demand[row]) - guide.rests[row]
        return worth - sum(r * free[1] for r, free in zip(guide.rents, self.free, strict=True))
