"""The gateways that gateway.py compares: how each is installed, configured, started and ended."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

BENCH = Path(__file__).resolve().parent
VENVS = BENCH.parent / ".bench"
KEY = "sk-bench-0123456789abcdef"
ANSWER = b"The quick brown fox"  # how every plain answer of the mock begins
START_LIMIT = 90.0

BICAMERAL_TOML = """\
[server]
port = {port}
keys_env = "BENCH_KEYS"

[models.upstream]
engine = "openai"
url = "http://127.0.0.1:{upstream}/v1"
model = "mock-model"
price_input = "0.25"
price_output = "1.25"

[minds.default]
policy = "route"
members = ["upstream"]
"""
LITELLM_YAML = """\
model_list:
  - model_name: mock-model
    litellm_params:
      model: openai/mock-model
      api_base: http://127.0.0.1:{upstream}/v1
      api_key: sk-none
litellm_settings:
  telemetry: false
general_settings:
  master_key: {key}
"""


class Failed(Exception):
    """A gateway could not be installed, did not start, or gave a wrong answer."""


@dataclass(frozen=True)
class Gateway:
    """One way to the mock. `command` and `config` may hold {port}, {upstream}, {config}, {bin}."""

    name: str
    command: Sequence[str] = ()
    health: str = "/health"
    model: str = "mock-model"
    key: str = ""  # when set, a request without it must be refused
    config: str = ""
    package: str = ""  # pinned requirement, installed into its own environment
    overrides: Sequence[str] = ()  # requirements of `package` whose version is left open
    env: Mapping[str, str] = field(default_factory=dict)

    def install(self) -> Path:
        """Its folder of programs; installs the package on first use. Failed says why not."""
        if not self.package:
            return Path(sys.executable).parent
        venv = VENVS / self.package.replace("==", "-").replace("[proxy]", "")
        program = venv / "bin" / Path(self.command[0]).name
        if not program.exists():
            print(f"installing {self.package} into {venv} ...", file=sys.stderr)
            install(self.package, venv, self.overrides)
        return program.parent


GATEWAYS = (
    Gateway("direct"),
    Gateway(
        "bicameral",
        (sys.executable, "-m", "bicameral", "serve", "--config", "{config}"),
        health="/healthz",
        model="default",
        key=KEY,
        config=BICAMERAL_TOML,
        env={"BENCH_KEYS": f"sk-another-0123456789abcdef,{KEY}"},
    ),
    Gateway(
        "bare relay",
        (sys.executable, str(BENCH / "bare_relay.py"), "{port}", "{upstream}"),
    ),
    Gateway(
        "litellm",
        ("{bin}/litellm", "--config", "{config}", "--host", "127.0.0.1", "--port", "{port}"),
        health="/health/liveliness",
        key=KEY,  # it does not start without one
        config=LITELLM_YAML,
        package="litellm[proxy]==1.109.1",
        # Neither is at work here: a CA bundle, and database migrations. Package indexes that lag
        # behind may lack the exact versions asked for.
        overrides=("certifi", "litellm-proxy-extras"),
        env={  # it would call the network at import
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
            "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
            "LITELLM_LOCAL_BLOG_POSTS": "True",
            "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
            "LITELLM_TELEMETRY": "False",
            "LITELLM_LOG": "ERROR",
        },
    ),
    Gateway(
        "vllm-router",
        (
            *("{bin}/vllm-router", "--host", "127.0.0.1", "--port", "{port}"),
            *("--worker-urls", "http://127.0.0.1:{upstream}", "--policy", "round_robin"),
            *("--log-level", "error", "--prometheus-port", "{spare}"),
        ),
        package="vllm-router==0.1.17",
    ),
)


def install(package: str, venv: Path, overrides: Sequence[str]) -> None:
    """Make an environment with `package` in it, by uv. Failed when that does not work."""
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        raise Failed("uv is needed to install it: pip install uv")
    VENVS.mkdir(exist_ok=True)
    names = VENVS / "overrides.txt"
    names.write_text("".join(f"{name}\n" for name in overrides))
    python = str(venv / "bin" / "python")
    for command in (
        [uv, "venv", "--quiet", "--python", sys.executable, str(venv)],
        [uv, "pip", "install", "--quiet", "--python", python, "--override", str(names), package],
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        except subprocess.TimeoutExpired:
            shutil.rmtree(venv, ignore_errors=True)
            raise Failed("installing took more than 10 minutes") from None
        if done.returncode:
            shutil.rmtree(venv, ignore_errors=True)
            raise Failed(f"cannot be installed: {done.stderr.strip()[-400:]}")


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def process(
    command: Sequence[str], *, core: int, env: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A child in its own process group, pinned to a core; the whole group ends with the block."""
    with log.open("wb") as output:
        child = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ.get("PATH", ""), "HOME": str(log.parent), **env},
            cwd=BENCH.parent,
            start_new_session=True,
        )
    try:
        yield child
    finally:
        end(child)


def end(child: subprocess.Popen[bytes]) -> None:
    """Ask the group to end, wait 10 s, then kill what is left of it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


@contextlib.contextmanager
def started(
    gateway: Gateway, *, upstream: int, core: int, folder: Path
) -> Iterator[tuple[int, int, float]]:
    """The gateway in front of the mock: (port, process id, seconds until it was healthy)."""
    port, log = free_port(), folder / f"{gateway.name}.log"
    config = folder / f"{gateway.name}.config"
    names: dict[str, object] = {
        "port": port,
        "upstream": upstream,
        "config": config,
        "spare": free_port(),
    }
    names["key"] = gateway.key
    config.write_text(gateway.config.format(**names))
    program = gateway.install()
    command = [part.format(**names, bin=program) for part in gateway.command]
    began = time.perf_counter()
    with process(command, core=core, env=gateway.env, log=log) as child:
        wait_until_healthy(gateway.health, port, child, log)
        seconds = time.perf_counter() - began
        check(gateway, port)
        yield port, child.pid, seconds


def wait_until_healthy(path: str, port: int, child: subprocess.Popen[bytes], log: Path) -> None:
    """Ask every 10 ms until the answer is 200; Failed when the process ends or time is up."""
    limit = time.monotonic() + START_LIMIT
    while time.monotonic() < limit and child.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if ask("GET", path, port)[0] == 200:
                return
        time.sleep(0.01)
    what = f"is not healthy after {START_LIMIT:g} s" if child.poll() is None else "ended"
    raise Failed(f"{what}: {log.read_text(errors='replace').strip()[-600:]}")


def check(gateway: Gateway, port: int) -> None:
    """One request must bring the mock's answer; one without the key must be refused."""
    body = {"model": gateway.model, "messages": [{"role": "user", "content": "Hello"}]}
    path, data = "/v1/chat/completions", json.dumps(body).encode()
    auth = {"Authorization": f"Bearer {gateway.key}"} if gateway.key else {}
    status, answer = ask("POST", path, port, data, auth)
    if status != 200 or ANSWER not in answer:
        raise Failed(f"a request brought {status}: {answer[:300]!r}")
    if gateway.key:
        status, answer = ask("POST", path, port, data, {"Authorization": "Bearer sk-wrong"})
        if status not in (400, 401, 403):
            raise Failed(f"a wrong key was not refused: {status}")


def ask(
    method: str, path: str, port: int, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """One request over a connection of its own: (status, body)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        kind = {"Content-Type": "application/json"} if body else {}
        connection.request(method, path, body or None, {**kind, **(headers or {})})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
