"""Fetches a picture, a sound or a clip by URL, so that a perceiver on this machine can read it.

A URL in a request is a way to make this server speak to hosts that its sender cannot reach. So it
fetches nothing unless the config says so, looks the host up itself, refuses it if any of its
addresses is not a public one, and connects to the very addresses it checked. Redirects are
followed by hand, each checked anew. Messages tell neither addresses nor whether a name exists.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from bicameral.config import FetchOptions
from bicameral.errors import ConfigError, ReachError, RequestError
from bicameral.right.addresses import Address, is_name, is_public, literal, named
from bicameral.right.media_type import DECLARED, HEAD, sniff
from bicameral.types import Modality, Reach

MAX_REDIRECTS = 3
MAX_URL = 8192
AT_ONCE = 8

Lookup = Callable[[str, int], Awaitable[list[str]]]
"""(host, port) -> its addresses as text; OSError if there are none."""
Allow = Callable[[Address], bool]


@asynccontextmanager
async def open(
    options: FetchOptions, *, lookup: Lookup | None = None, allow: Allow = is_public
) -> AsyncIterator[Fetcher]:
    """The fetcher of a brain. `lookup` and `allow` say how hosts are found and which may be."""
    hosts = tuple(_host_pattern(entry) for entry in options.allow_hosts)
    # A name server that hangs holds up these threads, not those everybody shares.
    threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fetch-lookup")
    gate = _Gate(lookup or _system_lookup(threads), allow)
    connector = aiohttp.TCPConnector(
        resolver=gate,
        socket_factory=gate.socket,
        use_dns_cache=False,
        force_close=True,
        ssl=ssl.create_default_context(),
    )
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "bicameral", "Accept-Encoding": "identity"},
        auto_decompress=False,
        trust_env=False,
        timeout=aiohttp.ClientTimeout(total=None),
    )
    try:
        async with session:
            yield Fetcher(options, hosts, session, allow)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


class Fetcher:
    """Gets media by URL; at most AT_ONCE at a time, the others wait within their own time."""

    def __init__(
        self,
        options: FetchOptions,
        hosts: tuple[str, ...],
        session: aiohttp.ClientSession,
        allow: Allow,
    ) -> None:
        self._options = options
        self._hosts = hosts
        self._session = session
        self._allow = allow
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def get(
        self,
        url: str,
        kind: Modality,
        *,
        reach: Reach = Reach.PUBLIC,
        deadline: float | None = None,
        param: str = "messages",
    ) -> tuple[bytes, str]:
        """The whole body and its media type, as its first bytes say.

        `reach` and `deadline` are the request's. Raises ReachError, or RequestError with `param`
        and the code blocked_url, fetch_failed, fetch_timeout, media_too_large or invalid_media.
        """
        if reach < Reach.PUBLIC:
            raise ReachError(
                f"fetching a URL tells its host of it, but this request may travel no further "
                f"than '{reach.name.lower()}': send the data itself as a data: URL"
            )
        if not self._options.fetch:
            raise _error(
                param,
                "blocked_url",
                "is not fetched by this server ([right] fetch is false): send a data: URL",
            )
        limit = self._options.fetch_seconds
        if deadline is not None:
            limit = min(limit, deadline - time.monotonic())
        try:
            async with asyncio.timeout(limit), self._turns:
                return await self._follow(url, kind, param)
        except TimeoutError as exc:
            message = f"could not be fetched within {max(0.0, limit):.3g} s"
            raise _error(param, "fetch_timeout", message) from exc

    async def _follow(self, url: str, kind: Modality, param: str) -> tuple[bytes, str]:
        target = _parsed(url, param)
        for _ in range(MAX_REDIRECTS + 1):
            self._check(target, param)
            got = await self._once(target, kind, param)
            if not isinstance(got, str):
                return got
            target = _parsed(got, param, target)
        raise _error(param, "fetch_failed", f"redirects more than {MAX_REDIRECTS} times")

    def _check(self, url: URL, param: str) -> None:
        """Everything that can be refused before the host is looked up."""
        host = url.raw_host or ""
        address = literal(host)
        if url.scheme not in ("http", "https") or not host:
            raise _error(param, "blocked_url", "is neither http nor https")
        if url.raw_user is not None or url.raw_password is not None:
            raise _error(param, "blocked_url", "has a user name: take it out")
        if url.port not in self._options.fetch_ports:
            raise _error(param, "blocked_url", "is at a port that this server may not fetch from")
        if not is_name(host) if address is None else not self._allow(address):
            raise _blocked(param)
        if self._hosts and not named(host, self._hosts):
            raise _error(param, "blocked_url", "is not at a host this server may fetch from")

    async def _once(self, url: URL, kind: Modality, param: str) -> tuple[bytes, str] | str:
        """The body and its type, or where a redirect leads."""
        try:
            async with self._session.get(
                url, allow_redirects=False, headers={"Accept": f"{kind}/*"}
            ) as response:
                if response.status in (301, 302, 303, 307, 308):
                    return response.headers.get("Location", "")
                self._check_head(response, kind, param)
                return await self._body(response, kind, param)
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError) as exc:
            if _refused(exc):
                raise _blocked(param) from exc
            raise _error(param, "fetch_failed", "could not be fetched from its host") from exc

    def _check_head(self, response: aiohttp.ClientResponse, kind: Modality, param: str) -> None:
        if response.status != 200:
            raise _error(param, "fetch_failed", f"was answered with status {response.status}")
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise _error(
                param, "invalid_media", "came in a Content-Encoding that was not asked for"
            )
        declared = response.headers.get("Content-Type", "application/octet-stream")
        if declared.partition(";")[0].strip().lower() not in DECLARED[kind]:
            raise _invalid(param, kind)
        if (response.content_length or 0) > self._options.fetch_bytes:
            raise self._too_large(param)

    async def _body(
        self, response: aiohttp.ClientResponse, kind: Modality, param: str
    ) -> tuple[bytes, str]:
        body = bytearray()
        async for piece in response.content.iter_any():
            known = len(body) >= HEAD
            body += piece
            if len(body) > self._options.fetch_bytes:
                raise self._too_large(param)
            if not known and len(body) >= HEAD and sniff(body, kind) is None:
                raise _invalid(param, kind)
        found = sniff(body, kind)
        if found is None:
            raise _invalid(param, kind)
        return bytes(body), found

    def _too_large(self, param: str) -> RequestError:
        return _error(
            param,
            "media_too_large",
            f"has more than the {self._options.fetch_bytes} bytes this server fetches",
        )


class _Blocked(OSError):
    """An address that is not to be spoken to."""


class _Gate(AbstractResolver):
    """Looks hosts up once, and lets no socket be made for an address that is not allowed."""

    def __init__(self, lookup: Lookup, allow: Allow) -> None:
        self._lookup = lookup
        self._allow = allow

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Every address of `host`; _Blocked if one of them is not allowed or there is none."""
        try:
            found = await self._lookup(host, port)
        except (OSError, UnicodeError) as exc:
            raise _Blocked from exc
        for address in found:
            self._pass(address)
        if not found:
            raise _Blocked
        return [_result(host, address, port) for address in dict.fromkeys(found)]

    def socket(self, info: Any) -> socket.socket:
        """A socket for `info`, which aiohttp is about to connect to; a literal comes only here."""
        family, kind, protocol, _, address = info
        self._pass(address[0])
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made

    def _pass(self, text: str) -> None:
        address = literal(text)
        if address is None or not self._allow(address):
            raise _Blocked

    async def close(self) -> None:
        """Nothing is held here."""


def _result(host: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return ResolveResult(
        hostname=host, host=address, port=port, family=family, proto=0, flags=flags
    )


def _system_lookup(threads: ThreadPoolExecutor) -> Lookup:
    """What the operating system says, asked on `threads`."""

    def ask(host: str, port: int) -> list[str]:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [str(address[0]) for *_, address in found]

    async def lookup(host: str, port: int) -> list[str]:
        return await asyncio.get_running_loop().run_in_executor(threads, ask, host, port)

    return lookup


def _parsed(url: str, param: str, base: URL | None = None) -> URL:
    """The URL as it will be sent: the parser is the one of the client, so both see one host."""
    try:
        if not url or len(url) > MAX_URL:
            raise ValueError
        parsed = URL(url)
        return parsed if base is None else base.join(parsed)
    except ValueError as exc:
        raise _error(param, "blocked_url", "is no http or https URL that can be fetched") from exc


def _host_pattern(entry: str) -> str:
    """An entry of allow_hosts in the form hosts are compared in: lower case, IDNA, no dot last."""
    name = entry.removeprefix("*.")
    below = name != entry
    try:
        host = (URL.build(scheme="http", host=name).raw_host or "").removesuffix(".")
    except ValueError:
        host = ""
    if not is_name(host) and (below or literal(host) is None):
        raise ConfigError(
            f"[right] allow_hosts: '{entry}' is no host: write images.example.com, or "
            "*.example.com for every name below it"
        )
    return f"*.{host}" if below else host


def _refused(exc: BaseException | None) -> bool:
    """Whether the gate is behind `exc`."""
    while exc is not None and not isinstance(exc, _Blocked):
        exc = exc.__cause__ or exc.__context__
    return exc is not None


def _blocked(param: str) -> RequestError:
    """One wording for a name that does not exist and one that is not public: neither is told."""
    return _error(param, "blocked_url", "names a host that is unknown or not a public one")


def _invalid(param: str, kind: Modality) -> RequestError:
    return _error(param, "invalid_media", f"is no {kind} of a kind this server reads")


def _error(param: str, code: str, message: str) -> RequestError:
    return RequestError(f"{param}: the URL {message}", param=param, code=code)
