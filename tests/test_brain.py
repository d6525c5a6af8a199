"""Brain: one door, default names, reload without dropping a stream."""

from __future__ import annotations

from contextlib import aclosing

import pytest

import bicameral
from bicameral import Brain
from bicameral.config import parse
from bicameral.errors import ConfigError, NotFound, RequestError, WeightsError
from bicameral.types import Delta, Reach


def config(reply="one two three", extra=""):
    return parse(
        f"""
        [models.a]
        engine = "scripted"
        reply = "{reply}"
        {extra}
        [models.keep]
        engine = "scripted"
        [minds.default]
        policy = "route"
        members = ["a"]
        """,
        "t.toml",
    )


async def test_asks_the_default_mind():
    async with Brain.open(config()) as brain:
        answer = await brain.ask("hi", max_tokens=2, reach=Reach.DEVICE)
        assert answer.text == "one two "
        assert answer.reason == "length"
        assert answer.model == "default"
        assert list(brain.models) == ["default", "a", "keep"]


async def test_books_every_call():
    calls = []
    async with Brain.open(config(), note=lambda call, _: calls.append(call)) as brain:
        await brain.ask("hi")
        async with aclosing(brain.stream("hi")) as events:
            async for _ in events:
                break
    assert [call.error for call in calls] == [None, "abandoned"]
    assert calls[1].usage.completion_tokens is None


async def test_an_unknown_name_or_field_is_refused():
    async with Brain.open(config()) as brain:
        with pytest.raises(NotFound, match="did you mean 'keep'"):
            await brain.ask("hi", mind="kep")
        with pytest.raises(RequestError, match="did you mean 'temperature'"):
            await brain.ask("hi", temprature=1)
        with pytest.raises(RequestError, match=r"missing\.png"):
            await brain.ask("hi", images=["missing.png"])


async def test_reload_keeps_what_is_the_same_and_lets_streams_finish():
    async with Brain.open(config()) as brain:
        kept = brain.models["keep"]
        async with aclosing(brain.stream("hi")) as events:
            texts = [(await anext(events)).part.text]
            await brain.reload(config("new words"))
            texts += [e.part.text async for e in events if isinstance(e, Delta)]
        assert "".join(texts) == "one two three"
        assert brain.models["keep"] is kept
        assert (await brain.ask("hi")).text == "new words"


async def test_a_wrong_config_leaves_the_old_one():
    async with Brain.open(config()) as brain:
        with pytest.raises(ConfigError):
            await brain.reload(config(extra="nonsense = 1"))
        assert (await brain.ask("hi")).text == "one two three"


async def test_retired_members_are_closed_after_their_last_stream(monkeypatch):
    from bicameral.engines import scripted

    closed = []
    original = scripted.open

    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def watched(name, options):
        async with original(name, options) as model:
            yield model
        closed.append((name, options.reply))

    monkeypatch.setattr(scripted, "open", watched)
    async with Brain.open(config()) as brain:
        async with aclosing(brain.stream("hi")) as events:
            await anext(events)
            await brain.reload(config("new"))
            assert closed == []
        assert closed == [("a", "one two three")]
    assert ("a", "new") in closed
    assert ("keep", "") in closed


async def test_an_empty_config_says_so():
    with pytest.raises(ConfigError, match="there is no model"):
        async with Brain.open(parse("", "t.toml")):
            pass


async def test_without_config_or_weights_it_names_the_command(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BICAMERAL_CACHE", str(tmp_path))
    with pytest.raises((ConfigError, WeightsError), match="bicameral pull smollm2-135m"):
        async with Brain.open():
            pass


def test_the_synchronous_door(config_file):
    path = config_file('[models.a]\nengine = "scripted"\nreply = "hello"')
    assert bicameral.ask("hi", config=path).text == "hello"
