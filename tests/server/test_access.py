"""Who may ask: keys, and no web page of another site on loopback."""

from __future__ import annotations

import pytest

from bicameral.config import ServerOptions
from bicameral.errors import ConfigError
from bicameral.server.access import Access
from bicameral.server.errors import Refused
from tests.server.client import call, chat
from tests.server.live import serving

KEY, OTHER = "sk-0123456789abcdef", "sk-fedcba9876543210"


@pytest.fixture
async def locked(monkeypatch):
    monkeypatch.setenv("TEST_KEYS", f"{KEY}, {OTHER}")
    async with serving(keys_env="TEST_KEYS") as live:
        yield live


@pytest.mark.parametrize("key", [KEY, OTHER])
async def test_a_known_key_may_ask(locked, key: str) -> None:
    bearer = {"Authorization": f"Bearer {key}"}
    assert (await chat(locked, bearer)).status == 200
    assert (await call(locked, "GET", "/v1/models", headers=bearer)).status == 200


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Bearer x", f"Basic {KEY}", KEY, f"Bearer {KEY}x",
     f"Bearer {KEY}, {OTHER}", f"Bearer {KEY[:-1]}", "Bearer \xff"],
)  # fmt: skip
async def test_any_other_is_refused(locked, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    for got in (
        await chat(locked, headers),
        await chat(locked, headers, stream=True, model="no such"),
        await call(locked, "GET", "/v1/models", headers=headers),
        await call(locked, "GET", "/metrics", headers=headers),
        await call(locked, "GET", "/v1/none", headers=headers),
        await call(locked, "POST", "/v1/embeddings", {}, headers),
    ):
        assert (got.status, got.error["code"]) == (401, "invalid_api_key")
        assert got.headers["www-authenticate"] == "Bearer"
        assert got.headers["x-request-id"]
        assert KEY not in got.body.decode()


async def test_a_key_in_the_url_does_not_count(locked) -> None:
    got = await call(locked, "GET", f"/v1/models?api_key={KEY}&key={KEY}")
    assert got.status == 401


async def test_health_needs_no_key(locked) -> None:
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert (await call(locked, "GET", path)).status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_an_address_others_reach_needs_keys(host: str) -> None:
    access = Access(ServerOptions(host=host))
    with pytest.raises(ConfigError, match="keys_env"):
        access.open(None)
    with pytest.raises(Refused, match="no API key"):
        access.check({b"host": b"localhost"})


@pytest.mark.parametrize("keys", [None, "", " , ", "short", f"{KEY},short", "schlüssel-0123456789"])
def test_keys_must_be_there_and_long(monkeypatch, keys: str | None) -> None:
    if keys is not None:
        monkeypatch.setenv("TEST_KEYS", keys)
    with pytest.raises(ConfigError, match="TEST_KEYS") as caught:
        Access(ServerOptions(keys_env="TEST_KEYS"))
    assert KEY not in str(caught.value)


def test_only_hashes_are_kept(monkeypatch) -> None:
    monkeypatch.setenv("TEST_KEYS", KEY)
    assert KEY.encode() not in repr(vars(Access(ServerOptions(keys_env="TEST_KEYS")))).encode()


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8080", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8080"]
)
def test_local_hosts_pass(host: str) -> None:
    Access(ServerOptions()).check({b"host": host.encode()})


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example:8080", "10.0.0.1", "", "[::2]", "[", "\xff"]
)
def test_rebound_hosts_are_refused(host: str) -> None:
    with pytest.raises(Refused, match="Host"):
        Access(ServerOptions()).check({b"host": host.encode("latin-1")})


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1", "https://[::1]:5"])
def test_pages_of_this_machine_pass(origin: str) -> None:
    Access(ServerOptions()).check({b"host": b"localhost", b"origin": origin.encode()})


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", "http://localhost.evil.x"])
async def test_pages_of_others_are_refused(origin: str) -> None:
    async with serving() as live:
        for path in ("/v1/models", "/healthz"):
            got = await call(live, "GET", path, headers={"Origin": origin})
            assert (got.status, got.error["code"]) == (403, "forbidden_origin")
        got = await chat(live, {"Origin": origin, "Content-Type": "text/plain"})
        assert got.status == 403
        assert "access-control-allow-origin" not in got.headers
        assert live.scripted("echo").runs == 0


async def test_a_foreign_host_is_refused_over_http() -> None:
    async with serving() as live:
        assert (await chat(live, {"Host": "evil.example"})).error["code"] == "forbidden_host"
