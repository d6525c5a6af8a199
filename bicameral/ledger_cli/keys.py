"""`bicameral keys`: make, list, change and revoke API keys. A secret is shown once, when made."""

from __future__ import annotations

import re
import secrets
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from msgspec.structs import replace

from bicameral.config import Config, nano, nearest
from bicameral.errors import RequestError
from bicameral.ledger.allowance import dollars
from bicameral.ledger.book import wall
from bicameral.ledger.entry import KeySet, today, windows
from bicameral.ledger.keys import Key, Limits, make
from bicameral.ledger.store import Store
from bicameral.ledger_cli.opening import ConfigPath, opened
from bicameral.terminal import err, out

keys = typer.Typer(
    help="API keys: who may ask, which minds, and what they may spend.", no_args_is_help=True
)

_NAME = re.compile(r"[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]{0,63}")
_DAYS = re.compile(r"(\d{1,5})d")
_MOST = 2**53
_KINDS = ("money", "tokens")
_SPANS = ("request", "day", "month", "ever")
_NONE = "none"


def _dollars(span: str) -> Any:
    return typer.Option(help=f"Dollars {span}, as 0.05; none: no limit.", metavar="DOLLARS")


def _count(what: str) -> Any:
    return typer.Option(help=f"{what}; none: no limit.", metavar="NUMBER")


Minds = Annotated[
    str | None, typer.Option(help="The minds and members it may ask, as a,b; all: every one.")
]
RequestMoney = Annotated[str | None, _dollars("a request")]
DayMoney = Annotated[str | None, _dollars("a day (UTC)")]
MonthMoney = Annotated[str | None, _dollars("a month (UTC)")]
EverMoney = Annotated[str | None, _dollars("in all")]
RequestTokens = Annotated[str | None, _count("Tokens a request")]
DayTokens = Annotated[str | None, _count("Tokens a day")]
MonthTokens = Annotated[str | None, _count("Tokens a month")]
EverTokens = Annotated[str | None, _count("Tokens in all")]
MinuteRequests = Annotated[str | None, _count("Requests in any minute, by each server process")]
MinuteTokens = Annotated[str | None, _count("Tokens in any minute, by each server process")]
Prepaid = Annotated[
    bool | None, typer.Option("--prepaid/--no-prepaid", help="Only what was paid in for it.")
]
Expires = Annotated[
    str | None,
    typer.Option(help="Until a day begins (UTC), 2027-01-31, or for 30d; none: it does not."),
]


@keys.command()
def new(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Whose or what for; no two keys may share it.")],
    minds: Minds = None,
    request_money: RequestMoney = None,
    day_money: DayMoney = None,
    month_money: MonthMoney = None,
    ever_money: EverMoney = None,
    request_tokens: RequestTokens = None,
    day_tokens: DayTokens = None,
    month_tokens: MonthTokens = None,
    ever_tokens: EverTokens = None,
    requests_per_minute: MinuteRequests = None,
    tokens_per_minute: MinuteTokens = None,
    prepaid: Prepaid = None,
    expires: Expires = None,
    config: ConfigPath = None,
) -> None:
    """Make a key. Its secret goes to stdout, now and never again."""
    if not _NAME.fullmatch(name):
        raise RequestError("NAME: give 1 to 64 printable characters")
    with opened(config) as (loaded, store):
        changes = _changes(context.params, Limits(), loaded)
        secret, key = make(name, **changes)
        if not _named(store, key):
            raise RequestError(f"there is a key {name} already: revoke it first, or choose a name")
    err.print(f"{key.id}, {name}: {_terms(key)}", markup=False)
    err.print("the secret, which is shown only now:", style="bold")
    sys.stdout.write(secret + "\n")


@keys.command("list")
def list_(config: ConfigPath = None) -> None:
    """Every key: its limits, what it spent, what its running requests hold."""
    with opened(config) as (_, store):
        now = wall()
        for key in sorted(store.keys().values(), key=lambda k: (k.name, k.id)):
            state = key.standing(now / 1000)
            out.print(
                f"{key.name}  {key.id}  {key.hint}…" + ("" if state == "good" else f"  {state}"),
                markup=False,
            )
            out.print(f"  {_terms(key)}", markup=False)
            out.print(f"  {_spent(store, key, now)}", markup=False)


@keys.command("set")
def set_(
    context: typer.Context,
    key: Annotated[str, typer.Argument(help="Its id, or its name.", metavar="ID_OR_NAME")],
    minds: Minds = None,
    request_money: RequestMoney = None,
    day_money: DayMoney = None,
    month_money: MonthMoney = None,
    ever_money: EverMoney = None,
    request_tokens: RequestTokens = None,
    day_tokens: DayTokens = None,
    month_tokens: MonthTokens = None,
    ever_tokens: EverTokens = None,
    requests_per_minute: MinuteRequests = None,
    tokens_per_minute: MinuteTokens = None,
    prepaid: Prepaid = None,
    expires: Expires = None,
    config: ConfigPath = None,
) -> None:
    """Change a key's limits; what is not given stays as it is."""
    with opened(config) as (loaded, store):
        before = _find(store, key)
        after = replace(before, **_changes(context.params, before.limits, loaded))
        if after == before:
            raise RequestError("nothing to change: give a limit, as --day-money 5")
        _write(store, after)
    err.print(f"{after.id}, {after.name}: {_terms(after)}", markup=False)


@keys.command()
def revoke(
    key: Annotated[str, typer.Argument(help="Its id, or its name.", metavar="ID_OR_NAME")],
    config: ConfigPath = None,
) -> None:
    """Let a key ask no more, for good; requests that are being answered end as usual."""
    with opened(config) as (_, store):
        found = _find(store, key)
        _write(store, replace(found, revoked=True))
    err.print(f"{found.id}, {found.name}: revoked; servers know it within seconds", markup=False)


# --- what was given -------------------------------------------------------------------------------


def _changes(given: Mapping[str, Any], limits: Limits, config: Config) -> dict[str, Any]:
    """The fields of a Key that the command's parameters change; RequestError names the option."""
    changes: dict[str, Any] = {}
    if given["minds"] is not None:
        changes["minds"] = _minds(given["minds"], config)
    if given["expires"] is not None:
        changes["expires"] = _expires(given["expires"])
    changed = {
        name: _limit(name, value)
        for name, value in given.items()
        if name in Limits.__struct_fields__ and value is not None
    }
    return {**changes, "limits": replace(limits, **changed)}


def _limit(name: str, value: Any) -> int | bool | None:
    if isinstance(value, bool) or value == _NONE:
        return value if isinstance(value, bool) else None
    option = "--" + name.replace("_", "-")
    if name.endswith("_money"):
        try:
            return nano(value)
        except ValueError as error:
            raise RequestError(f"{option}: {error}") from error
    least = 1 if name.endswith("_minute") else 0
    if not re.fullmatch(r"[0-9]{1,16}", value) or not least <= int(value) <= _MOST:
        raise RequestError(f"{option}: '{value}' is no whole number from {least} on")
    return int(value)


def _minds(text: str, config: Config) -> tuple[str, ...] | None:
    if text == "all":
        return None
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    known = (*config.minds, *config.models)
    if not names:
        raise RequestError("--minds: names none; write a,b, or all")
    for name in names:
        if name not in known:
            raise RequestError(f"--minds: there is no model '{name}'; {nearest(name, known)}")
    return names


def _expires(text: str) -> int | None:
    if text == _NONE:
        return None
    if days := _DAYS.fullmatch(text):
        return int(time.time()) + int(days[1]) * 86_400
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise RequestError(f"--expires: '{text}' is no day; write 2027-01-31 or 30d") from error
    if day.timestamp() <= time.time():
        raise RequestError(f"--expires: {text} has begun already; use `bicameral keys revoke`")
    return int(day.timestamp())


# --- what is kept ---------------------------------------------------------------------------------


def _named(store: Store, key: Key) -> bool:
    """Write a new key; False if a living one has its name, though it was made this moment.

    The name and how many keys had it before are the entry's id, so two at once cannot both be
    written.
    """
    same = [known for known in store.keys().values() if known.name == key.name]
    if any(not known.revoked for known in same):
        return False
    body = KeySet(id=f"key/{len(same) + 1}/{key.name}", key=key)
    return store.write(lambda draft: draft.put(body, wall()))


def _write(store: Store, key: Key) -> None:
    body = KeySet(id=f"{key.id}/{secrets.token_hex(8)}", key=key)
    store.write(lambda draft: draft.put(body, wall()))


def _find(store: Store, name: str) -> Key:
    """The key of that id, or the living one of that name."""
    known = [key for key in store.keys().values() if not key.revoked]
    found = {key.name: key for key in known} | {key.id: key for key in known}
    if name not in found:
        near = nearest(name, tuple(key.name for key in known)) if known else "there are none"
        raise RequestError(f"there is no key '{name}'; {near}")
    return found[name]


# --- what is shown --------------------------------------------------------------------------------


def _terms(key: Key) -> str:
    """Its limits, minds and end in one line."""
    limits = key.limits
    told = [
        f"{_amount(kind, limit)} {'in all' if span == 'ever' else f'a {span}'}"
        for kind in _KINDS
        for span in _SPANS
        if (limit := getattr(limits, f"{span}_{kind}")) is not None
    ]
    told += [
        f"{limit} {what} a minute"
        for what in ("requests", "tokens")
        if (limit := getattr(limits, f"{what}_per_minute")) is not None
    ]
    if limits.prepaid:
        told.append("prepaid")
    told = [", ".join(told) or "no limits"]
    told.append("every mind" if key.minds is None else f"minds {', '.join(key.minds)}")
    if key.expires is not None:
        told.append(f"until {datetime.fromtimestamp(key.expires, UTC):%Y-%m-%d %H:%M} UTC")
    return "; ".join(told)


def _spent(store: Store, key: Key, now: int) -> str:
    day, month, _ = windows(today(now))
    money = [dollars(store.tally(f"spent/{key.id}/money/{w}")) for w in (day, month)]
    tokens = [store.tally(f"spent/{key.id}/tokens/{w}") for w in (day, month)]
    held = store.tally(f"held/{key.id}/money"), store.tally(f"held/{key.id}/tokens")
    told = (
        f"spent {money[0]} and {tokens[0]} tokens today, {money[1]} and {tokens[1]} tokens this "
        f"month; held {dollars(held[0])} and {held[1]} tokens"
    )
    if key.limits.prepaid:
        told += f"; {dollars(store.tally(f'account/caller/{key.id}'))} paid in is left"
    return told


def _amount(kind: str, amount: int) -> str:
    return dollars(amount) if kind == "money" else f"{amount} tokens"
