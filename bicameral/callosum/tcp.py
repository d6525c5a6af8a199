"""Links between hosts: a TCP connection whose ends first prove that they share a secret.

Each proves it over numbers that both chose (HMAC-SHA256), so neither sends the secret and an
overheard proof is of no use. What follows is neither encrypted nor signed: use a network you trust,
or a tunnel. These functions block up to `timeout` seconds; call them from a thread in an event
loop.
"""

from __future__ import annotations

import hmac
import secrets
import socket
import time

from bicameral.callosum.channel import Stream
from bicameral.callosum.packets import LinkError
from bicameral.callosum.pool import Pool
from bicameral.config import secret

_NONCE = 32
_PROOF = 32
_SHORTEST = 16  # bytes of a secret


def connect(host: str, port: int, pool: Pool, *, key_env: str, timeout: float = 5.0) -> Stream:
    """Call a listening end; `key_env` names the environment variable with the secret.

    Arrays of the peer land in `pool`. ConfigError without a secret, LinkError if nobody listens
    there or the peer does not share it.
    """
    key = _key(key_env)
    try:
        sock = socket.create_connection((host, port), timeout)
    except OSError as error:
        raise LinkError(f"{host}:{port} cannot be reached: {error}") from error
    return _proven(sock, pool, key, timeout, calls=True)


def accept(sock: socket.socket, pool: Pool, *, key_env: str, timeout: float = 5.0) -> Stream:
    """Take an accepted connection over; closed, with a LinkError, unless it shares the secret."""
    return _proven(sock, pool, _key(key_env), timeout, calls=False)


def _proven(sock: socket.socket, pool: Pool, key: bytes, timeout: float, *, calls: bool) -> Stream:
    try:
        _prove(sock, key, time.monotonic() + timeout, calls=calls)
    except LinkError:
        sock.close()
        raise
    except OSError as error:
        sock.close()
        raise LinkError(f"the peer did not prove itself: {error}") from error
    return Stream(sock, pool)


def _prove(sock: socket.socket, key: bytes, deadline: float, *, calls: bool) -> None:
    """The caller proves itself first, so a stranger gets nothing to work on."""
    mine = secrets.token_bytes(_NONCE)
    sock.settimeout(max(0.01, deadline - time.monotonic()))
    sock.sendall(mine)
    theirs = _exactly(sock, _NONCE, deadline)
    if calls:
        sock.sendall(_proof(key, b"caller", mine, theirs))
    expected = _proof(key, b"listener" if calls else b"caller", theirs, mine)
    if not hmac.compare_digest(_exactly(sock, _PROOF, deadline), expected):
        raise LinkError("the peer does not share our secret; set the same one on both hosts")
    if not calls:
        sock.sendall(_proof(key, b"listener", mine, theirs))


def _proof(key: bytes, role: bytes, own: bytes, other: bytes) -> bytes:
    return hmac.digest(key, b"bicameral link 1 " + role + own + other, "sha256")


def _exactly(sock: socket.socket, count: int, deadline: float) -> bytes:
    data = b""
    while len(data) < count:
        sock.settimeout(max(0.01, deadline - time.monotonic()))
        piece = sock.recv(count - len(data))
        if not piece:
            raise LinkError("the peer hung up before it proved itself; is its secret the same?")
        data += piece
        if time.monotonic() > deadline:
            raise LinkError("the peer took too long to prove itself")
    return data


def _key(variable: str) -> bytes:
    key = secret(variable, "link").encode()
    if len(key) < _SHORTEST:
        raise LinkError(f"the secret in {variable} is too short: use at least {_SHORTEST} bytes")
    return key
