"""What a member of the openai engine can be told: options and presets."""

from __future__ import annotations

import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bicameral.engines import remote
from bicameral.engines.remote.presets import presets
from bicameral.engines.remote.upstream import check_url
from bicameral.errors import ConfigError
from bicameral.model import Model, collect
from bicameral.types import (
    Reach,
    Request,
    Sampling,
)
from tests.engines.asking import events_of
from tests.engines.models import opened
from tests.upstream import Upstream

HI = Request.ask("hi")


@pytest.fixture
async def up() -> AsyncIterator[Upstream]:
    async with Upstream() as upstream:
        yield upstream


@pytest.fixture
async def model(up: Upstream) -> AsyncIterator[Model]:
    async with opened("openai", url=up.url, model="fake") as m:
        yield m


async def test_the_key_is_sent_and_never_shown(
    up: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-very-secret")
    async with opened("openai", url=up.url, model="m", key_env="SOME_KEY") as model:
        await events_of(model, HI)
        assert "very-secret" not in repr(model.card)
    assert up.requests[0].headers["authorization"] == "Bearer sk-very-secret"


async def test_without_a_key_no_authorization_is_sent(up: Upstream, model: Model) -> None:
    await events_of(model, HI)
    assert "authorization" not in up.requests[0].headers


async def test_own_headers_are_sent(up: Upstream) -> None:
    headers = {"OpenAI-Organization": "org-1"}
    async with opened("openai", url=up.url, model="m", headers=headers) as model:
        await events_of(model, HI)
    assert up.requests[0].headers["openai-organization"] == "org-1"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "url: is missing"),
        ({"url": "ftp://a.test/v1"}, "http://"),
        ({"url": "a.test/v1"}, "http://"),
        ({"url": "http://u:p@a.test/v1"}, "key_env"),
        ({"preset": "deepsek"}, "did you mean 'deepseek'"),
        ({"url": "http://a.test/v1", "key_env": "NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE"),
        ({"url": "http://a.test/v1", "headers": {"Authorization": "Bearer x"}}, "key_env"),
        ({"url": "http://a.test/v1", "headers": {"X": "a\r\nb"}}, "headers"),
        ({"url": "http://a.test/v1", "timeout_total": -1}, "timeout_total"),
        ({"url": "http://a.test/v1", "timout_total": 1}, "did you mean 'timeout_total'"),
    ],
)
async def test_options_that_cannot_work(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        async with opened("openai", model="m", **keys):
            pass


@pytest.mark.parametrize(
    ("url", "reach"),
    [
        ("http://127.0.0.1:8000/v1", Reach.DEVICE),
        ("http://localhost:8000/v1", Reach.DEVICE),
        ("http://[::1]:8000/v1", Reach.DEVICE),
        ("http://10.0.0.5:8000/v1", Reach.PUBLIC),
        ("https://api.openai.com/v1", Reach.PUBLIC),
        ("https://localhost.evil.test/v1", Reach.PUBLIC),
    ],
)
async def test_reach_is_the_device_for_loopback_only(url: str, reach: Reach) -> None:
    async with opened("openai", model="m", url=url) as model:
        assert model.card.reach is reach


async def test_a_declared_reach_holds() -> None:
    async with opened("openai", model="m", url="http://10.0.0.5/v1", reach="site") as model:
        assert model.card.reach is Reach.SITE


# --- presets -----------------------------------------------------------------------------------


def test_every_preset_names_its_source_and_a_usable_url() -> None:
    for name, row in presets().items():
        check_url(name, row.url)
        assert row.source.startswith("https://"), name
        assert row.key_env or "127.0.0.1" in row.url, name


def test_presets_cover_the_servers_promised() -> None:
    path = Path(remote.__file__).with_name("presets.toml")
    assert set(tomllib.loads(path.read_text("utf-8"))) >= {
        "openai",
        "openrouter",
        "dashscope",
        "hunyuan",
        "glm",
        "spark",
        "kimi",
        "deepseek",
        "vllm",
        "vllm-ascend",
        "sglang",
        "mindie",
        "ollama",
        "llama-server",
    }


async def test_a_preset_gives_url_key_and_quirks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    async with opened("openai", model="m", preset="openai") as model:
        assert model.card.reach is Reach.PUBLIC
        assert model.card.owner == "OpenAI"


async def test_a_preset_can_be_moved_to_another_address(
    up: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    async with opened("openai", model="m", preset="openai", url=up.url) as model:
        await collect(model, Request.ask("hi", sampling=Sampling(max_tokens=9)))
        assert model.card.reach is Reach.DEVICE
    assert up.requests[0].json["max_completion_tokens"] == 9
