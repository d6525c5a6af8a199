"""Serves a folder through the transformers engine and asks it, as the tests do."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from bicameral.errors import BicameralError
from bicameral.model import Model, collect
from bicameral.types import Answer, Request, Sampling
from tests.engines.models import opened

SHORT = Sampling(max_tokens=24, temperature=0)


def served(folder: Path, **keys: Any) -> AbstractAsyncContextManager[Model]:
    return opened("transformers", path=str(folder), **{"device": "cpu", "threads": 1, **keys})


async def say(model: Model, request: Request) -> Answer:
    answer = await collect(model, request)
    if answer.error:
        raise answer.error
    return answer


def hello(text: str = "Say hello.", **fields: Any) -> Request:
    return Request.ask(text, **{"sampling": SHORT, **fields})


def copied(folder: Path, to: Path) -> Path:
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


async def refused(folder: Path, error: type[BicameralError], words: str, **keys: Any) -> None:
    with pytest.raises(error, match=words):
        async with served(folder, **keys):
            pass
