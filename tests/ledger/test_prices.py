"""The price table: sourced, dated, exact in dollars, and what members make of it."""

from __future__ import annotations

from datetime import date
from fractions import Fraction

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from bicameral.config import convert, nano
from bicameral.config import parse as parse_config
from bicameral.engines.openai import Options
from bicameral.errors import ConfigError
from bicameral.ledger.prices import decimal, filled, in_dollars, parse, row, table
from bicameral.ledger_cli import prices as commands
from bicameral.types import Usage

TODAY = date(2026, 11, 22)
DATED = 'source = "https://example.com/p"\ndate = "2026-01-02"\n'
SOME = f'[prices."x/y"]\ninput = "1"\noutput = "2"\n{DATED}'
CHAT = {"engine": "openai", "preset": "openai", "model": "m"}


def price(**keys):
    """The price that the engine finds in a table filled from its row."""
    return convert(filled({**CHAT, **keys}, "models.a", "f"), Options, "f", "models.a").price()


# --- the table that comes with Bicameral --------------------------------------------------------


@pytest.mark.parametrize("name", table().prices)
def test_every_row_makes_a_price(name):
    found = row(name)
    assert found.date <= TODAY
    assert not price(price_of=name).free


def test_the_rows_cover_what_providers_charge_for():
    rows = table().prices.values()
    assert all(any(getattr(r, key) for r in rows) for key in ("tiers", "cached_input", "image"))
    assert any(r.currency == "CNY" for r in rows)


def test_a_minute_is_sixty_seconds_exactly():
    usage = Usage(media_ms=60_000)
    assert price(price_of="openai/whisper-1").cost(usage) == nano("0.006")


def test_tiers_hold_from_their_first_token_on():
    grok = price(price_of="xai/grok-4.20")
    below, at = (Usage(prompt_tokens=n, completion_tokens=0) for n in (199_999, 200_000))
    assert grok.cost(below) == 199_999 * 1250
    assert grok.cost(at) == 200_000 * 2500


def test_yuan_become_dollars_at_the_rate_of_the_table():
    exact = Fraction(8) / Fraction(table().rates["CNY"].per_dollar) * 10**9
    assert price(price_of="glm/glm-5.3").input == round(exact)  # half to even, as we do


# --- what a member gets -------------------------------------------------------------------------


def test_a_table_without_price_of_stays_as_it_is():
    assert filled(CHAT, "models.a", "f") == CHAT
    assert price() is None


def test_what_the_config_says_wins_key_by_key():
    own = price(price_of="openai/gpt-5.1", price_output="3")
    assert (own.input, own.cached_input, own.output) == (nano("1.25"), nano("0.125"), nano("3"))
    assert price(price_of="xai/grok-4.20", price_tiers=[]).tiers == ()


def test_an_unknown_row_is_named_with_the_nearest():
    with pytest.raises(ConfigError) as raised:
        filled({**CHAT, "price_of": "openai/gpt-5.l"}, "models.a", "my.toml")
    for said in ("my.toml", "[models.a]", "price_of", "'openai/gpt-5.l'", "'openai/gpt-5.1'"):
        assert said in str(raised.value)
    with pytest.raises(ConfigError, match="price_of"):
        price(price_of=5)


# --- the check of a table -----------------------------------------------------------------------


def test_a_good_table_is_read():
    assert parse(SOME, "t").options("x/y") == {"price_input": "1", "price_output": "2"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "not valid TOML"),
        ("[prizes.x]", "prizes"),
        ("prices = 1", "no table of it"),
        (SOME + 'inputs = "1"', "unknown key 'inputs'; did you mean 'input'"),
        (SOME.replace('"1"', '"$1"'), "input"),
        (SOME.replace('"1"', "1"), "input"),
        (SOME.replace('"1"', '"-1"'), "input"),
        (SOME.replace('"1"', '"1e2"'), "input"),
        (SOME.replace('"1"', '"0.0000000001"'), "less than a nano-dollar"),
        (SOME.replace("2026-01-02", "2026-13-02"), "date"),
        (SOME.replace("https://example.com/p", "somebody said"), "source"),
        (SOME.replace('date = "2026-01-02"', ""), "date"),
        (SOME.replace('source = "https://example.com/p"', ""), "source"),
        (SOME.replace('output = "2"', ""), "go together"),
        (SOME.replace('input = "1"\noutput = "2"', ""), "says no price"),
        (SOME.replace('input = "1"\noutput = "2"', 'image = "1"\nreasoning = "2"'), "give both"),
        (SOME + 'currency = "CNY"', r"no \[rates.CNY\]"),
        (f'{SOME}[rates.CNY]\nper_dollar = "0"\n{DATED}', "more than 0"),
        (SOME + 'tiers = [{from_tokens = 5, input = "1", output = "1", price = "1"}]', "price"),
        (
            SOME + "tiers = [" + 2 * '{from_tokens = 5, input = "1", output = "1"},' + "]",
            "must grow",
        ),
    ],
)
def test_a_wrong_table_is_refused(text, said):
    with pytest.raises(ConfigError, match=said) as raised:
        parse(text, "t.toml")
    assert str(raised.value).startswith("t.toml: ")


def test_a_row_is_as_old_as_its_exchange_rate():
    rates = f'[rates.CNY]\nper_dollar = "7"\n{DATED.replace("2026", "2025")}'
    found = parse(SOME + 'currency = "CNY"\n' + rates, "t")
    assert found.dated(found.row("x/y")) == date(2025, 1, 2)


@pytest.mark.parametrize(
    ("amount", "per_dollar", "dollars"),
    [
        ("0.0000000005", "1", "0"),  # half a nano-dollar, to even
        ("0.0000000015", "1", "0.000000002"),
        ("0.000000001500000001", "1", "0.000000002"),
        ("1", "3", "0.333333333"),
        ("2", "3", "0.666666667"),
        ("10.00", "1", "10"),
    ],
)
def test_dollars_are_rounded_half_even_once(amount, per_dollar, dollars):
    assert in_dollars(amount, Fraction(per_dollar)) == dollars


@given(st.integers(-(10**15), 10**15))
def test_a_decimal_is_exact(nanos):
    assert Fraction(decimal(nanos)) * 10**9 == nanos


@given(st.integers(0, 10**9 - 1), st.integers(1, 10**6))
def test_a_conversion_is_off_by_half_a_nano_dollar_at_most(micros, rate):
    exact = Fraction(micros, 10**6) / Fraction(rate, 1000)
    converted = Fraction(in_dollars(decimal(micros * 1000), Fraction(rate, 1000)))
    assert abs(converted - exact) <= Fraction(1, 2 * 10**9)


# --- the commands -------------------------------------------------------------------------------


def found(text, today=TODAY):
    config = parse_config(text, "f")
    return {finding.member: finding for finding in commands.findings(config, today)}


def test_members_without_a_price_are_found_and_a_row_suggested():
    by_name = found("""
        [models.chat]
        engine = "openai"
        preset = "openai"
        model = "gpt-5.1-2025-11-13"
        [models.claude]
        engine = "anthropic"
        model = "claude-opus-5"
        [models.script]
        engine = "scripted"
        [models.local]
        engine = "llama_cpp"
        weights = "x.gguf"
        [models.own]
        engine = "scripted"
        price_input = "0"
        price_output = "0"
    """)
    assert [name for name, finding in by_name.items() if finding.lacks] == [
        "chat",
        "claude",
        "script",
    ]
    assert '"openai/gpt-5.1"' in by_name["chat"].told
    assert '"anthropic/claude-opus-5"' in by_name["claude"].told
    assert "no row looks like it" in by_name["script"].told


def test_the_age_of_a_row_is_told_and_that_it_is_old():
    text = '[models.a]\nengine = "scripted"\nprice_of = "google/gemini-3.5-flash"\n'
    fresh, old = found(text)["a"], found(text, date(2027, 3, 20))["a"]
    assert "2026-09-20, 63 days old" in fresh.told
    assert fresh.remarks == ()
    assert "older than 180 days: see https://" in old.remarks[0]


def test_a_price_that_disagrees_with_its_row_is_told():
    told = found("""
        [models.a]
        engine = "scripted"
        price_of = "xai/grok-4.20"
        price_input = "1.250"
        price_output = "3"
        price_image = "1"
        price_tiers = [{ from_tokens = 7, input = "1", output = "1" }]
    """)["a"].remarks
    assert [remark.split()[0] for remark in told] == ["price_output", "price_image", "price_tiers"]


def run(*words):
    app = typer.Typer()
    app.add_typer(commands.app, name="prices")
    return CliRunner().invoke(app, ["prices", *words], env={"COLUMNS": "300"})


def test_the_list_names_rows_dates_and_sources():
    result = run("list")
    assert result.exit_code == 0
    for said in ("deepseek/deepseek-flash", "CNY", "from 200000 tokens on", "~2026-"):
        assert said in result.output


def test_the_check_fails_if_a_price_is_missing(config_file):
    path = config_file('[models.a]\nengine = "scripted"\n')
    assert run("check", "--config", str(path)).exit_code == 1
    config_file('[models.a]\nengine = "scripted"\nprice_of = "openai/gpt-5.1"\n')
    result = run("check", "--config", str(path))
    assert (result.exit_code, result.output[0]) == (0, "✓")
