"""Config: what is right is read exactly, what is wrong says where, why and what is near."""

from __future__ import annotations

import string
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bicameral import build
from bicameral.config import MemberOptions, convert, nano, parse, secret
from bicameral.errors import ConfigError, WeightsError
from bicameral.types import Reach

GOOD = """
[models.small]
engine = "scripted"
reply = "hi"

[minds.default]
policy = "cascade"
members = ["small"]
threshold = 0.5

[server]
port = 9000
"""


def test_reads_a_file():
    config = parse(GOOD, "t.toml")
    assert config.minds["default"].threshold == 0.5
    assert config.server.port == 9000
    assert config.models["small"]["reply"] == "hi"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = ", ["t.toml", "not valid TOML"]),
        ("[modles.a]\nengine='scripted'", ["unknown key 'modles'", "did you mean 'models'"]),
        (
            "[minds.m]\npolicy='route'\nmembers=['a']\nmebers=1",
            ["[minds.m]", "'mebers'", "'members'"],
        ),
        ("[minds.m]\npolicy='rout'\nmembers=['a']", ["[minds.m]", "policy", "rout"]),
        ("[journal]\nprompt=true", ["[journal]", "'prompt'", "'prompts'"]),
        ("[journal]\nkeep=0", ["[journal] keep", ">= 1"]),
        ("[journal]\nprompts='yes'", ["[journal] prompts", "bool"]),
        ("[minds.m]\nmembers=['a']", ["[minds.m]", "policy"]),
        (
            "[minds.m]\npolicy='route'\nmembers=['smal']\n[models.small]\nengine='scripted'",
            ["no 'smal'", "did you mean 'small'"],
        ),
        ("[minds.m]\npolicy='route'\nmembers=[]", ["[minds.m]", "members", "empty"]),
        (
            "[minds.a]\npolicy='route'\nmembers=['b']\n[minds.b]\npolicy='route'\nmembers=['a']",
            ["circle", "a -> b -> a"],
        ),
        ("[minds.a]\npolicy='route'\nmembers=['a']", ["circle"]),
        ("[models.a]\nengine='scripted'\n[minds.a]\npolicy='route'\nmembers=['a']", ["both"]),
        ("[models.a]\nengine='scripted'\n[minds.b]\npolicy='route'\nmembers=['a','a']", ["twice"]),
        (
            "[models.a]\nengine='scripted'\n[minds.b]\npolicy='vote'\nmembers=['a']\njudge='a'",
            ["judge"],
        ),
        (
            "[models.a]\nengine='scripted'\n[minds.b]\npolicy='route'\nmembers=['a']\nthreshold=2.0",
            ["threshold"],
        ),
        ("[server]\nport='x'", ["[server]", "port", "Expected `int`"]),
        ("models = 3", ["[models]", "tables"]),
        ("[models]\na = 1", ["[models.NAME]"]),
        ("[models.'a b']\nengine='scripted'", ["'a b'", "name"]),
    ],
)
def test_an_error_says_where_why_and_what_is_near(text, words):
    with pytest.raises(ConfigError) as caught:
        parse(text, "t.toml")
    for word in ["t.toml", *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"engine": "scriptd"}, ["[models.m]", "no engine 'scriptd'", "'scripted'"]),
        ({}, ["[models.m]", "engine"]),
        ({"engine": "scripted", "repli": "x"}, ["[models.m]", "'repli'", "did you mean 'repl"]),
        ({"engine": "scripted", "delay": "x"}, ["[models.m]", "delay", "float"]),
        ({"engine": "scripted", "price_input": "1"}, ["[models.m]", "price_output"]),
        ({"engine": "scripted", "price_input": "x", "price_output": "1"}, ["'x'", "dollars"]),
        ({"engine": "scripted", "reach": "moon"}, ["[models.m]", "reach", "moon"]),
    ],
)
def test_a_members_table_is_closed_too(keys, words):
    with pytest.raises(ConfigError) as caught:
        build.member("m", keys, "t.toml")
    for word in ["t.toml", *words]:
        assert word in str(caught.value)


def test_prices_are_exact():
    table = {"engine": "x", "price_input": "0.1", "price_output": "12.000000001"}
    options = convert(table, MemberOptions, "t", "m")
    assert options.price().input == 100_000_000
    assert options.price().output == 12_000_000_001
    assert options.reach_or(Reach.SITE) is Reach.SITE


@given(st.integers(0, 10**6 - 1), st.integers(0, 10**9 - 1))
def test_nano_dollars_round_trip(whole, fraction):
    assert nano(f"{whole}.{fraction:09d}") == whole * 10**9 + fraction


@given(st.text(string.printable + "é北", max_size=200))
def test_any_text_is_a_config_or_a_config_error(text):
    with suppress(ConfigError):
        parse(text, "t")


def test_a_secret_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("SOME_KEY", " k ")
    assert secret("SOME_KEY", "models.m") == "k"
    monkeypatch.delenv("SOME_KEY")
    with pytest.raises(ConfigError, match="SOME_KEY is not set"):
        secret("SOME_KEY", "models.m")


async def test_what_fails_on_opening_names_the_file_too(monkeypatch):
    monkeypatch.delenv("SOME_KEY", raising=False)
    table = {
        "engine": "openai",
        "url": "http://127.0.0.1:1/v1",
        "model": "m",
        "key_env": "SOME_KEY",
    }
    with pytest.raises(ConfigError) as caught:
        async with build.member("m", table, "t.toml"):
            pass
    said = "t.toml: [models.m] key_env: the environment variable SOME_KEY is not set"
    assert str(caught.value) == said
    table = {"engine": "llama_cpp", "weights": "smollm2-135"}
    with pytest.raises(WeightsError, match=r"t\.toml: .*did you mean 'smollm2-135m'"):
        async with build.member("m", table, "t.toml"):
            pass
