"""Who listens on a port of this machine, and on which addresses."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTEN = "0A"
HOST = "127.0.0.1"


def free_port() -> int:
    """A port that nobody listens on at this moment; somebody may in the next."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def taken(port: int) -> bool:
    """Whether a server could not listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return True
    return False


def strangers(port: int, session: int) -> bool:
    """Whether a process outside `session` listens on the port; False where nobody can tell."""
    sockets = {f"socket:[{inode}]" for _, inode in _listeners(port)}
    return bool(sockets) and not any(sockets & _held(pid) for pid in _pids(session))


def exposed(port: int) -> str | None:
    """An address beyond loopback that the port listens on, if there is one."""
    addresses = (address for address, _ in _listeners(port))
    return next((str(a) for a in addresses if not a.is_loopback), None)


Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _listeners(port: int) -> Iterator[tuple[Address, str]]:
    """Address and inode of every socket that listens; see proc_net(5) for the columns."""
    for table in _TABLES:
        with suppress(OSError):
            for line in table.read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                address, _, number = fields[1].rpartition(":")
                if fields[3] == _LISTEN and int(number, 16) == port:
                    yield _address(address), fields[9]


def _address(text: str) -> Address:
    """From words of four bytes in this machine's own order."""
    raw = bytes.fromhex(text)
    words = (raw[i : i + 4] for i in range(0, len(raw), 4))
    packed = b"".join(socket.htonl(int.from_bytes(w, "big")).to_bytes(4, "big") for w in words)
    address = ipaddress.ip_address(packed)
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def _pids(session: int) -> Iterator[int]:
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if os.getsid(int(name)) == session:
                yield int(name)


def _held(pid: int) -> set[str]:
    held = set()
    with suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                held.add(os.readlink(link))
    return held
