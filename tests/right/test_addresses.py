"""Which addresses and names are those of the internet."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from bicameral.right.addresses import is_name, is_public, named


@pytest.mark.parametrize(
    "address",
    [
        *("8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1"),
        *("169.253.0.1", "192.167.1.1", "223.255.255.255", "126.255.255.255", "128.0.0.1"),
        *("2606:4700:4700::1111", "2a00:1450:4001::200e", "64:ff9b::808:808", "2400:cb00::1"),
    ],
)
def test_public(address):
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "0.1.2.3", "10.1.2.3", "127.0.0.1", "127.255.255.254", "169.254.169.254"),
        *("172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.100.100.200"),
        *("192.0.0.192", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255"),
        *("198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1"),
        *("255.255.255.255", "168.63.129.16"),
        *("::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "fc00::1"),
        *("fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "2001:db8::1"),
        *("2001:0:4136:e378:8000:63bf:3fff:fdd2", "2002:7f00:1::", "2002:a9fe:a9fe::"),
        *("64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::8.8.8.8", "100::1"),
        *("2a00::5efe:10.0.0.1", "2a00::200:5efe:8.8.8.8", "3fff::1", "5f00::1", "4000::1"),
    ],
)
def test_not_public(address):
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "host", ["example.com", "a.b.c.example.com.", "xn--p1ai.xn--p1ai", "a_b.io"]
)
def test_names(host):
    assert is_name(host)


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "intranet.", "127.1", "1", "0x7f.1", "a.0x", "a.0x7f", "a.123", "a.b.0177"),
        *("a..b", ".a.b", "a.-b", "a-.b", "a b.c", "a%2e.b", "é.com", "", ".", "A.B", "a/b.c"),
        *(f"{'a' * 64}.com", ".".join(["a" * 60] * 5), "a.b:80", "[::1]", "a.b\n"),
    ],
)
def test_no_names(host):
    assert not is_name(host)


def test_a_star_stands_for_names_below():
    allowed = ("a.com", "*.b.com")
    assert [named(h, allowed) for h in ("a.com", "a.com.", "x.b.com", "x.y.b.com")] == [True] * 4
    assert not any(named(h, allowed) for h in ("x.a.com", "b.com", "xb.com", "a.com.x"))
