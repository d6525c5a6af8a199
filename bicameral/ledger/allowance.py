"""How much of a hold the limits of a key allow: pure, from what is spent and held already."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from bicameral.errors import LimitError
from bicameral.ledger.entry import windows
from bicameral.ledger.keys import Key, Unit, Window

_WINDOWS: tuple[Window, ...] = ("day", "month", "ever")
_SOON = 1.0


def allowed(
    tally: Callable[[str], int],
    key: Key,
    least: int,
    most: int | None,
    tokens: int,
    day: str,
    now: int,
) -> int | None:
    """The nano-dollars that may be held: at least `least`, at most `most`; LimitError if fewer.

    None if `most` is: then none are. `tokens` are held whole or not at all. `now` is Unix
    milliseconds, `day` its UTC day.
    """
    _room(tally, key, "tokens", tokens, tokens, day, now)
    return None if most is None else _room(tally, key, "money", least, most, day, now)


def _room(
    tally: Callable[[str], int], key: Key, unit: Unit, least: int, most: int, day: str, now: int
) -> int:
    """What the tightest limit leaves of `most`; LimitError with that limit if less than `least`.

    What is free is allowed however much was spent.
    """
    held = tally(f"held/{key.id}/{unit}")
    room = most
    if (limit := _fits(key, "request", unit, least)) is not None:
        room = min(room, limit)
    for window, name in zip(_WINDOWS, windows(day), strict=True):
        if (limit := _fits(key, window, unit, least)) is None:
            continue
        spent = tally(f"spent/{key.id}/{unit}/{name}")
        room = min(room, _left(key, window, unit, limit - spent, held, least, now))
    if unit == "money" and key.limits.prepaid:
        paid_in = tally(f"account/caller/{key.id}")
        room = min(room, _left(key, "prepaid", unit, paid_in, held, least, now))
    return room


def _fits(key: Key, window: Window, unit: Unit, least: int) -> int | None:
    """That limit; LimitError if it would not do for this request even if nothing was spent."""
    limit = key.limits.of(window, unit)
    if limit is not None and limit < least:
        told = _told(key, window, unit, least, limit)
        raise LimitError(f"{told}: set a lower max_tokens", limit=f"{window}_{unit}")
    return limit


def _left(key: Key, window: str, unit: Unit, unspent: int, held: int, least: int, now: int) -> int:
    if (left := max(0, unspent - held)) >= least:
        return left
    if held > 0 and unspent >= least:
        raise LimitError(
            f"{_told(key, window, unit, least, left)}; requests that are still being "
            f"answered hold {_amount(unit, held)} of it: try again when they have ended",
            limit=f"{window}_{unit}",
            resets=_SOON,
            spent=False,
        )
    resets = _resets(window, now)
    when = "" if resets is None else f"; it is renewed in {_span(resets)}"
    raise LimitError(
        _told(key, window, unit, least, left) + when,
        limit=f"{window}_{unit}",
        resets=resets,
    )


def _told(key: Key, window: str, unit: Unit, least: int, left: int) -> str:
    what = {"ever": "total", "request": "per-request"}.get(window, window)
    kind = "budget" if unit == "money" else "token limit"
    return (
        f"the {what} {kind} of the key {key.name} leaves {_amount(unit, left)}, this request "
        f"needs {_amount(unit, least)}"
    )


def _amount(unit: Unit, amount: int) -> str:
    return f"{amount} tokens" if unit == "tokens" else dollars(amount)


def dollars(amount: int) -> str:
    """Nano-dollars in dollars, exactly, with no zeros at the end but two."""
    whole, rest = divmod(abs(amount), 10**9)
    cents = f"{rest:09}".rstrip("0").ljust(2, "0")
    return f"{'-' if amount < 0 else ''}${whole}.{cents}"


def _resets(window: str, now: int) -> float | None:
    """Seconds until a UTC day or month begins; None for what is never renewed."""
    at = datetime.fromtimestamp(now / 1000, UTC)
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    if window == "day":
        return (midnight + timedelta(days=1) - at).total_seconds()
    if window == "month":
        first = (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
        return (first - at).total_seconds()
    return None


def _span(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours / 24:.1f} days" if hours > 48 else f"{hours:.1f} h"
