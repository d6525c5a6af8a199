"""The ways to hand an array to another process that bench/data_path.py compares.

A way has a `Sender`, whose `prepare` runs before the clock and whose `send` runs on it, and
`reads`, which in the other process yields each array once it can be read. What a way needs in both
processes is made by `ends` before they part.
"""

from __future__ import annotations

import base64
import ctypes
import http.client
import http.server
import json
import multiprocessing
import os
import queue
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from bicameral.callosum.channel import Local, pair
from bicameral.callosum.edge import Edge
from bicameral.callosum.link import Link
from bicameral.callosum.pool import Pool


class OneCopy:
    """The array is made in private memory and copied into the pool; the copy is on the clock."""

    name = "callosum, one copy"
    needs = None
    share = 1.0  # of the usual number of messages

    @staticmethod
    def ends(size: int) -> Any:
        return pair()

    def __init__(self, size: int, ends: Any) -> None:
        ends[1].close()
        self.pool = Pool(3 * size + 2**20)
        self.link = Link(sends=[Edge(kind="frames")], pool=self.pool, beat=None)
        self.link.attach(Local(ends[0]))
        while not self.link.greeted:
            self.link.pump()
        self.source = np.zeros(size, "uint8")

    def prepare(self, value: int) -> None:
        self.link.pump()
        self.source[:] = value

    def send(self) -> None:
        self.link.send("frames", tensors=(self.pool.put(self.source),))

    @staticmethod
    def reads(size: int, ends: Any) -> Iterator[np.ndarray]:
        ends[0].close()
        link = Link(takes=["frames"], beat=None)
        link.attach(Local(ends[1]))
        while True:
            message = link.take(600)
            yield message.array()
            message.release()


class InPlace(OneCopy):
    """The array is made where it will be read; only the hand-over is on the clock."""

    name = "callosum, in place"

    def prepare(self, value: int) -> None:
        self.link.pump()
        self.loan = self.pool.loan((len(self.source),), "uint8")
        self.loan.array[:] = value

    def send(self) -> None:
        self.link.send("frames", tensors=(self.loan.seal(),))


class Queue:
    """multiprocessing.Queue of the standard library: pickled, through a pipe."""

    name = "multiprocessing.Queue"
    needs = None
    share = 0.2

    @staticmethod
    def ends(size: int) -> Any:
        return multiprocessing.get_context("fork").Queue()

    def __init__(self, size: int, ends: Any) -> None:
        self.queue = ends
        self.source = np.zeros(size, "uint8")

    def prepare(self, value: int) -> None:
        self.source[:] = value

    def send(self) -> None:
        self.queue.put(self.source)

    @staticmethod
    def reads(size: int, ends: Any) -> Iterator[np.ndarray]:
        while True:
            try:
                yield ends.get(timeout=600)
            except queue.Empty:
                return


class Zmq:
    """ZeroMQ PUSH and PULL over ipc, without the copies it can avoid on either side."""

    name = "ZeroMQ ipc"
    needs = "zmq"
    share = 1.0

    @staticmethod
    def ends(size: int) -> Any:
        return f"ipc://{tempfile.mkdtemp(prefix='data-path-')}/zmq"

    def __init__(self, size: int, ends: Any) -> None:
        import zmq

        self.socket = zmq.Context().socket(zmq.PUSH)
        self.socket.bind(ends)
        self.source = np.zeros(size, "uint8")

    def prepare(self, value: int) -> None:
        self.source[:] = value

    def send(self) -> None:
        self.socket.send(self.source, copy=False)

    @staticmethod
    def reads(size: int, ends: Any) -> Iterator[np.ndarray]:
        import zmq

        socket = zmq.Context().socket(zmq.PULL)
        socket.connect(ends)
        while True:
            yield np.frombuffer(socket.recv(copy=False).buffer, "uint8")


class Iceoryx:
    """iceoryx2 publish-subscribe with an event that wakes the reader; one copy into its memory."""

    name = "iceoryx2, one copy"
    needs = "iceoryx2"
    share = 1.0

    @staticmethod
    def ends(size: int) -> Any:
        return f"data-path-{os.getpid()}-{time.monotonic_ns()}"

    @staticmethod
    def services(name: str) -> tuple[Any, Any, Any]:
        import iceoryx2 as iox

        iox.set_log_level(iox.LogLevel.Error)
        node = iox.NodeBuilder.new().create(iox.ServiceType.Ipc)
        data = node.service_builder(iox.ServiceName.new(name))
        data = data.publish_subscribe(iox.Slice[ctypes.c_uint8]).open_or_create()
        wake = node.service_builder(iox.ServiceName.new(name)).event().open_or_create()
        return node, data, wake

    def __init__(self, size: int, ends: Any) -> None:
        self.node, data, wake = self.services(ends)
        self.publisher = data.publisher_builder().initial_max_slice_len(size).create()
        self.notifier = wake.notifier_builder().create()
        self.size = size
        self.source = np.zeros(size, "uint8")
        time.sleep(1.0)  # until the reader has subscribed; messages before are not kept for it

    def prepare(self, value: int) -> None:
        self.source[:] = value

    def send(self) -> None:
        self.borrow()
        self.array[:] = self.source
        self.publish()

    def borrow(self) -> None:
        self.sample = self.publisher.loan_slice_uninit(self.size)
        self.array = _at(self.sample.payload().as_ptr(), self.size)

    def publish(self) -> None:
        self.sample.assume_init().send()
        self.notifier.notify()

    @classmethod
    def reads(cls, size: int, ends: Any) -> Iterator[np.ndarray]:
        import iceoryx2 as iox

        _node, data, wake = cls.services(ends)
        subscriber = data.subscriber_builder().create()
        listener = wake.listener_builder().create()
        while True:
            sample = subscriber.receive()
            if sample is None:
                listener.timed_wait(iox.Duration.from_secs(5))
                continue
            yield _at(sample.payload().as_ptr(), size)
            sample.delete()


class IceoryxInPlace(Iceoryx):
    """The same, written where it will be read."""

    name = "iceoryx2, in place"

    def prepare(self, value: int) -> None:
        self.borrow()
        self.array[:] = value

    def send(self) -> None:
        self.publish()


class Base64:
    """What clients of a model server do today: base64 in JSON, posted over HTTP on loopback."""

    name = "base64 in JSON over HTTP"
    needs = None
    share = 0.05

    @staticmethod
    def ends(size: int) -> Any:
        arrived: list[np.ndarray] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                data = base64.b64decode(json.loads(body)["data"])
                arrived.append(np.frombuffer(data, "uint8"))

            def log_message(self, *_: object) -> None:
                return

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        server.arrived = arrived  # type: ignore[attr-defined]
        return server

    def __init__(self, size: int, ends: Any) -> None:
        self.port = ends.server_address[1]
        self.source = np.zeros(size, "uint8")

    def prepare(self, value: int) -> None:
        self.source[:] = value
        # The server answers one connection after the other: the next message has its own.
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port)
        self.connection.connect()

    def send(self) -> None:
        body = json.dumps({"data": base64.b64encode(self.source).decode()})
        self.connection.request("POST", "/", body, {"Connection": "close"})

    @staticmethod
    def reads(size: int, ends: Any) -> Iterator[np.ndarray]:
        while True:
            ends.handle_request()
            while ends.arrived:
                yield ends.arrived.pop()


class RayActor:
    """Ray's object store: put, then an actor that gets it. It has a reader of its own."""

    name = "Ray object store"
    needs = "ray"
    share = 0.2

    @staticmethod
    def ends(size: int) -> Any:
        return None

    def __init__(self, size: int, ends: Any) -> None:
        # On a busy machine it takes longer to start than Ray allows itself by default.
        os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")
        import ray

        memory = max(2**28, 6 * size)
        ray.init(
            num_cpus=1,
            object_store_memory=memory,
            include_dashboard=False,
            logging_level=40,
            log_to_driver=False,
        )
        self.ray = ray

        @ray.remote(num_cpus=0)
        class Reader:
            def read(self, array: np.ndarray) -> int:
                _ = array[0], array[-1]
                return time.monotonic_ns()

        self.reader = Reader.remote()
        self.source = np.zeros(size, "uint8")

    def prepare(self, value: int) -> None:
        self.source[:] = value

    def send(self) -> int:
        """The time at which the actor could read it."""
        stamp = self.reader.read.remote(self.ray.put(self.source))
        return int(self.ray.get(stamp))


def _at(address: int, size: int) -> np.ndarray:
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))


WAYS = (InPlace, OneCopy, IceoryxInPlace, Iceoryx, Zmq, RayActor, Queue, Base64)
