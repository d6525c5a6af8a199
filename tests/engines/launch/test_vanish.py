"""A chip that vanishes while its server serves: what who asks sees, and what comes of its return.

The guard, the server's process, the keeper and the mind are the real ones; the chip is a file that
the server needs, as /dev/nvidia0 is one.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from bicameral.engines.launch.keeper import back_off
from bicameral.engines.launch.options import Options
from bicameral.engines.launch.recipe import recipe
from bicameral.engines.launched import Launched, launched
from bicameral.errors import Broken, Overloaded, Unreachable
from bicameral.left.mind import Mind
from bicameral.left.route import Route
from bicameral.model import Model, collect
from bicameral.probe import probe_all
from bicameral.types import Request, Text
from tests.engines.launch.starting import HASTE, answered, ask, command
from tests.engines.models import opened

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@asynccontextmanager
async def serving(device: Path, lost: str) -> AsyncIterator[Launched]:
    """A member on that chip, which a single death would end for good if the chip stayed."""
    row = replace(
        recipe("llama-server", "m"),
        devices=str(device.with_name("nvidia*")),
        key="BICAMERAL_KEYS",
        health="/readyz",
        version=(),
    )
    options = Options(
        engine="launched",
        recipe="llama-server",
        model="m",
        chip="cuda:0",
        command=tuple(command("--device", str(device), "--lost", lost)),
        deaths=1,
        quality=0.9,
        **{**HASTE, "hung_seconds": 0.5},
    )
    async with launched("big", options, row) as model:
        yield model


async def refused(model: Launched, words: str) -> Overloaded:
    """The refusal that says so, once it comes."""
    while True:
        error = (await ask(model)).error
        if isinstance(error, Overloaded) and words in str(error):
            return error
        await asyncio.sleep(0.02)


async def said(model: Model) -> str:
    answer = await collect(model, Request.ask("hi"))
    assert answer.error is None
    return answer.text.strip()


class Chip:
    def __init__(self, folder: Path) -> None:
        self.file = folder / "nvidia0"
        self.back()

    def vanish(self) -> None:
        self.file.unlink()

    def back(self) -> None:
        self.file.touch()


@pytest.fixture
def chip(tmp_path: Path) -> Chip:
    return Chip(tmp_path)


@pytest.mark.parametrize("lost", ["die", "hang", "error"])
async def test_a_mind_goes_on_without_the_chip_and_with_it_again(chip: Chip, lost: str) -> None:
    async with serving(chip.file, lost) as big, opened("scripted", "small", reply="small") as small:
        mind = Mind("m", Route(), [big, small])
        assert await said(mind) == "well hello there"
        chip.vanish()
        assert await said(mind) == "small"
        told = await refused(big, "as its chip cuda:0 was not found")
        assert "started again once the chip is back" in str(told)
        assert told.status == 503
        assert told.retry_after > 0
        assert await said(mind) == "small"
        health = {each.name: each.error for each in await probe_all([big, small])}
        assert "its chip cuda:0 was not found" in health["big"]
        assert health["small"] is None
        chip.back()
        assert (await answered(big)).text == "well hello there"
        assert await said(mind) == "well hello there"
        assert [each.error for each in await probe_all([big, small])] == [None, None]


async def test_what_was_being_said_as_it_vanished_is_broken_and_not_begun_again(
    chip: Chip,
) -> None:
    async with serving(chip.file, "die") as big, aclosing(big.run(Request.ask("wait"))) as events:
        assert (await anext(events)).part == Text("well ")
        chip.vanish()
        with pytest.raises(Broken, match=r"\(killed by SIGABRT\), as its chip cuda:0 has gone"):
            [event async for event in events]


async def test_a_death_for_another_reason_counts_as_before(chip: Chip) -> None:
    async with serving(chip.file, "die") as big:
        await ask(big, "die")
        while not isinstance(error := (await ask(big)).error, Unreachable):
            await asyncio.sleep(0.02)
        assert "given up, as its server died 1 times" in str(error)


def test_a_chip_is_looked_for_less_and_less_often() -> None:
    assert [back_off(n) for n in (1, 2, 3, 7, 2000)] == [0.5, 1.0, 2.0, 30.0, 30.0]
