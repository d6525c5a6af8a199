"""Who may ask: API keys, kept as hashes only, and no web page of somebody else's on loopback."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from bicameral.config import ServerOptions
from bicameral.errors import ConfigError
from bicameral.ledger.keys import Key, digest
from bicameral.ledger.pace import Counted
from bicameral.ledger.till import Till
from bicameral.server.errors import Refused

log = logging.getLogger("bicameral.server")
MIN_KEY = 16
_CHALLENGE = ((b"www-authenticate", b"Bearer"),)
_COUNTED: tuple[Counted, ...] = ("requests", "tokens")


class Access:
    """Checks the headers of a request.

    Keys are those of the environment (keys_env), which have no limits, and those in the ledger,
    which count from two seconds after they were made. As soon as there is one of either, also a
    revoked one, nobody may ask without a key, on loopback too. Without any, everyone on this
    machine may ask, and on an address that others can reach nobody. A key is taken from the header
    Authorization and from nowhere else.
    """

    def __init__(self, options: ServerOptions) -> None:
        self._hashes = tuple(_hash(key) for key in _keys(options.keys_env))
        self._known_hosts: set[bytes | None] = set()
        self._host = options.host
        self._till: Till | None = None

    def open(self, till: Till | None) -> None:
        """Let the keys in the ledger in; ConfigError if others can reach us and there can be none.

        Before that none of them is known.
        """
        self._till = till
        if not self._hashes and till is None and not is_loopback(self._host):
            raise ConfigError(
                f"[server] host: {self._host} can be reached by others, so it needs API keys: "
                "name an environment variable that holds them with keys_env, or add a [ledger] "
                "and make them with `bicameral keys new`"
            )
        if self.locked and not self._hashes and not self._known:
            log.warning("nobody may ask yet: make a key with `bicameral keys new`")

    @property
    def locked(self) -> bool:
        """Whether nobody may ask without a key."""
        return bool(self._hashes) or self._known or not is_loopback(self._host)

    @property
    def _known(self) -> bool:
        """Whether there is any key in the ledger."""
        return self._till is not None and bool(self._till.book.keyring.by_id)

    def check(self, headers: Mapping[bytes, bytes]) -> str:
        """Who asks: the id of their key, of one of the environment its digest, "" without keys.

        Raise Refused if they may not.
        """
        if self.locked:
            return self._check_key(headers.get(b"authorization"))
        self.check_page(headers)
        return ""

    def key(self, caller: str) -> Key | None:
        """The key in the ledger of who asks, if they have one."""
        return self._till.key(caller) if self._till else None

    def quota(self, caller: str) -> list[tuple[bytes, bytes]]:
        """OpenAI's headers on how much of a minute's limits is left, for a key that has some."""
        key = self.key(caller)
        if self._till is None or key is None or not key.limits.paced:
            return []
        headers: list[tuple[bytes, bytes]] = []
        for counted in _COUNTED:
            if quota := self._till.pace.quota(key, counted):
                told = quota.limit, quota.remaining, f"{quota.resets:.3f}s"
                headers += [
                    (f"x-ratelimit-{name}-{counted}".encode(), str(value).encode())
                    for name, value in zip(("limit", "remaining", "reset"), told, strict=True)
                ]
        return headers

    def check_page(self, headers: Mapping[bytes, bytes]) -> None:
        """Without keys only this machine may ask, and no web page of another site through it.

        The Host check stops DNS rebinding, the Origin check cross-site requests.
        """
        if self.locked:
            return
        host, origin = headers.get(b"host"), headers.get(b"origin")
        if host not in self._known_hosts:
            if host is not None and not _local(b"//" + host):
                raise Refused(403, "the Host header must name this machine", "forbidden_host")
            if len(self._known_hosts) < 64:
                self._known_hosts.add(host)
        if origin is not None and not _local(origin):
            raise Refused(403, "pages of other sites may not ask this server", "forbidden_origin")

    def _check_key(self, header: bytes | None) -> str:
        kind, _, key = (header or b"").partition(b" ")
        if kind.lower() != b"bearer" or not key.strip():
            raise _unknown("no API key: send the header Authorization: Bearer KEY")
        if (known := self._found(key.strip())) is not None:
            return self._good(known)
        given = _hash(key.strip())
        good = False
        for one in self._hashes:
            good |= hmac.compare_digest(given, one)
        if not good:
            raise _unknown("this API key is not known")
        return given.hex()[:32]

    def _found(self, secret: bytes) -> Key | None:
        """By digest: how long a look-up takes tells nothing about a secret that hashes to it."""
        return self._till.book.keyring.by_digest.get(digest(secret)) if self._till else None

    def _good(self, key: Key) -> str:
        now = self._till.book.now() / 1000 if self._till else 0.0
        standing = key.standing(now)
        if standing == "revoked":
            raise _unknown("this API key has been revoked: ask for a new one", "revoked_api_key")
        if standing == "expired":
            raise _unknown("this API key has expired: ask for a new one", "expired_api_key")
        return key.id


def _unknown(message: str, code: str = "invalid_api_key") -> Refused:
    return Refused(401, message, code, headers=_CHALLENGE)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _local(url: bytes) -> bool:
    try:
        host = urlsplit(url.decode("ascii")).hostname
    except ValueError:
        return False
    return host is not None and is_loopback(host)


def _keys(variable: str | None) -> list[bytes]:
    if variable is None:
        return []
    keys = [key.strip() for key in os.environ.get(variable, "").split(",") if key.strip()]
    if not keys:
        raise ConfigError(f"[server] keys_env: the environment variable {variable} is not set")
    if any(len(key) < MIN_KEY or not key.isascii() for key in keys):
        raise ConfigError(
            f"[server] keys_env: a key in {variable} is shorter than {MIN_KEY} characters or not "
            "ASCII; make one with `openssl rand -hex 24`"
        )
    return [key.encode() for key in keys]


def _hash(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
