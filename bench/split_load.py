"""The variants of bench/split.py as running processes, and what is asked of them."""

from __future__ import annotations

import asyncio
import io
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from split_wire import Ask, Told, packed, unpacked

WORKER = Path(__file__).with_name("split_worker.py")
QUESTION = "What is the total?"
PLAIN = "Name the capital of France in one word."
ITEMS = ("Coffee", "Bread", "Apples", "Paper", "Lamp", "Soap", "Cable", "Tea", "Rice", "Milk")
LONGEST = 120.0  # seconds after which an answer counts as failed


@dataclass
class Result:
    """One request: when it was due, and what came of it."""

    due: float
    told: Told
    picture: bool = True

    @property
    def failed(self) -> bool:
        return bool(self.told.error)

    @property
    def wait(self) -> float:
        """Seconds from when it was due to the first token."""
        return self.told.first - self.due


def receipts(seed: int) -> Iterator[tuple[bytes, str]]:
    """Pictures of receipts, no two alike, and the total that stands in each."""
    from PIL import Image, ImageDraw, ImageFont

    chance = random.Random(seed)
    font = ImageFont.load_default(26)
    for number in itertools.count(1):
        prices = [chance.randrange(100, 9900) for _ in range(4)]
        lines = [f"Receipt {seed}-{number}"]
        lines += [
            f"{item}  {price / 100:.2f}"
            for item, price in zip(chance.sample(ITEMS, 4), prices, strict=True)
        ]
        total = f"{sum(prices) / 100:.2f}"
        picture = Image.new("RGB", (480, 320), "white")
        draw = ImageDraw.Draw(picture)
        for row, line in enumerate([*lines, f"Total  {total}"]):
            draw.text((30, 20 + 46 * row), line, "black", font)
        file = io.BytesIO()
        picture.save(file, "PNG")
        yield file.getvalue(), total


@dataclass
class Process:
    """One worker, started again whenever it is found dead."""

    socket: Path
    command: list[str]
    popen: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        self.starts += 1
        self.popen = subprocess.Popen(
            [sys.executable, str(WORKER), *self.command],
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        assert self.popen
        self.popen.kill()
        self.popen.wait()

    def crash(self) -> None:
        """Kill the process in which perception runs: a child of this one, or this one."""
        assert self.popen
        apart = psutil.Process(self.popen.pid).children()
        os.kill(apart[0].pid if apart else self.popen.pid, signal.SIGKILL)

    async def watch(self) -> None:
        """Start it again when it dies, for ever."""
        while True:
            if self.popen and self.popen.poll() is not None:
                self.start()
            await asyncio.sleep(0.02)


@dataclass
class Door:
    """The connection to one process that answers; `open` while there is one."""

    process: Process
    waiting: dict[int, asyncio.Future[Told]] = field(default_factory=dict)
    writer: asyncio.StreamWriter | None = None
    crossed: int = 0

    async def stay(self) -> None:
        while True:
            with suppress(OSError, EOFError):
                path = str(self.process.socket)
                reader, self.writer = await asyncio.open_unix_connection(path, limit=2**26)
                while True:
                    told = await unpacked(reader, Told)
                    self.crossed = told.crossed
                    future = self.waiting.pop(told.id, None)
                    if future and not future.done():
                        future.set_result(told)
            self.writer = None
            for number, future in self.waiting.items():
                if not future.done():
                    future.set_result(Told(number, error="the process died"))
            self.waiting.clear()
            await asyncio.sleep(0.02)


class Variant:
    """A way to lay perception and reasoning over processes and cores."""

    def __init__(self, name: str, processes: list[Process]) -> None:
        self.name = name
        self.processes = processes
        self.doors = [Door(process) for process in processes]
        self._numbers = itertools.count(1)
        self.pictures = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        for process in self.processes:
            process.start()
        self._tasks = [asyncio.create_task(door.stay()) for door in self.doors]
        async with asyncio.timeout(LONGEST):
            await self._up(all)
        self._tasks += [asyncio.create_task(process.watch()) for process in self.processes]

    async def _up(self, enough: Callable[[Iterable[object]], bool] = any) -> None:
        """Wait until a process listens, or all of them do."""
        while not enough(door.writer for door in self.doors):  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for process in self.processes:
            process.stop()

    def processor(self) -> float:
        """Seconds of processor time that its processes have used."""
        tops = [psutil.Process(process.popen.pid) for process in self.processes if process.popen]
        times = [one.cpu_times() for top in tops for one in (top, *top.children())]
        return sum(time.user + time.system for time in times)

    @property
    def crossed(self) -> int:
        return sum(door.crossed for door in self.doors)

    async def ask(self, question: str, picture: bytes | None, due: float | None = None) -> Result:
        """Ask the process that has least to do; while all are down, wait."""
        due = time.monotonic() if due is None else due
        number = next(self._numbers)
        self.pictures += picture is not None
        await self._up()
        door = min((door for door in self.doors if door.writer), key=lambda door: len(door.waiting))
        future: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        door.waiting[number] = future
        assert door.writer
        door.writer.write(packed(Ask(number, question, picture)))
        try:
            told = await asyncio.wait_for(future, LONGEST)
        except TimeoutError:
            told = Told(number, error=f"no answer within {LONGEST:.0f} s")
        return Result(due, told, picture is not None)


# --- loads -------------------------------------------------------------------------------------


async def closed(variant: Variant, clients: int, seconds: float, seed: int) -> list[Result]:
    """So many clients, each asking again as soon as it has its answer."""
    pictures, results = receipts(seed), []
    end = time.monotonic() + seconds

    async def client() -> None:
        while time.monotonic() < end:
            picture, total = next(pictures)
            results.append(await variant.ask(QUESTION, picture))
            _judge(results[-1], total)

    await asyncio.gather(*(client() for _ in range(clients)))
    return results


async def opened(variant: Variant, rate: float, seconds: float, seed: int) -> list[Result]:
    """Arrivals by a Poisson process, the same for every variant of a seed, answered or not."""
    chance, pictures = random.Random(seed), receipts(seed)
    began, at, tasks = time.monotonic(), 0.0, []

    async def one(due: float) -> Result:
        picture, total = next(pictures)
        await asyncio.sleep(due - time.monotonic())
        result = await variant.ask(QUESTION, picture, due)
        _judge(result, total)
        return result

    while (at := at + chance.expovariate(rate)) < seconds:
        tasks.append(asyncio.create_task(one(began + at)))
    return list(await asyncio.gather(*tasks))


async def alone(variant: Variant, times: int, seed: int) -> tuple[float, float, float]:
    """Seconds of perception only, of reasoning only after it, of both; one request at a time."""
    pictures, looks, wholes = receipts(seed), [], []
    for _ in range(times):
        picture, _ = next(pictures)
        seen = await variant.ask("", picture)
        looks.append(seen.told.done - seen.due)
        picture, _ = next(pictures)
        whole = await variant.ask(QUESTION, picture)
        if seen.failed or whole.failed:
            raise RuntimeError(f"{variant.name}: {seen.told.error or whole.told.error}")
        wholes.append(whole.told.done - whole.due)
    look, both = sorted(looks)[times // 2], sorted(wholes)[times // 2]
    return look, both - look, both


async def crash(variant: Variant, seconds: float, seed: int) -> list[Result]:
    """Three clients with pictures and one without; perception is killed after a third of it."""
    end = time.monotonic() + seconds
    results: list[Result] = []

    async def plain() -> None:
        while time.monotonic() < end:
            results.append(await variant.ask(PLAIN, None))

    async def killer() -> None:
        await asyncio.sleep(seconds / 3)
        variant.processes[0].crash()

    pictured, *_ = await asyncio.gather(closed(variant, 3, seconds, seed), plain(), killer())
    return results + pictured


def rate(results: list[Result]) -> float:
    """Answers a second of a closed loop, up to the last question: so long every client was busy."""
    began, end = min(r.due for r in results), max(r.due for r in results)
    return sum(not r.failed and r.told.done <= end for r in results) / (end - began)


def _judge(result: Result, total: str) -> None:
    """Keep of the text only whether the total stands in it."""
    result.told.text = "right" if total in result.told.text else "wrong"
