"""A client that lives in a process of its own: one JSON line in, one out."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from typing import Any

SECONDS = 60.0


def environment(**more: str) -> dict[str, str]:
    """A bare environment, so that no setting or key of the developer's reaches a client.

    Clients may keep their compiled code: most of their start is compiling it.
    """
    keep = ("PATH", "HOME", "LANG", "TMPDIR", "SYSTEMROOT")
    return {name: os.environ[name] for name in keep if name in os.environ} | more


class Program:
    """`call` says what it did; the process must be closed."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )

    @property
    def ended(self) -> bool:
        """Whether it fell over."""
        return self._process.poll() is not None

    def call(self, do: str, **fields: Any) -> dict[str, Any]:
        """The outcome of the deed `do`; AssertionError if the program fell over instead."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin
        assert stdout
        watch = threading.Timer(SECONDS, self._process.kill)
        watch.start()
        try:
            stdin.write(json.dumps({"do": do, **fields}) + "\n")
            stdin.flush()
            line = stdout.readline()
        finally:
            watch.cancel()
        assert line, f"the client program ended with {self._process.wait()}; see its stderr"
        outcome: dict[str, Any] = json.loads(line)
        return outcome

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
