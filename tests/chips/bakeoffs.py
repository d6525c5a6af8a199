"""Bake-offs that never ran, for tests of what is made of them."""

from __future__ import annotations

import random

from bicameral.chips.bakeoff import (
    Bakeoff,
    Block,
    Contestant,
    Found,
    Load,
    Machine,
    Row,
    Tasks,
    Workload,
)

MACHINE = Machine(
    cpu="a CPU",
    cores=2,
    memory_gb=4.0,
    system="Linux",
    python="3.11",
    packages={"xllamacpp": "1"},
    load_before=(0.1, 0.1, 0.1),
    load_after=(1.0, 0.5, 0.2),
)


def load_rows(name, latency, *, repeats=3, rates=(1.0,), count=20, seed=0, noise=0.1):
    """`latency` seconds, log-normally noisy; None: every request failed."""
    drawn = random.Random(f"{name} {seed}")
    rows = []
    for repeat in range(repeats):
        for rate in rates:
            for number in range(count):
                due = number / rate
                took = None if latency is None else latency * drawn.lognormvariate(0, noise)
                rows.append(
                    Row(
                        contestant=name,
                        repeat=repeat,
                        rate=rate,
                        number=number,
                        kind="short",
                        planned=due,
                        sent=due,
                        first=None if took is None else due + took / 2,
                        ended=due + (took or 0),
                        tokens_in=10,
                        tokens_out=None if took is None else 11,
                        error="" if took is not None else "Overloaded",
                    )
                )
    return rows


def task_rows(name, right, count, repeats=3):
    """Of `count` tasks in each repeat the first `right` are right."""
    return [
        Row(
            contestant=name,
            repeat=repeat,
            number=n,
            kind="copy",
            planned=0.0,
            sent=0.0,
            first=0.1,
            ended=0.2,
            task=f"{repeat}.{n}",
            passed=n < right,
        )
        for repeat in range(repeats)
        for n in range(count)
    ]


def baked(
    rows, names, *, deadline=2.0, rates=(1.0,), margin=0.05, left_out=(), tuned=(), watts=None
):
    """A finished bake-off of these rows."""
    contestants = tuple(
        Contestant(
            name=name,
            member={"engine": "scripted"},
            settings="tuned" if name in tuned else "default",
        )
        for name in names
    )
    return Bakeoff(
        made="2026-01-01T00:00:00+00:00",
        workload=Workload(
            name="test",
            load=Load(rates=rates, deadline=deadline),
            contestants=contestants,
            tasks=Tasks(margin=margin),
        ),
        machine=MACHINE,
        found=tuple(
            Found(
                name=each.name,
                settings=each.settings,
                engine="scripted",
                chip="cpu",
                left_out="it cannot be asked" if each.name in left_out else "",
            )
            for each in contestants
        ),
        blocks=tuple(
            Block(contestant=name, repeat=r, rate=rate, seconds=20.0, joules=watts)
            for name in names
            for r in range(3)
            for rate in rates
        ),
        rows=tuple(rows),
    )
