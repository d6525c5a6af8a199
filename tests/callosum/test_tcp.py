from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from bicameral.callosum.channel import Stream
from bicameral.callosum.edge import Edge
from bicameral.callosum.link import Link
from bicameral.callosum.packets import LinkError
from bicameral.callosum.pool import Pool
from bicameral.callosum.tcp import accept, connect
from bicameral.errors import ConfigError
from tests.callosum.ends import MB, descriptors, join, taken, tcp, until

SECRET = "a secret of many characters"


@pytest.fixture
def pools() -> Iterator[tuple[Pool, Pool]]:
    pools = Pool(4 * MB), Pool(4 * MB)
    yield pools
    for pool in pools:
        pool.close()


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", SECRET)
    monkeypatch.setenv("THEIRS", "another secret of theirs")
    monkeypatch.setenv("SHORT", "abc")


@pytest.fixture
def linked(pools: tuple[Pool, Pool]) -> Iterator[tuple[Link, Link]]:
    one, two = tcp()
    sender = Link(sends=[Edge(kind="frames", in_flight=4)], pool=pools[0])
    reader = Link(takes=["frames"], pool=pools[1])
    join(sender, reader, Stream(one, pools[0]), Stream(two, pools[1]))
    yield sender, reader
    sender.close()
    reader.close()


def test_arrays_arrive_equal_with_one_counted_copy(linked, pools) -> None:
    sender, reader = linked
    arrays = [np.arange(1000.0), np.zeros((0, 2), "int8"), np.ones((3, 5), "uint8"), np.arange(7)]
    sender.send("frames", b"hello", [pools[0].put(a) for a in arrays])
    until(lambda: (sender.pump(), reader.pump(), reader.stats()["in frames"].entered)[2])
    message = taken(reader, "frames")
    assert bytes(message.body) == b"hello"
    for index, array in enumerate(arrays):
        np.testing.assert_array_equal(message.array(index), array)
        assert message.array(index).flags.aligned
        assert not message.array(index).flags.writeable
    counts = reader.stats()["in frames"]
    assert (counts.copies, counts.bytes_copied) == (4, sum(a.nbytes for a in arrays))
    message.release()
    assert pools[1].stats().leases == 0
    until(lambda: (sender.pump(), pools[0].stats().leases == 0)[1])


def test_a_message_larger_than_every_buffer_goes_in_pieces(linked, pools) -> None:
    sender, reader = linked
    with pools[0].loan((3 * MB,), "uint8") as loan:
        loan.array[:] = np.arange(3 * MB) % 251
        sender.send("frames", tensors=[pools[0].hold(loan.seal())])
    until(lambda: (sender.pump(), reader.pump(), reader.stats()["in frames"].entered)[2])
    with taken(reader, "frames") as message:
        np.testing.assert_array_equal(message.array(), pools[0].view(loan.tensor))


def test_a_full_pool_of_the_reader_holds_the_sender_up(linked, pools) -> None:
    sender, reader = linked
    for n in range(4):
        sender.send("frames", tensors=[pools[0].put(np.full(1000, n))])
    for n in range(4, 8):
        with pools[0].loan((MB // 2,), "uint8", timeout=1) as loan:
            loan.array[:] = n
            sender.send("frames", tensors=[loan.seal()])
    blocker = pools[1].put(np.zeros(4 * MB - 9000, "uint8"))
    until(lambda: (sender.pump(), reader.pump(), reader.paused)[2])
    first = taken(reader, "frames")
    assert first.seq == 1
    pools[1].release(blocker)
    first.release()
    seqs = [1]
    while len(seqs) < 8:
        sender.pump()
        if message := reader.receive():
            seqs.append(message.seq)
            message.release()
    assert seqs == list(range(1, 9))


def test_a_broken_connection_loses_nothing_and_repeats_nothing(linked, pools) -> None:
    sender, reader = linked
    for n in range(6):
        sender.send("frames", tensors=[pools[0].put(np.full(1000, n))])
    until(lambda: (sender.pump(), reader.pump(), reader.stats()["in frames"].entered >= 2)[2])
    seen = [int(taken(reader, "frames").array()[0])]
    one, two = tcp()
    join(sender, reader, Stream(one, pools[0]), Stream(two, pools[1]))
    while len(seen) < 6:
        sender.pump()
        if message := reader.receive():
            seen.append(int(message.array()[0]))
            message.release()
    assert seen == list(range(6))


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (struct.pack("!IQ", 2**31, 0), "announced a packet of 2147483648"),
        (struct.pack("!IQ", 0, 0), "announced a packet of 0"),
        (struct.pack("!IQ", 10, 2**60), "raise its limit"),
        (b"GET / HTTP/1.1\r\n\r\n", "announced"),
    ],
)
def test_a_length_that_no_peer_sends_is_refused(pools, head: bytes, why: str) -> None:
    one, two = tcp()
    with one, Link(takes=["frames"], pool=pools[1]) as reader:
        reader.attach(Stream(two, pools[1]))
        one.sendall(head)
        with pytest.raises(LinkError, match=why):
            reader.take(5)
        assert pools[1].stats().peak == 0


def serve(pool: Pool, key_env: str) -> tuple[int, threading.Thread, list[object]]:
    """Accepts one connection in a thread; what came of it is in the list."""
    server = socket.create_server(("127.0.0.1", 0))
    found: list[object] = []

    def work() -> None:
        try:
            with server:
                found.append(accept(server.accept()[0], pool, key_env=key_env, timeout=5))
        except (LinkError, ConfigError) as error:
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return server.getsockname()[1], thread, found


def test_both_ends_prove_the_secret(pools) -> None:
    port, thread, found = serve(pools[0], "OURS")
    channel = connect("127.0.0.1", port, pools[1], key_env="OURS")
    thread.join()
    with Link(sends=[Edge(kind="text")]) as sender, Link(takes=["text"]) as reader:
        join(sender, reader, channel, found[0])
        sender.send("text", b"hello")
        assert bytes(taken(reader).body) == b"hello"


def test_a_wrong_secret_is_refused_by_both(pools) -> None:
    before = descriptors()
    port, thread, found = serve(pools[0], "OURS")
    with pytest.raises(LinkError, match="secret"):
        connect("127.0.0.1", port, pools[1], key_env="THEIRS")
    thread.join()
    assert "does not share our secret" in str(found[0])
    assert SECRET not in str(found[0])
    found.clear()
    assert descriptors() == before


def test_a_listener_without_the_secret_learns_nothing_it_can_use(pools) -> None:
    """It sends the caller's own number back, in the hope of the caller's own proof."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def echo() -> None:
            sock = server.accept()[0]
            with sock:
                sock.sendall(sock.recv(32))
                sock.sendall(sock.recv(32))
                sock.recv(1)

        thread = threading.Thread(target=echo)
        thread.start()
        with pytest.raises(LinkError, match="secret"):
            connect("127.0.0.1", port, pools[0], key_env="OURS")
        thread.join()


@pytest.mark.parametrize("says", [b"", b"x" * 31, b"x" * 64])
def test_a_stranger_is_cut_off_in_time(pools, says: bytes) -> None:
    one, two = tcp()
    with one:
        one.sendall(says)
        with pytest.raises(LinkError):
            accept(two, pools[0], key_env="OURS", timeout=0.1)


def test_a_link_needs_a_secret_that_is_one(pools) -> None:
    with pytest.raises(ConfigError, match="NOWHERE is not set"):
        connect("127.0.0.1", 1, pools[0], key_env="NOWHERE")
    with pytest.raises(LinkError, match="too short"):
        connect("127.0.0.1", 1, pools[0], key_env="SHORT")


def test_nobody_there_is_told(pools) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(LinkError, match="cannot be reached"):
        connect("127.0.0.1", port, pools[0], key_env="OURS")
