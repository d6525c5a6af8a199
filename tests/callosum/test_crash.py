"""Either process may die at any moment, or stop: real children, killed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from bicameral.callosum.channel import Local
from bicameral.callosum.edge import Edge
from bicameral.callosum.link import Link
from bicameral.callosum.packets import LinkError
from bicameral.callosum.pool import Pool
from tests.callosum.ends import MB, Child, descriptors, resident, taken, until


@pytest.fixture
def pool():
    pool = Pool(4 * MB)
    yield pool
    pool.close()


HOLDS_ONE = """
link = Link(takes=["frames"])
link.attach(channel)
message = link.take(30)
view = message.array()
say("reading", int(view.flat[0]), message.seq, message.again)
time.sleep(60)
"""
READS_ALL = """
link = Link(takes=["frames"], beat=None)
link.attach(channel)
while True:
    message = link.take(60)
    view = message.array()
    first = view.flat[0]
    say(message.seq, int(first), bool((view == first).all()), message.again)
    message.release()
"""


def sender(child: Child, pool: Pool, **keys: object) -> Link:
    link = Link(sends=[Edge(kind="frames", **keys)], pool=pool, beat=None)
    link.attach(Local(child.sock))
    return link


def test_another_process_reads_the_same_memory(pool: Pool) -> None:
    with Child(READS_ALL) as child, sender(child, pool) as link:
        for n in range(5):
            with pool.loan((1000, 1000), "uint8", timeout=30) as loan:
                loan.array[:] = n
                link.send("frames", tensors=[loan.seal()], timeout=30)
        until(lambda: (link.pump(), link.stats()["out frames"].in_flight)[1])
        assert [child.says() for _ in range(5)] == [f"{n + 1} {n} True False" for n in range(5)]
        until(lambda: (link.pump(), pool.stats().leases == 0)[1])
        assert pool.stats().copies == 0


def test_a_reader_killed_as_it_reads_frees_its_leases(pool: Pool) -> None:
    before = descriptors()
    with Child(HOLDS_ONE) as child, sender(child, pool, policy="latest") as link:
        until(lambda: (link.pump(), link.greeted)[1])
        for n in range(3):
            link.send("frames", tensors=[pool.put(np.full(1000, n))])
        assert child.says() == "reading 0 1 False"
        link.pump()
        assert pool.stats().leases >= 1
        child.kill()
        until(lambda: (link.pump(), link.lost)[1])
        assert pool.stats().leases == 1  # the latest waits for the next reader
        link.forget()
        assert pool.stats().used == 0
    assert descriptors() == before


def test_what_a_killed_reader_did_not_acknowledge_goes_to_the_next(pool: Pool) -> None:
    link = Link(sends=[Edge(kind="frames", in_flight=2)], pool=pool, beat=None)
    for n in range(4):
        link.send("frames", tensors=[pool.put(np.full(1000, n))])
    with Child(HOLDS_ONE) as child:
        link.attach(Local(child.sock))
        until(lambda: (link.pump(), link.greeted)[1])
        assert child.says() == "reading 0 1 False"
        child.kill()
        until(lambda: (link.pump(), link.lost)[1])
    with Child(READS_ALL) as child:
        link.attach(Local(child.sock))
        until(lambda: (link.pump(), pool.stats().leases == 0)[1])
        assert [child.says() for _ in range(4)] == [
            "1 0 True True",
            "2 1 True True",
            "3 2 True False",
            "4 3 True False",
        ]
    assert link.stats()["out frames"].resent == 2
    link.close()


WRITES = """
pool = Pool(4 * 2**20)
link = Link(sends=[Edge(kind="frames", in_flight=64)], pool=pool)
link.attach(channel)
while not link.greeted:
    link.pump()
n = 0
while True:
    with pool.loan((20_000,), "uint8", timeout=30) as loan:
        loan.array[:10_000] = n % 256
        if n == 8:
            say("half")
            time.sleep(60)
        loan.array[10_000:] = n % 256
        link.send("frames", tensors=[loan.seal()], timeout=30)
    n += 1
"""


def test_a_killed_writer_leaves_no_half_message_and_what_it_sent_can_be_read() -> None:
    before = descriptors()
    with Child(WRITES) as child, Link(takes=["frames"], beat=None) as link:
        link.attach(Local(child.sock))
        link.pump()
        first = taken(link, "frames")
        assert child.says() == "half"
        first.release()  # its acknowledgement is never read, which resets the connection
        child.kill()
        got = [first.seq]
        view = first.array()
        while not link.lost:
            link.pump()
        while message := link.receive():
            view = message.array()
            assert (view == message.seq - 1).all()
            got.append(message.seq)
            message.release()
        assert got == list(range(1, 9))
        assert (view == 7).all()  # the segment lives as long as somebody looks at it
    del view, message, first
    assert descriptors() <= before + 1


def test_a_new_writer_starts_anew_for_the_same_reader() -> None:
    link = Link(takes=["frames"], beat=None)
    for _ in range(2):
        with Child(WRITES) as child:
            link.attach(Local(child.sock))
            for seq in range(1, 4):
                with taken(link, "frames") as message:
                    assert message.seq == seq
            child.kill()
            while not link.lost:
                link.pump()
            while message := link.receive():
                message.release()
    assert link.stats()["in frames"].duplicates == 0
    link.close()


def test_a_stopped_peer_is_lost_by_its_silence(pool: Pool) -> None:
    with Child(READS_ALL.replace("beat=None", "beat=0.05")) as child:
        link = Link(sends=[Edge(kind="frames")], pool=pool, beat=0.05, misses=40)
        link.attach(Local(child.sock))
        until(lambda: (link.pump(), link.greeted)[1])
        for _ in range(30):
            time.sleep(0.02)
            link.pump()
        assert not link.lost
        link.send("frames", tensors=[pool.put(np.zeros(100))])
        assert child.says()
        child.process.send_signal(signal.SIGSTOP)
        until(lambda: (link.pump(), link.lost)[1])
        assert "said nothing" in link.lost
        link.close()


@pytest.mark.parametrize("policy", ["latest", "drop_oldest", "block"])
def test_ten_times_too_much_keeps_memory_flat(pool: Pool, policy: str) -> None:
    """The reader takes one in ten; what is dropped is counted, and a block is refused."""
    with (
        Child(READS_ALL.replace("say(", "time.sleep(0.002), (")) as child,
        sender(child, pool, policy=policy, queue=8, in_flight=2) as link,
    ):
        until(lambda: (link.pump(), link.greeted)[1])
        grown, refused = [], 0
        for n in range(2000):
            tensor = pool.put(np.full(100_000, n % 256, "uint8"))
            try:
                link.send("frames", tensors=[tensor])
            except LinkError:
                pool.release(tensor)
                refused += 1
            if n in (200, 1999):
                grown.append(resident())
        assert pool.stats().peak <= 12 * 100_096
        assert grown[1] - grown[0] < 8 * MB
        until(lambda: (link.pump(), pool.stats().leases == 0)[1])
        counts = link.stats()["out frames"]
        assert counts.entered + refused == 2000
        assert counts.entered == counts.left + counts.dropped
        assert counts.dropped + refused > 500
        assert (refused > 0) == (policy == "block")


def test_nothing_is_left_behind_after_kill_9() -> None:
    shm = Path("/dev/shm")
    before = {path for path in shm.iterdir() if "bicameral" in path.name}
    with Child(WRITES) as child:
        pid = child.process.pid
        assert child.process.poll() is None
        until(lambda: any("bicameral" in name for name in maps(pid)))
        child.kill()
    assert {path for path in shm.iterdir() if "bicameral" in path.name} == before
    assert not Path(f"/proc/{pid}/fd").exists()


def maps(pid: int) -> list[str]:
    folder = f"/proc/{pid}/fd"
    found = []
    for name in os.listdir(folder):
        try:
            found.append(os.readlink(f"{folder}/{name}"))
        except OSError:
            continue
    return found
