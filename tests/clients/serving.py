"""The servers that the clients talk to: one of scripted models, one with real local weights."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from unittest.mock import patch
from urllib.request import Request, urlopen

from tests.server.live import Live, served

KEY = "sk-acceptance-0123456789"
KEYS_ENV = "BICAMERAL_ACCEPTANCE_KEYS"
REPLY = "Hello there, I am scripted."
WORDS = len(REPLY.split())

SCRIPTED = f"""
[models.says]
engine = "scripted"
reply = "{REPLY}"

[models.plain]
engine = "scripted"
reply = "{REPLY}"
features = []

[models.silent]
engine = "scripted"
reply = "{REPLY}"
usage = false

[models.thinks]
engine = "scripted"
reply = "{REPLY}"
reasoning = "Let me think."

[models.calls]
engine = "scripted"
calls_tools = true
tool_arguments = '{{"city": "New York"}}'
reply = "It is sunny."

[models.person]
engine = "scripted"
reply = '{{"name": "Ada", "born": 1815}}'

[models.sees]
engine = "scripted"
reply = "{REPLY}"
accepts = ["text", "image"]

[models.slow]
engine = "scripted"
reply = "{"word " * 2000}"
delay = 0.02

[models.dies]
engine = "scripted"
reply = "{REPLY}"
die_after = 3

[models.busy]
engine = "scripted"
fail = "overloaded"
retry_after = 1.0

[models.locked]
engine = "scripted"
fail = "unauthorized"

[models.vectors]
engine = "scripted"
emits = ["embedding"]

[models.edits]
engine = "scripted"
reply = '''Done.

greet.py
```python
<<<<<<< SEARCH
print("hello")
=======
print("goodbye")
>>>>>>> REPLACE
```
'''

[models.writes]
engine = "scripted"
reply = '''Done.

greet.py
```python
print("goodbye")
```
'''

[minds.default]
policy = "route"
members = ["says"]
"""

REAL = """
[models.smollm2]
engine = "llama_cpp"
weights = "smollm2-135m"
threads = 1
"""


@dataclass(frozen=True)
class Server:
    """A running server, and what its scripted models have seen."""

    live: Live
    key: str = KEY

    @property
    def url(self) -> str:
        return self.live.base_url

    def with_key(self, key: str) -> Server:
        """The same server, asked with another key."""
        return replace(self, key=key)

    def runs(self, name: str) -> int:
        return int(self.live.scripted(name).runs)

    def cancelled(self, name: str) -> int:
        return int(self.live.scripted(name).cancelled)

    def tokens(self, name: str) -> int:
        """The answer tokens of the model that /metrics counts."""
        key = {"Authorization": f"Bearer {self.key}"}
        url = f"{self.live.url}/metrics"
        with urlopen(Request(url, headers=key), timeout=10) as answer:
            text = answer.read().decode()
        line = rf'^bicameral_tokens_total{{model="{name}",kind="completion"}} (\d+)$'
        found = re.search(line, text, re.MULTILINE)
        return int(found[1]) if found else 0

    def sees_tokens(self, name: str, count: int) -> bool:
        """Whether within two seconds /metrics counts `count` answer tokens of the model."""
        return _within(2, lambda: self.tokens(name) == count)

    def sees_cancelled(self, name: str, count: int) -> bool:
        """Whether within two seconds `count` runs of the model have been cancelled."""
        return _within(2, lambda: self.cancelled(name) == count)

    def sees_running(self, name: str) -> bool:
        """Whether within a minute a run of the model has begun."""
        return _within(60, lambda: self.live.scripted(name).running > 0)


def _within(seconds: float, seen: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not seen() and time.monotonic() < until:
        time.sleep(0.01)
    return seen()


@contextmanager
def keyed(config: str) -> Iterator[Server]:
    """A server in a thread that asks for KEY."""
    with patch.dict(os.environ, {KEYS_ENV: KEY}), served(config, keys_env=KEYS_ENV) as live:
        yield Server(live)
