"""Two ends of a link: in this process, or the other one in a child that can be killed."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator

from bicameral.callosum.channel import Local, pair
from bicameral.callosum.edge import Edge
from bicameral.callosum.link import Link
from bicameral.callosum.packets import Kind
from bicameral.callosum.pool import Pool
from bicameral.callosum.received import Received

MB = 2**20
PRELUDE = """
import sys, time, socket, os, signal
import numpy as np
from bicameral.callosum.channel import Local
from bicameral.callosum.edge import Edge
from bicameral.callosum.link import Link
from bicameral.callosum.pool import Pool
channel = Local(socket.socket(fileno=int(sys.argv[1])))
say = lambda *words: print(*words, flush=True)
"""


@contextlib.contextmanager
def ends(*edges: Edge, pool: Pool | None = None, beat: float | None = None) -> Iterator[tuple]:
    """A sender of `edges` and a reader of their kinds that have greeted each other."""
    one, two = pair()
    sender = Link(sends=edges, pool=pool, beat=beat)
    reader = Link(takes=[edge.kind for edge in edges], beat=beat)
    join(sender, reader, Local(one), Local(two))
    yield sender, reader
    sender.close()
    reader.close()


def join(first: Link, second: Link, one: object, two: object) -> None:
    """Attach both ends and let them greet."""
    first.attach(one)
    second.attach(two)
    until(lambda: (first.pump(), second.pump()) and first.greeted and second.greeted)


def until(true: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.001)


def taken(link: Link, kind: Kind = "text") -> Received:
    message = link.take(30)
    assert message is not None
    assert message.kind == kind
    return message


def everything(link: Link) -> list[bytes]:
    """The bodies of all that can be read now, released."""
    bodies = []
    while message := link.receive():
        bodies.append(bytes(message.body))
        message.release()
    return bodies


class Child:
    """Another process at the other end of a link; `code` finds the channel in `channel`."""

    def __init__(self, code: str) -> None:
        self.sock, other = pair()
        fd = other.fileno()
        program = PRELUDE + textwrap.dedent(code)
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, str(fd)], pass_fds=[fd], stdout=subprocess.PIPE
        )
        other.close()

    def says(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().decode().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        assert self.process.stdout
        self.process.stdout.close()
        with contextlib.suppress(OSError):
            self.sock.close()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def resident() -> int:
    """Bytes of memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def tcp() -> tuple[socket.socket, socket.socket]:
    """Two connected TCP sockets on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        caller = socket.create_connection(server.getsockname())
        return caller, server.accept()[0]
