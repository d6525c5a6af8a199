"""API keys: what one is, what it may do, and how it is made. Only a key's digest is ever kept."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from msgspec import Meta, Struct

_AtLeastOne = Annotated[int, Meta(ge=1)] | None
_NotNegative = Annotated[int, Meta(ge=0)] | None
Unit = Literal["money", "tokens"]
Window = Literal["request", "day", "month", "ever"]
Standing = Literal["good", "revoked", "expired"]
PREFIX = "bic_"


class Limits(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Hard limits of a key; None: no limit. Money is nano-dollars, days and months are UTC.

    `prepaid`: it may spend no more than was paid in for it.
    """

    request_money: _NotNegative = None
    day_money: _NotNegative = None
    month_money: _NotNegative = None
    ever_money: _NotNegative = None
    request_tokens: _NotNegative = None
    day_tokens: _NotNegative = None
    month_tokens: _NotNegative = None
    ever_tokens: _NotNegative = None
    requests_per_minute: _AtLeastOne = None
    tokens_per_minute: _AtLeastOne = None
    prepaid: bool = False

    def of(self, window: Window, unit: Unit) -> int | None:
        """The limit of that window and unit."""
        limit: int | None = getattr(self, f"{window}_{unit}")
        return limit

    def bounds(self, unit: Unit) -> bool:
        """Whether anything limits how much of `unit` is spent, so that it has to be held first."""
        windows: tuple[Window, ...] = ("request", "day", "month", "ever")
        return (unit == "money" and self.prepaid) or any(
            self.of(window, unit) is not None for window in windows
        )

    @property
    def paced(self) -> bool:
        """Whether anything limits how fast it may ask."""
        return self.requests_per_minute is not None or self.tokens_per_minute is not None


class Key(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key without its secret: `digest` is the SHA-256 of it in hex, `hint` its first characters.

    `id` names the caller in the book. `minds` None: it may ask every mind and member. `expires` is
    a Unix second.
    """

    id: str
    name: str
    digest: str
    hint: str = ""
    minds: tuple[str, ...] | None = None
    limits: Limits = Limits()
    expires: int | None = None
    revoked: bool = False

    def may_ask(self, mind: str) -> bool:
        """Whether it is allowed that mind or member."""
        return self.minds is None or mind in self.minds

    def standing(self, now: float) -> Standing:
        """Whether it still works at Unix second `now`, and if not why."""
        if self.revoked:
            return "revoked"
        return "expired" if self.expires is not None and now >= self.expires else "good"


class Keyring(Struct, frozen=True):
    """All keys, as they stood a moment ago."""

    by_digest: Mapping[str, Key] = {}
    by_id: Mapping[str, Key] = {}

    @classmethod
    def of(cls, keys: Mapping[str, Key]) -> Self:
        """The keyring of keys by digest."""
        return cls(keys, {key.id: key for key in keys.values()})


def make(
    name: str,
    *,
    minds: tuple[str, ...] | None = None,
    limits: Limits | None = None,
    expires: int | None = None,
) -> tuple[str, Key]:
    """A new key: its secret, to be shown once and kept nowhere, and what is kept."""
    secret = PREFIX + secrets.token_urlsafe(24)
    key = Key(
        id=f"key_{secrets.token_hex(8)}",
        name=name,
        digest=digest(secret.encode()),
        hint=secret[: len(PREFIX) + 4],
        minds=minds,
        limits=limits or Limits(),
        expires=expires,
    )
    return secret, key


def digest(secret: bytes) -> str:
    """What is kept of a secret: 192 random bits need no salt and no slow hash."""
    return hashlib.sha256(secret).hexdigest()
