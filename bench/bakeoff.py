"""A real bake-off on this machine: llama.cpp against CTranslate2 over the same small weights.

    python bench/bakeoff.py --out FOLDER [--repeats 3] [WORKLOAD.toml]

Starts CTranslate2 (bench/bakeoff_ct2.py, formats and threads as below) and `bicameral serve` on
loopback, adds them to the workload's contestants, and runs `bicameral bakeoff`'s own contest.
Nothing else should run: threads of llama.cpp that wait for one without a core spin meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec.structs import replace

from bicameral.chips.bakeoff import Contestant, encode, parse
from bicameral.chips_cli.baked import report
from bicameral.chips_cli.contest import contest
from bicameral.chips_cli.plot import draw

HERE = Path(__file__).parent
WEIGHTS = "smollm2-135m"
# Format and threads; two threads are what the engine takes here unless told otherwise.
CTRANSLATE2 = (("int8", 2, "default"), ("float32", 2, "default"), ("int8", 1, "tuned"))
_CONFIG = f'[models."{WEIGHTS}"]\nengine = "llama_cpp"\nweights = "{WEIGHTS}"\nthreads = 2\n'


@contextmanager
def ctranslate2(kind: str, threads: int) -> Iterator[str]:
    """Its address, once it answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    words = ("--threads", threads, "--format", kind, "--port", port)
    script = HERE / "bakeoff_ct2.py"
    process = subprocess.Popen([sys.executable, str(script), WEIGHTS, *map(str, words)])
    try:
        until = time.monotonic() + 60
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit("CTranslate2's server did not start: see above")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def served() -> Iterator[str]:
    """The address of `bicameral serve` with the same weights under llama.cpp."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bicameral.toml")
        path.write_text(_CONFIG, encoding="utf-8")
        command = [sys.executable, "-m", "bicameral", "serve", "--port", "0", "-c", str(path)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            line = next(line for line in process.stderr or () if "listening on" in line)
            yield json.loads(line)["message"].removeprefix("listening on ") + "/v1"
        finally:
            process.terminate()
            process.communicate()


def remote(name: str, url: str, settings: str, **more: object) -> Contestant:
    member = {"engine": "openai", "url": url, "model": WEIGHTS, "retries": 0, **more}
    return Contestant(name=name, member=member, settings=settings, chip="cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workload", nargs="?", default=str(HERE / "workloads" / "bakeoff.toml"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repeats", type=int)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    workload = parse(Path(args.workload).read_text(encoding="utf-8"), args.workload)
    with ExitStack() as stack:
        added = [remote("llama.cpp, 2 threads, by HTTP", stack.enter_context(served()), "default")]
        for kind, threads, settings in CTRANSLATE2:
            url = stack.enter_context(ctranslate2(kind, threads))
            name = f"CTranslate2 {kind}, {threads} thread{'s' * (threads > 1)}, by HTTP"
            added.append(remote(name, url, settings))
        workload = replace(
            workload,
            contestants=(*workload.contestants, *added),
            repeats=args.repeats or workload.repeats,
        )
        baked = asyncio.run(contest(workload, args.workload, lambda said: print(said, flush=True)))
    (args.out / "bakeoff.json").write_bytes(encode(baked))
    (args.out / "report.md").write_text(report(baked), encoding="utf-8")
    draw(baked, args.out / "bakeoff.png")
    print((args.out / "report.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
