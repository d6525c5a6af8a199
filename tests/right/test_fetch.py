"""Fetching by URL: what is refused sends nothing."""

from __future__ import annotations

import pytest

from bicameral.errors import ConfigError, ReachError
from bicameral.right import fetch
from bicameral.right.fetch import FetchOptions
from bicameral.types import Modality, Reach
from tests.right.fetching import (
    NAME,
    PNG,
    PRIVATE,
    Names,
    address,
    fetching,
    picture,
    real,
    refusal,
)
from tests.upstream import Upstream, reply


async def test_a_picture_comes_whole_and_nothing_of_us_goes_along(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with Upstream() as up, fetching(up) as fetcher:
        up.script(picture(Set_Cookie="a=b; Path=/"), picture())
        names = [await fetcher.get(address(up), Modality.IMAGE) for _ in range(2)]
        assert names == [(PNG, "image/png")] * 2
        for seen in up.requests:
            assert (seen.method, seen.path) == ("GET", "/cat.png")
            assert set(seen.headers) == {
                "host",
                "accept",
                "user-agent",
                "accept-encoding",
                "connection",
            }
            assert seen.headers["host"] == f"{NAME}:{up.port}"
            assert seen.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "localhost.localdomain",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "017700000001",
        "0.0.0.0",
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "127。0。0。1",  # full stops of Chinese, which IDNA takes for dots
        "①②⑦.0.0.1",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
    ],
)
async def test_no_spelling_of_this_machine_is_connected_to(host):
    async with Upstream() as up, real(up) as fetcher:
        error = await refusal(fetcher, address(up, host=host))
        assert (error.code, error.param) == ("blocked_url", "messages")
        assert up.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://media.example.org/",
        "ftp://media.example.org/cat.png",
        "data:image/png;base64,AA==",
        "//media.example.org/cat.png",
        "cat.png",
        "",
        "http://",
        "http:///cat.png",
        "http://intranet/cat.png",
        "http://media.example.org:99999/",
        "http://media.example.org:0/",
        "http://media.example.org:22/",
        "http://exa mple.org/",
        "http://media.example.org\r\nHost: x/",
        "http://media\\@example.org/",
        "http://-a.example.org/",
        f"http://{'a' * 64}.org/",
        f"http://media.example.org/{'a' * 9000}",
    ],
)
async def test_what_is_no_web_address_is_not_even_looked_up(url):
    names = Names()
    async with Upstream() as up, fetching(up, names=names) as fetcher:
        assert (await refusal(fetcher, url)).code == "blocked_url"
        assert (up.connections, names.asked) == (0, [])


@pytest.mark.parametrize("userinfo", ["user", "user:secret", ":secret", "example.com%20"])
async def test_a_user_name_is_refused(userinfo):
    async with Upstream() as up, fetching(up) as fetcher:
        error = await refusal(fetcher, address(up, host=f"{userinfo}@{NAME}"))
        assert error.code == "blocked_url"
        assert "secret" not in str(error)
        assert up.connections == 0


@pytest.mark.parametrize(
    "found",
    [[PRIVATE], ["127.0.0.1", PRIVATE], ["10.0.0.7"], ["169.254.169.254"], ["fe80::1%eth0"], []],
)
async def test_one_address_that_is_not_public_spoils_the_name_and_is_not_told(found):
    async with Upstream() as up, fetching(up, names=Names(found)) as fetcher:
        error = await refusal(fetcher, address(up))
        assert str(error) == "messages: the URL names a host that is unknown or not a public one"
        assert up.connections == 0


async def test_a_name_that_changes_its_address_is_looked_up_once_and_pinned():
    names = Names(["127.0.0.1"], [PRIVATE])
    async with Upstream() as up, fetching(up, names=names) as fetcher:
        up.script(picture())
        assert await fetcher.get(address(up), Modality.IMAGE) == (PNG, "image/png")
        assert names.asked == [NAME]
        assert (await refusal(fetcher, address(up))).code == "blocked_url"
        assert (names.asked, up.connections) == ([NAME] * 2, 1)


async def test_a_name_that_changes_between_redirects_is_checked_anew():
    names = Names(["127.0.0.1"], [PRIVATE])
    async with Upstream() as up, fetching(up, names=names) as fetcher:
        up.script(reply(status=302, Location="/again.png"), picture())
        assert (await refusal(fetcher, address(up))).code == "blocked_url"
        assert up.connections == 1


@pytest.mark.parametrize(
    "to", ["http://127.0.0.2:{}/", "http://localhost:{}/", "http://2130706434:{}/", "file:///x"]
)
async def test_a_redirect_to_a_private_address_is_not_followed(to):
    async with Upstream() as up, Upstream() as target, fetching(up, target) as fetcher:
        up.script(reply(status=302, Location=to.format(target.port)))
        assert (await refusal(fetcher, address(up))).code == "blocked_url"
        assert (up.connections, target.connections) == (1, 0)


async def test_three_redirects_are_followed_and_no_fourth():
    async with Upstream() as up, fetching(up) as fetcher:
        hops = [reply(status=code, Location=f"/{code}") for code in (301, 302, 307, 308)]
        up.script(*hops[:3], picture())
        assert await fetcher.get(address(up), Modality.IMAGE) == (PNG, "image/png")
        assert [seen.path for seen in up.requests] == ["/cat.png", "/301", "/302", "/307"]
        assert not any("referer" in seen.headers for seen in up.requests)
        up.script(*hops)
        error = await refusal(fetcher, address(up))
        assert (error.code, len(up.requests)) == ("fetch_failed", 8)


async def test_a_host_that_is_not_listed_is_not_looked_up():
    names = Names()
    listed = {"allow_hosts": ("apple.com", "*.Example.ORG", "bücher.de")}
    async with Upstream() as up, fetching(up, names=names, **listed) as fetcher:
        up.script(picture())
        homographs = ("аррle.com", "apple.com.evil.net", "example.org", "evilexample.org")
        for host in homographs:
            assert (await refusal(fetcher, address(up, host=host))).code == "blocked_url"
        assert names.asked == []
        for host in ("APPLE.com", "a.b.example.org", "xn--bcher-kva.de", "bücher.de."):
            await fetcher.get(address(up, host=host), Modality.IMAGE)
        assert up.connections == 4


@pytest.mark.parametrize(
    "entry", ["http://a.example", "*", "*.", "a*.example.com", "*.10.0.0.1", "a b.c", "", "intra"]
)
async def test_a_list_that_would_match_nothing_is_a_config_error(entry):
    with pytest.raises(ConfigError, match="allow_hosts"):
        async with fetch.open(FetchOptions(fetch=True, allow_hosts=(entry,))):
            pass


async def test_nothing_is_fetched_unless_the_config_says_so():
    async with Upstream() as up, fetch.open(FetchOptions(fetch_ports=(up.port,))) as fetcher:
        error = await refusal(fetcher, address(up))
        assert error.code == "blocked_url"
        assert "fetch is false" in str(error)
        assert up.connections == 0


@pytest.mark.parametrize("reach", [Reach.DEVICE, Reach.SITE, Reach.PRIVATE])
async def test_a_request_that_may_not_travel_is_not_even_looked_up(reach):
    names = Names()
    async with Upstream() as up, fetching(up, names=names) as fetcher:
        with pytest.raises(ReachError, match="data: URL"):
            await fetcher.get(address(up), Modality.IMAGE, reach=reach)
        assert (up.connections, names.asked) == (0, [])


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "0177.0.0.1"])
async def test_what_the_url_check_would_let_through_gets_no_socket(host, monkeypatch):
    monkeypatch.setattr(fetch.Fetcher, "_check", lambda *_: None)
    async with Upstream() as up, real(up) as fetcher:
        await refusal(fetcher, address(up, host=host))
        assert up.connections == 0
