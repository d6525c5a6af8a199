"""One small Ray cluster for all tests here: two nodes with labels, the first of them its head.

What takes time is starting processes: three seconds of a core for a node with its agents, one and a
half for a replica. So nodes and members are shared where a test does not change them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from bicameral.cluster import member
from bicameral.cluster.member import Far
from bicameral.cluster.settings import Settings
from bicameral.config import convert
from bicameral.options import ClusterOptions

HERE = Path(__file__).parent


class Nodes:
    """The nodes of the test cluster; `add` and `kill` change them."""

    def __init__(self) -> None:
        # Short, as sockets lie in it, and a path of a socket has room for a hundred characters.
        self.folder = Path(tempfile.mkdtemp(prefix="bcr", dir="/tmp"))
        self._environment = dict(os.environ)
        self._cluster: Any = None
        os.environ["PYTHONPATH"] = f"{self._plugin()}:{os.environ.get('PYTHONPATH', '')}"
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # all on loopback, as on those

    def start(self) -> None:
        """The head and one more."""
        import ray
        from ray.cluster_utils import Cluster

        self._cluster = Cluster()
        head = {
            "include_dashboard": False,
            "no_monitor": True,
            "temp_dir": str(self.folder / "r"),
            # A killed node answers nothing and is seen at once; a busy one may be late.
            "_system_config": {
                "health_check_initial_delay_ms": 0,
                "health_check_period_ms": 300,
                "health_check_failure_threshold": 3,
                "health_check_timeout_ms": 10_000,
            },
        }
        self._common = {
            "object_store_memory": 80 * 2**20,
            "include_log_monitor": False,
        }
        labels = {"blue": 8, "green": 8, "grey": 8}
        self.blue = self._cluster.add_node(num_cpus=1, resources=labels, **head, **self._common)
        self.address = self._cluster.address
        # Members use the connection they find, and leave it: one for all tests.
        ray.init(address=self.address, log_to_driver=False, configure_logging=False)
        self.red = self.add(red=8)

    def _plugin(self) -> Path:
        site = self.folder / "site"
        info = site / "odd-1.0.dist-info"
        info.mkdir(parents=True)
        shutil.copy(HERE / "odd.py", site / "odd.py")
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[bicameral.engines]\nodd = odd\n")
        return site

    def add(self, **resources: float) -> Any:
        """A node more; without processors, so that only those who ask for a label go there."""
        return self._cluster.add_node(num_cpus=0, resources=resources, **self._common)

    def drain(self, node: Any) -> None:
        """It will be gone in a minute, as a provider may announce."""
        from ray._raylet import GcsClient

        client = GcsClient(address=self.address)
        until = int(1000 * (time.time() + 60))
        accepted, why = client.drain_node(node.node_id, 2, "test", until)
        assert accepted, why

    def kill(self, node: Any) -> None:
        """Its raylet is killed with -9; what ran there dies with it."""
        self._cluster.remove_node(node, allow_graceful=False)

    def close(self) -> None:
        import ray

        ray.shutdown()
        if self._cluster is not None:
            self._cluster.shutdown()
        os.environ.clear()
        os.environ.update(self._environment)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    if not find_spec("ray"):  # imported only with the environment it needs
        pytest.skip("needs pip install 'bicameral[cluster]'")
    nodes = Nodes()
    try:
        nodes.start()
        yield nodes
    finally:
        nodes.close()


@pytest.fixture(scope="session")
def options(nodes: Nodes) -> ClusterOptions:
    return ClusterOptions(address=nodes.address)


@pytest.fixture(scope="session")
def opened(options: ClusterOptions) -> Callable[..., Any]:
    """Opens an odd member: keys of its table, and its cluster table."""

    @asynccontextmanager
    async def opened(keys: dict[str, Any] | None = None, **cluster: Any):
        table = {"engine": "odd", **(keys or {})}
        processors = 0 if "resources" in cluster else 0.05
        settings = convert(
            {"num_cpus": processors, **cluster}, Settings, "test", "models.m.cluster"
        )
        async with member.open("m", table, settings, options, "test") as model:
            yield model

    return opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model(opened: Callable[..., Any]) -> AsyncIterator[Far]:
    """One for all tests of a file, as it takes seconds to start."""
    async with opened() as model:
        yield model
