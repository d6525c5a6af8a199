"""Who may ask: API keys, kept as hashes only, and no web page of somebody else's on loopback."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from bicameral.config import ServerOptions
from bicameral.errors import ConfigError
from bicameral.server.errors import Refused

MIN_KEY = 16
_CHALLENGE = ((b"www-authenticate", b"Bearer"),)


class Access:
    """Checks the headers of a request; an address that others can reach needs keys."""

    def __init__(self, options: ServerOptions) -> None:
        self._hashes = tuple(_hash(key) for key in _keys(options.keys_env))
        self._known_hosts: set[bytes | None] = set()
        if not self._hashes and not is_loopback(options.host):
            raise ConfigError(
                f"[server] host: {options.host} can be reached by others, so it needs API keys: "
                "name an environment variable that holds them with keys_env"
            )

    def check(self, headers: Mapping[bytes, bytes]) -> str:
        """Who asks: a digest of their key, "" without keys. Raise Refused if they may not."""
        if self._hashes:
            return self._check_key(headers.get(b"authorization"))
        self.check_page(headers)
        return ""

    def check_page(self, headers: Mapping[bytes, bytes]) -> None:
        """Without keys only this machine may ask, and no web page of another site through it.

        The Host check stops DNS rebinding, the Origin check cross-site requests.
        """
        if self._hashes:
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
            raise Refused(
                401,
                "no API key: send the header Authorization: Bearer KEY",
                "invalid_api_key",
                headers=_CHALLENGE,
            )
        given = _hash(key.strip())
        good = False
        for known in self._hashes:
            good |= hmac.compare_digest(given, known)
        if not good:
            raise Refused(401, "this API key is not known", "invalid_api_key", headers=_CHALLENGE)
        return given.hex()[:32]


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
