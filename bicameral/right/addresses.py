"""Which hosts and addresses of the internet a fetch may go to. Pure: nothing is looked up here.

The ranges are those of the IANA special-purpose registries (RFC 6890), kept here because the
ipaddress module's own lists differ between versions of Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address

_SPECIAL_4 = tuple(
    IPv4Network(net)
    for net in (
        "0.0.0.0/8",  # this network, unspecified
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; a metadata service of one cloud
        "127.0.0.0/8",
        "168.63.129.16/32",  # the host agent of one cloud: public by number, internal by use
        "169.254.0.0/16",  # link-local; metadata services
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
_UNICAST_6 = IPv6Network("2000::/3")  # mapped, compatible, local and multicast lie outside
_SPECIAL_6 = tuple(
    IPv6Network(net)
    for net in (
        "2001::/23",  # protocol assignments; Teredo, which embeds an IPv4 address
        "2001:db8::/32",
        "2002::/16",  # 6to4, which embeds an IPv4 address
        "3fff::/20",
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})  # above an embedded IPv4 address

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def is_public(address: Address) -> bool:
    """Whether `address` is an ordinary host of the internet, embedded IPv4 addresses included."""
    if isinstance(address, IPv4Address):
        return not any(address in net for net in _SPECIAL_4)
    if address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    return (
        address in _UNICAST_6
        and not any(address in net for net in _SPECIAL_6)
        and (int(address) >> 32) & 0xFFFFFFFF not in _ISATAP
    )


def literal(host: str) -> Address | None:
    """The address that `host` writes in the one canonical way; None if it writes none."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def is_name(host: str) -> bool:
    """Whether the ASCII `host` is a full domain name that nobody could read as a number.

    Resolvers take 127.1, 0177.0.0.1, 0x7f.1 and 2130706433 for addresses; a name without a dot
    is one of the local network.
    """
    labels = host.removesuffix(".").split(".")
    return (
        len(host) <= 253
        and len(labels) > 1
        and all(map(_LABEL.fullmatch, labels))
        and not _NUMBER.fullmatch(labels[-1])
    )


def named(host: str, allowed: Iterable[str]) -> bool:
    """Whether `host` is one of `allowed`; '*.example.com' stands for every name below it."""
    host = host.removesuffix(".")
    return any(
        host.endswith(entry[1:]) if entry.startswith("*.") else host == entry for entry in allowed
    )
