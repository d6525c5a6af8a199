"""`bicameral watch`: look at a source, wake a model where it pays, and tell what it says."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import ExitStack, aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from msgspec.structs import replace

from bicameral import terminal
from bicameral.account import plain
from bicameral.brain import Brain, load_config
from bicameral.config import nearest
from bicameral.errors import RequestError
from bicameral.model import Fold
from bicameral.right.stream import notices, question
from bicameral.right.stream.asker import Ask, Wish
from bicameral.right.stream.clock import Wall
from bicameral.right.stream.gates import GATES, open_gate
from bicameral.right.stream.notices import Notice
from bicameral.right.stream.settings import WatchSettings, options
from bicameral.right.stream.sources import open_source
from bicameral.right.stream.suppressed import SuppressedLog
from bicameral.right.stream.watch import Watch
from bicameral.types import Answer, Reach, Request


def watch(
    source: Annotated[
        str,
        typer.Argument(
            help="A video, a sound file, a folder of pictures, recorded events (.npz, .csv), an "
            "rtsp:// or http:// stream, mic, or a name from [watch] sources."
        ),
    ],
    ask: Annotated[str, typer.Option("--ask", help="What to look out for, as a statement.")],
    mind: Annotated[str | None, typer.Option("--mind", "-m", help="The mind to ask.")] = None,
    gate: Annotated[
        str | None, typer.Option(help="none, difference, motion, small, spiking, voice.")
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="The score that wakes.")] = None,
    wakes: Annotated[float | None, typer.Option(help="Questions a minute at most.")] = None,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Play a recording at its own pace, as if live.")
    ] = False,
    evidence: Annotated[
        Path | None, typer.Option(help="A folder for a clip of every alarm.")
    ] = None,
    log: Annotated[
        Path | None, typer.Option(help="A file for every frame that woke nobody, and why.")
    ] = None,
    reach: Annotated[
        str | None, typer.Option(help="How far pictures may travel: device, site, private, public.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One line of JSON a notice.")] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", help="The config file; else $BICAMERAL_CONFIG, ./bicameral.toml."
        ),
    ] = None,
) -> None:
    """Watch a source: tell when something is true of it. Ctrl-C ends it with an account."""
    loaded = load_config(config)
    known = options(loaded)
    given = {"gate": gate, "threshold": threshold, "wakes": wakes}
    settings = changed(known, {k: v for k, v in given.items() if v is not None})
    wish = Wish(ask=asked(ask), folder=evidence)
    with ExitStack() as stack:
        observe = stack.enter_context(SuppressedLog(log)) if log else None
        clock = Wall()
        watched = open_source(known.sources.get(source, source), clock)
        reached = _reach(reach)

        async def run() -> None:
            async with Brain.open(loaded) as brain:
                brain.model(mind)
                watch = Watch(
                    watched, open_gate(settings.gate), wish, asking(brain, mind, reach=reached),
                    settings, realtime=realtime, clock=clock, observe=observe,
                )  # fmt: skip
                async with _stoppable(watch), aclosing(watch.run()) as told:
                    await (_lines(told) if json else _show(told))

        asyncio.run(run())
        if observe is not None and observe.fault:
            terminal.err.print(f"{log}: written in part only: {observe.fault}", style="yellow")


def asked(ask: str) -> str:
    """The wish, checked; RequestError with `param` ask."""
    if not ask.strip():
        raise RequestError("ask: is empty; say what to look out for", param="ask")
    if len(ask) > question.LONGEST:
        raise RequestError(f"ask: is longer than {question.LONGEST} characters", param="ask")
    return ask.strip()


def changed(settings: WatchSettings, given: dict[str, Any]) -> WatchSettings:
    """The settings with `given` ones in place; RequestError names one that is wrong."""
    gate = given.get("gate")
    if gate is not None and gate not in GATES:
        raise RequestError(f"gate: there is no '{gate}'; {nearest(gate, GATES)}", param="gate")
    tree = {k: getattr(settings, k) for k in WatchSettings.__struct_fields__} | given
    try:
        return msgspec.convert(tree, WatchSettings)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$.")
        param = path.rstrip("`")
        raise RequestError(f"{param}: {reason}", param=param) from error


def asking(brain: Brain, mind: str | None, *, reach: Reach, caller: str = "") -> Ask:
    """How a watch asks `mind`: each question on its own, no further than `reach`."""

    async def ask(request: Request) -> Answer:
        fold = Fold(mind or brain.default)
        run = brain.run(replace(request, reach=reach), mind, caller=caller)
        async with aclosing(run) as events:
            async for event in events:
                fold.add(event)
        return fold.answer()

    return ask


def _reach(name: str | None) -> Reach:
    if name is None:
        return Reach.PUBLIC
    if name.upper() not in Reach.__members__:
        raise RequestError(f"--reach {name}: write device, site, private or public")
    return Reach[name.upper()]


@asynccontextmanager
async def _stoppable(watch: Watch) -> AsyncIterator[None]:
    """The first Ctrl-C ends the watch well, the second at once."""
    loop = asyncio.get_running_loop()
    stopping: list[asyncio.Task[None]] = []

    def stop() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        stopping.append(loop.create_task(watch.stop()))

    with suppress(NotImplementedError):  # no signals for loops on Windows: Ctrl-C just ends
        loop.add_signal_handler(signal.SIGINT, stop)
    try:
        yield
    finally:
        with suppress(NotImplementedError):
            loop.remove_signal_handler(signal.SIGINT)
        await asyncio.gather(*stopping)


async def _lines(told: AsyncGenerator[Notice]) -> None:
    async for notice in told:
        sys.stdout.write(msgspec.json.encode(notice).decode() + "\n")
        sys.stdout.flush()


async def _show(told: AsyncGenerator[Notice]) -> None:
    spinner = terminal.err.status("watching…") if terminal.err.is_terminal else ExitStack()
    with spinner:
        async for notice in told:
            for line, style in _said(notice):
                terminal.out.print(line, style=style, markup=False)


def _said(notice: Notice) -> list[tuple[str, str]]:
    """Lines and their styles; what stays quiet has none."""
    if isinstance(notice, notices.Stats):
        return [(line, "dim") for line in _account(notice)]
    say, style = _SAYING.get(type(notice), (None, ""))
    return [(say(notice), style)] if say else []


def _opened(notice: notices.Opened) -> str:
    live = "live" if notice.live else "recorded"
    return f"{plain(notice.source)}: {notice.kind}, {live}, gate {notice.gate}"


def _alarm(notice: notices.Alarm) -> str:
    late = ", late" if notice.late else ""
    where = f"  {notice.clip or notice.why}".rstrip()
    told = f"yes, known after {notice.delay:.2f} s{late}{where}"
    return _line(notice.at, "ALARM", notice.id, told)


def _described(notice: notices.Described) -> str:
    text = notice.text or f"(not described: {notice.why})"
    return f"{'':>27}{' '.join(plain(part) for part in text.split())}"


def _dismissed(notice: notices.Dismissed) -> str:
    told = f"{notice.answer}, known after {notice.delay:.2f} s"
    return _line(notice.at, "no alarm", notice.id, told)


def _down(notice: notices.Down) -> str:
    told = "the model answers again" if notice.up else f"no answer: {plain(notice.why)}"
    return f"{'':>9}  {told}; {notice.waiting} events wait"


_SAYING: dict[type, tuple[Callable[[Any], str], str]] = {
    notices.Opened: (_opened, "dim"),
    notices.Woke: (lambda n: _line(n.at, "wake", n.id, f"score {n.score:.2f}"), "dim"),
    notices.Alarm: (_alarm, "bold red"),
    notices.Described: (_described, ""),
    notices.Dismissed: (_dismissed, ""),
    notices.Undescribed: (lambda n: _line(n.at, "UNASKED", n.id, plain(n.why)), "yellow"),
    notices.Ended: (lambda n: _line(n.end, "over", n.id, f"lasted {n.end - n.start:.1f} s"), "dim"),
    notices.Digest: (
        lambda n: _line(n.end, "storm", "", f"{n.events} events since {_clock(n.start)}"),
        "yellow",
    ),
    notices.Gap: (lambda n: _line(n.start, "gap", "", _gap(n)), "yellow"),
    notices.Down: (_down, "yellow"),
}


def _gap(gap: notices.Gap) -> str:
    until = " and goes on" if gap.end is None else f" until {_clock(gap.end)}"
    times = f", {gap.count} times" if gap.count > 1 else ""
    detail = f": {plain(gap.detail)}" if gap.detail else ""
    return f"{gap.trouble}{until}{times}{detail}"


def _account(stats: notices.Stats) -> list[str]:
    quiet = ", ".join(f"{n} {reason}" for reason, n in stats.suppressed.items() if n)
    dropped = ", ".join(f"{n} {reason}" for reason, n in stats.dropped.items() if n)
    return [
        f"{stats.frames} frames: {stats.woken} woke, {sum(stats.suppressed.values())} suppressed"
        f" ({quiet or 'none'}), {sum(stats.dropped.values())} dropped ({dropped or 'none'})",
        f"{stats.calls} calls: {stats.yes} yes, {stats.no} no, {stats.unclear} unclear, "
        f"{stats.undescribed} not asked about, {stats.late} late; {stats.seconds:.1f} s",
    ]


def _line(at: float, what: str, who: str, told: str) -> str:
    return f"{_clock(at):>9}  {what:9} {who:4} {told}"


def _clock(at: float) -> str:
    minutes, seconds = divmod(max(0.0, at), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{seconds:04.1f}" if hours else f"{minutes:02}:{seconds:04.1f}"
