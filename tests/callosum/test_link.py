from __future__ import annotations

import threading
import time

import msgspec
import numpy as np
import pytest

from bicameral.callosum.channel import Local, pair
from bicameral.callosum.edge import Edge
from bicameral.callosum.link import Link
from bicameral.callosum.packets import KINDS, Ack, Bye, Hello, Item, LinkError, Mine, encode
from bicameral.callosum.pool import Pool, PoolFull
from bicameral.callosum.tensor import Tensor
from tests.callosum.ends import MB, descriptors, ends, everything, join, taken, until

TEXT = Edge(kind="text")


@pytest.fixture
def pool():
    pool = Pool(MB)
    yield pool
    pool.close()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_edge_carries_a_body_and_arrays(pool: Pool, kind) -> None:
    arrays = [np.arange(6.0).reshape(2, 3), np.zeros((0, 2), "int8"), np.bool_(True)]
    with ends(Edge(kind=kind), pool=pool) as (sender, reader):
        sender.send(kind, b"hello", [pool.put(a) for a in arrays])
        with taken(reader, kind) as message:
            assert bytes(message.body) == b"hello"
            for index, array in enumerate(arrays):
                np.testing.assert_array_equal(message.array(index), array)
                assert message.array(index).dtype == array.dtype


def test_the_reader_gets_the_memory_itself_and_cannot_write_to_it(pool: Pool) -> None:
    with ends(Edge(kind="frames"), pool=pool) as (sender, reader):
        with pool.loan((1000,), "uint8") as loan:
            loan.array[:] = 1
            held = loan.array
            sender.send("frames", tensors=[loan.seal()])
        message = taken(reader, "frames")
        view = message.array()
        held.flags.writeable = True
        held[500] = 9
        assert view[500] == 9
        assert not view.flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE"):
            view.flags.writeable = True
        assert np.shares_memory(np.from_dlpack(view), view)
        message.release()
        assert pool.stats().copies == 0
        assert sender.stats()["out frames"].copies == 0
        assert reader.stats()["in frames"].copies == 0


def test_released_messages_free_their_memory(pool: Pool) -> None:
    with ends(Edge(kind="frames"), pool=pool) as (sender, reader):
        sender.send("frames", tensors=[pool.put(np.zeros(1000))])
        message = taken(reader, "frames")
        sender.pump()
        assert pool.stats().leases == 1
        message.release()
        message.release()
        until(lambda: (sender.pump(), pool.stats().leases == 0)[1])
        assert sender.stats()["out frames"].left == 1


def test_a_sender_keeps_what_it_holds_besides(pool: Pool) -> None:
    with ends(Edge(kind="frames"), pool=pool) as (sender, reader):
        tensor = pool.hold(pool.put(np.arange(5)))
        sender.send("frames", tensors=[tensor])
        taken(reader, "frames").release()
        until(lambda: (sender.pump(), sender.stats()["out frames"].left)[1])
        np.testing.assert_array_equal(pool.view(tensor), np.arange(5))


def test_a_long_body_goes_through_the_pool_and_is_counted(pool: Pool) -> None:
    with ends(TEXT, pool=pool) as (sender, reader):
        sender.send("text", b"x" * 100_000)
        message = taken(reader)
        assert bytes(message.body) == b"x" * 100_000
        assert message.tensors == ()
        message.release()
        counts = sender.stats()["out text"]
        assert (counts.copies, counts.bytes_copied) == (1, 100_000)
        until(lambda: (sender.pump(), pool.stats().used == 0)[1])


def test_a_link_without_a_pool_says_that_it_needs_one() -> None:
    with ends(TEXT) as (sender, _), pytest.raises(LinkError, match="need a pool"):
        sender.send("text", b"x" * 100_000)


def test_tensors_of_another_pool_are_refused(pool: Pool) -> None:
    other = Pool(MB)
    with ends(TEXT, pool=pool) as (sender, _), pytest.raises(LinkError, match="own pool"):
        sender.send("text", tensors=[other.put(np.zeros(3))])
    other.close()


def test_order_is_kept_and_numbers_have_no_gap() -> None:
    with ends(Edge(kind="text", queue=1000, in_flight=3)) as (sender, reader):
        sent = [sender.send("text", b"%d" % n) for n in range(500)]
        got = []
        while len(got) < 500:
            sender.pump()
            while message := reader.receive():
                got.append((message.seq, message.body))
                message.release()
        assert got == [(seq, b"%d" % n) for n, seq in enumerate(sent)]
        assert reader.stats()["in text"].missed == 0


def test_a_kind_without_an_edge_is_refused() -> None:
    with ends(TEXT) as (sender, _), pytest.raises(LinkError, match="no edge for frames"):
        sender.send("frames")


def test_a_kind_the_reader_does_not_take_ends_the_greeting() -> None:
    one, two = pair()
    sender, reader = Link(sends=[TEXT]), Link(takes=["frames"])
    sender.attach(Local(one))
    reader.attach(Local(two))
    until(lambda: (sender.pump(), reader.pump()) and sender.lost and reader.lost)
    assert "text" in sender.lost + reader.lost
    with pytest.raises(LinkError):
        reader.take(1)
    sender.close()
    reader.close()


def test_block_refuses_with_what_to_do_when_its_queue_is_full() -> None:
    with ends(Edge(kind="text", queue=2, in_flight=1)) as (sender, reader):
        for n in range(3):
            sender.send("text", b"%d" % n)
        with pytest.raises(LinkError, match="reader is too slow"):
            sender.send("text", b"3", timeout=0.02)
        message = reader.receive()
        message.release()
        sender.send("text", b"4")
        got = [bytes(message.body)]
        while len(got) < 4:
            sender.pump()
            got += everything(reader)
        assert got == [b"0", b"1", b"2", b"4"]


def test_block_waits_for_a_slow_reader() -> None:
    with ends(Edge(kind="text", queue=1, in_flight=1)) as (sender, reader):
        got: list[bytes] = []

        def read() -> None:
            while len(got) < 50:
                with taken(reader) as message:
                    got.append(bytes(message.body))

        thread = threading.Thread(target=read)
        thread.start()
        for n in range(50):
            sender.send("text", b"%d" % n, timeout=30)
        until(lambda: (sender.pump(), not thread.is_alive())[1])
        thread.join()
        assert got == [b"%d" % n for n in range(50)]


@pytest.mark.parametrize(("policy", "kept"), [("latest", 1), ("drop_oldest", 4)])
def test_overload_keeps_the_newest_and_counts_the_rest(pool: Pool, policy, kept: int) -> None:
    edge = Edge(kind="frames", policy=policy, queue=4, in_flight=2)
    with ends(edge, pool=pool) as (sender, reader):
        for n in range(100):
            sender.send("frames", tensors=[pool.put(np.full(1000, n))])
        assert pool.stats().leases == kept + 2
        got = []
        while len(got) < kept + 2:
            sender.pump()
            while message := reader.receive():
                got.append(int(message.array()[0]))
                message.release()
        assert got == [0, 1, *range(100 - kept, 100)]
        until(lambda: (sender.pump(), pool.stats().used == 0)[1])
        counts = sender.stats()["out frames"]
        assert counts.dropped == 100 - kept - 2
        assert counts.entered == counts.left + counts.dropped
        assert reader.stats()["in frames"].missed == counts.dropped


def test_what_expired_in_the_queue_is_never_sent(pool: Pool) -> None:
    with ends(Edge(kind="text", in_flight=1), pool=pool) as (sender, reader):
        sender.send("text", b"first")
        sender.send("text", b"late", [pool.put(np.zeros(9))], deadline=time.monotonic() + 0.01)
        sender.send("text", b"last", deadline=time.monotonic() + 1000)
        time.sleep(0.02)
        assert everything(reader) == [b"first"]
        sender.pump()
        assert everything(reader) == [b"last"]
        assert sender.stats()["out text"].expired == 1
        assert pool.stats().leases == 0


def test_what_expired_on_its_way_is_dropped_before_the_reader_sees_it(pool: Pool) -> None:
    with ends(TEXT, pool=pool) as (sender, reader):
        sender.send("text", b"late", [pool.put(np.zeros(9))], deadline=time.monotonic() + 0.01)
        time.sleep(0.02)
        assert reader.receive() is None
        assert reader.stats()["in text"].expired == 1
        sender.pump()
        assert pool.stats().leases == 0


def test_ages_are_told() -> None:
    with ends(TEXT) as (sender, reader):
        sender.send("text", b"old")
        time.sleep(0.02)
        message = taken(reader)
        assert message.age >= 0.02
        assert reader.stats()["in text"].age_p50 >= 0.02
        message.release()


def test_a_full_pool_is_emptied_by_the_reader_while_the_writer_waits(pool: Pool) -> None:
    with ends(Edge(kind="frames"), pool=pool) as (sender, reader):
        sender.send("frames", tensors=[pool.put(np.zeros(MB, "uint8"))])
        message = taken(reader, "frames")
        with pytest.raises(PoolFull):
            pool.loan((MB,), "uint8", timeout=0.02)
        timer = threading.Timer(0.05, message.release)
        timer.start()
        pool.loan((MB,), "uint8", timeout=30)
        timer.join()


def test_a_closed_link_tells_its_peer_and_frees_everything(pool: Pool) -> None:
    before = descriptors()
    with ends(TEXT, pool=pool) as (sender, reader):
        sender.send("text", b"hi", [pool.put(np.zeros(9))])
        assert reader.take(5)
        reader.close("enough")
        sender.pump()
        assert sender.lost == "enough"
        assert pool.stats().leases == 1  # it waits for another reader
        sender.close()
        assert pool.stats().leases == 0
        with pytest.raises(LinkError):
            sender.take(1)
    assert descriptors() == before


def test_the_same_peer_come_back_is_sent_only_what_it_has_not(pool: Pool) -> None:
    """The connection broke, both processes live: one released, one is still being read."""
    edge = Edge(kind="text", in_flight=3)
    with ends(edge, pool=pool) as (sender, reader):
        for n in range(5):
            sender.send("text", b"%d" % n, [pool.put(np.full(10, n))])
        first, second = taken(reader), taken(reader)
        one, two = pair()
        sender.attach(Local(one))  # what first.release() says now is lost
        first.release()
        reader.attach(Local(two))
        got = []
        while len(got) < 3:
            sender.pump()
            while message := reader.receive():
                got.append(bytes(message.body))
                message.release()
        assert got == [b"2", b"3", b"4"]
        np.testing.assert_array_equal(second.array(), np.full(10, 1))
        until(lambda: (sender.pump(), pool.stats().leases == 1)[1])
        second.release()
        until(lambda: (sender.pump(), pool.stats().leases == 0)[1])
        assert sender.stats()["out text"].left == 5


# --- a peer that does not keep to the rules ----------------------------------------------------

HELLO = Hello(1, "s", 0.0, 7, 0, None, (Mine("text", 1),), (), "", ())


def item(**fields: object) -> Item:
    return msgspec.structs.replace(Item("text", 1, 0.0, None, False, b"", (), False), **fields)


def reader_of(*packets: object) -> Link:
    """A reader to which a peer said exactly these packets."""
    one, two = pair()
    reader = Link(takes=["text"])
    reader.attach(Local(two))
    for packet in packets:
        one.send(packet if isinstance(packet, bytes) else encode(packet))
    reader.pump()
    one.close()
    return reader


@pytest.mark.parametrize(
    ("packets", "why"),
    [
        ([b"\xc1 garbage"], "no packet"),
        ([b"x" * 60_000], "no packet"),
        ([item()], "did not greet"),
        ([msgspec.structs.replace(HELLO, version=9)], "version 9"),
        ([HELLO, HELLO], "no place"),
        ([HELLO, b"\x93\xa1i\xa5teeth\x01"], "no packet"),
        ([HELLO, item(kind="frames")], "not taken"),
        ([HELLO, item(), item(seq=2)], "more than the 1"),
        ([HELLO, item(tensors=(Tensor("uint8", (4,), 7, 0, 4, 1),))], "out of place"),
        ([HELLO, item(tensors=(Tensor("uint8", (4,), 8, 0, 4, 1),))], "another pool"),
        ([HELLO, item(tensors=(Tensor("object", (4,), 7, 0, 4, 1),))], r"handed over|out of place"),
    ],
)
def test_a_peer_that_breaks_the_rules_is_cut_off(packets: list[object], why: str) -> None:
    with reader_of(*packets) as reader, pytest.raises(LinkError, match=why):
        reader.take(1) and reader.take(1)


def test_acknowledging_what_was_never_sent_does_no_harm(pool: Pool) -> None:
    with ends(TEXT, pool=pool) as (sender, reader):
        reader._post(Ack("text", 99))
        sender.send("text", b"hi", [pool.put(np.zeros(3))])
        assert pool.stats().leases == 1
        taken(reader).release()
        reader._post(Bye("done"))
        until(lambda: (sender.pump(), sender.lost)[1] == "done")
        assert pool.stats().leases == 0


def test_a_silent_peer_is_lost_and_keeps_its_leases_until_it_is_forgotten(pool: Pool) -> None:
    one, two = pair()
    sender = Link(sends=[TEXT], pool=pool, beat=0.02, misses=3)
    reader = Link(takes=["text"], beat=0.02)
    join(sender, reader, Local(one), Local(two))
    sender.send("text", b"hi", [pool.put(np.zeros(3))])
    for _ in range(20):
        time.sleep(0.005)
        sender.pump()
        reader.pump()
    assert not sender.lost
    until(lambda: (sender.pump(), sender.lost)[1])
    assert "said nothing" in sender.lost
    assert pool.stats().leases == 1
    sender.forget()
    assert pool.stats().leases == 0
    assert sender.stats()["out text"].dropped == 1
    sender.close()
    reader.close()
