"""One remote server: a shared session, timeouts by phase, retries, a breaker.

Knows HTTP and nothing of any JSON dialect: it sends bytes and gives a Reply whose first bytes have
come. Everything up to there may be tried again; nothing after it ever is.
"""

from __future__ import annotations

import asyncio
import io
import ipaddress
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from bicameral.config import MemberOptions, secret
from bicameral.engines.remote.breaker import Breaker, RetryBudget
from bicameral.engines.remote.refusal import UNSURE, Lost, ServerError, retry_after
from bicameral.engines.remote.reply import Reply, Span
from bicameral.errors import Broken, ConfigError, ModelError, Overloaded, Timeout, Unreachable
from bicameral.types import Reach

ERROR_BODY = 64 * 2**10

_SECRET_HEADERS = ("authorization", "x-api-key", "api-key", "cookie")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_POSITIVE = (
    "timeout_connect",
    "timeout_first_token",
    "timeout_between_tokens",
    "timeout_total",
    "breaker_failures",
    "breaker_seconds",
    "max_event",
    "max_body",
)

Fault = Callable[[str, int, bytes, float | None], ModelError]
"""(model, status, body, retry_after) -> the error: how a dialect reads a refusal."""


class RemoteOptions(MemberOptions, frozen=True, kw_only=True):
    """What every remote engine takes. Times are seconds, sizes bytes.

    `key_env` names the environment variable that holds the key; `headers` are sent as they are and
    must hold no secret. `timeout_first_token` counts from the request, `timeout_between_tokens`
    between two pieces of a stream; an answer that is not streamed is bound by `timeout_total` only.
    After `breaker_failures` in a row nothing is sent for `breaker_seconds`, then one probe.
    `max_retry_wait`: a longer Retry-After is reported at once instead of waited for.
    """

    model: str
    url: str | None = None
    key_env: str | None = None
    headers: Mapping[str, str] = {}
    context: int | None = None
    timeout_connect: float = 10.0
    timeout_first_token: float = 120.0
    timeout_between_tokens: float = 60.0
    timeout_total: float = 600.0
    retries: int = 2
    backoff: float = 0.25
    max_retry_wait: float = 10.0
    breaker_failures: int = 5
    breaker_seconds: float = 10.0
    max_event: int = 8 * 2**20
    max_body: int = 64 * 2**20


class Upstream:
    """The connection pool to one server, shared by all calls of one member."""

    def __init__(
        self,
        name: str,
        options: RemoteOptions,
        session: aiohttp.ClientSession,
        base: str,
        key: str | None,
        fault: Fault,
    ) -> None:
        self.name = name
        self.options = options
        self.breaker = Breaker(options.breaker_failures, options.breaker_seconds)
        self._budget = RetryBudget(reserve=options.retries)
        self._session = session
        self._base = base.rstrip("/")
        self._key = (key or "").encode()
        self._fault = fault
        self._urls: dict[str, URL] = {}

    async def post(
        self,
        path: str,
        body: bytes,
        *,
        streamed: bool,
        deadline: float | None,
        lost: list[ModelError],
    ) -> Reply:
        """The reply to `body`, its first bytes in hand; `deadline` is by time.monotonic().

        `lost` gets the tries before it that the server may have taken up.
        """
        began = time.monotonic()
        end = began + self.options.timeout_total
        hurried = deadline is not None and deadline < end
        span = Span(began, min(end, deadline or end), hurried)
        self._budget.call()
        attempt = 0
        while True:
            probe = self._enter()
            try:
                return await self._once(path, body, streamed, span, probe)
            except ModelError as error:
                self.note(error, probe=probe, hurried=hurried)
                pause = self._pause(error, attempt, span.end)
                if pause is None:
                    raise
                if isinstance(error, UNSURE):
                    lost.append(error)
            except asyncio.CancelledError:
                self.breaker.gone(probe)
                raise
            await asyncio.sleep(pause)
            attempt += 1

    def refusal(self, status: int, body: bytes, retry: float | None = None) -> ModelError:
        """The error that `body` tells of, without our key, should the server have echoed it."""
        if self._key:
            body = body.replace(self._key, b"[key]")
        return self._fault(self.name, status, body, retry)

    def _enter(self) -> bool:
        wait = self.breaker.wait()
        if wait:
            raise Overloaded(
                self.name,
                f"failed {self.options.breaker_failures} times in a row, so it is left alone "
                f"for {wait:.1f} s",
                retry_after=wait,
                status=503,
            )
        return self.breaker.enter()

    def note(self, error: ModelError, *, probe: bool, hurried: bool) -> None:
        """Tell the breaker of a failed call; a refusal is a sign of life."""
        if isinstance(error, Timeout) and error.phase == "total" and hurried:
            self.breaker.gone(probe)  # the caller's haste, not the server's fault
        elif isinstance(error, Unreachable | Timeout | Broken) or _is_outage(error):
            self.breaker.bad(probe)
        else:
            self.breaker.good()

    def _pause(self, error: ModelError, attempt: int, end: float) -> float | None:
        """Seconds to wait before the next try; None: give up."""
        o = self.options
        if attempt >= o.retries or not _worth_retrying(error) or self.breaker.open:
            return None
        pause = random.uniform(0, o.backoff * 2**attempt)  # noqa: S311 - full jitter
        said = error.retry_after if isinstance(error, Overloaded) else None
        if said is not None:
            pause += said
        if pause > o.max_retry_wait or time.monotonic() + pause >= end or not self._budget.retry():
            return None
        return pause

    async def _once(self, path: str, body: bytes, streamed: bool, span: Span, probe: bool) -> Reply:
        left = max(0.0, span.end - time.monotonic())
        first_token = self.options.timeout_first_token if streamed else left
        limit = min(first_token, left)
        response: aiohttp.ClientResponse | None = None
        first: bytes | None = None
        try:
            async with asyncio.timeout(limit):
                response = await self._session.post(
                    self._url(path), data=_payload(body), allow_redirects=False
                )
                await self._check(response, streamed)
                first = await response.content.readany()
        except aiohttp.ConnectionTimeoutError as exc:
            raise Timeout(self.name, "connect", self.options.timeout_connect) from exc
        except TimeoutError as exc:
            if first_token < left:
                raise Timeout(self.name, "first token", first_token) from exc
            raise Timeout(self.name, "total", span.seconds) from exc
        except aiohttp.ClientResponseError as exc:  # its words may quote the answer
            raise Broken(self.name, "answered what is not HTTP") from exc
        except aiohttp.ClientConnectorError as exc:
            raise Unreachable(self.name, _why(exc)) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise Lost(self.name, _why(exc)) from exc
        finally:
            if first is None and response is not None:
                response.close()
        if not first:
            response.close()
            raise Broken(self.name, "answered 200 with an empty body")
        return Reply(self, response, first, streamed=streamed, span=span, probe=probe)

    async def _check(self, response: aiohttp.ClientResponse, streamed: bool) -> None:
        """Raise unless the reply is a 200 in a form we can read."""
        status, kind = response.status, response.headers.get("Content-Type", "").lower()
        if 300 <= status < 400:
            raise Broken(self.name, f"answered {status}, a redirect: give the url it leads to")
        encoding = response.headers.get("Content-Encoding", "identity")
        if status == 200 and encoding != "identity":
            raise Broken(self.name, "answered in a Content-Encoding that was not asked for")
        html = kind.startswith("text/html")
        misfit = html or (streamed and kind.startswith("application/json"))
        if status != 200 or misfit:
            body = await _read_some(response)
            if status == 200 and html:
                raise Broken(self.name, "answered 200 with an HTML page: is the url an API's?")
            raise self.refusal(status, body, retry_after(response.headers))

    def _url(self, path: str) -> URL:
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = URL(self._base + path)
        return url


def _is_outage(error: ModelError) -> bool:
    return isinstance(error, Overloaded) and error.status != 429


def _worth_retrying(error: ModelError) -> bool:
    """Whether another try now may work and costs nothing twice."""
    if not error.retryable:
        return False
    if isinstance(error, Timeout):
        return error.phase == "connect"
    if isinstance(error, Broken):
        return isinstance(error, ServerError)
    return isinstance(error, Unreachable | Overloaded)


def _payload(body: bytes) -> bytes | aiohttp.BytesIOPayload:
    """aiohttp warns of raw bytes over 1 MiB, which it writes in one go."""
    if len(body) < 2**20:
        return body
    return aiohttp.BytesIOPayload(io.BytesIO(body))


async def _read_some(response: aiohttp.ClientResponse) -> bytes:
    """At most ERROR_BODY bytes of a refusal, or what came of it."""
    got = bytearray()
    try:
        async with asyncio.timeout(5):
            while len(got) < ERROR_BODY and (chunk := await response.content.readany()):
                got += chunk
    except (TimeoutError, aiohttp.ClientError, OSError):
        pass
    return bytes(got[:ERROR_BODY])


def _why(exc: Exception) -> str:
    if isinstance(exc, aiohttp.ClientPayloadError):
        return "the connection broke before the answer began"
    return f"no connection ({exc or type(exc).__name__})"


@asynccontextmanager
async def connect(
    name: str,
    options: RemoteOptions,
    base: str,
    key_env: str | None,
    headers: Callable[[str | None], Mapping[str, str]],
    fault: Fault,
) -> AsyncIterator[Upstream]:
    """The upstream at `base`; `headers` turns the key, if there is one, into its headers."""
    check(name, options)
    check_url(name, base)
    key = None if key_env is None else secret(key_env, f"models.{name}")
    if key is not None and not (key.isascii() and key.isprintable()):
        raise ConfigError(f"[models.{name}] the key in {key_env} has characters no key has")
    sent = CIMultiDict(
        {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "bicameral",
            **headers(key),
            **options.headers,
        }
    )
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=sent,
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None, connect=options.timeout_connect),
        read_bufsize=2**18,
    )
    async with session:
        yield Upstream(name, options, session, base, key, fault)


def check(name: str, options: RemoteOptions) -> None:
    """ConfigError for headers that cannot be sent and numbers that make no sense."""
    for header, value in options.headers.items():
        if header.lower() in _SECRET_HEADERS:
            raise ConfigError(f"[models.{name}] headers: keep keys out of it; name one by key_env")
        if not _HEADER.fullmatch(header) or not value.isascii() or not value.isprintable():
            raise ConfigError(f"[models.{name}] headers: '{header}' cannot be sent as a header")
    for field in _POSITIVE:
        if getattr(options, field) <= 0:
            raise ConfigError(f"[models.{name}] {field}: must be above 0")
    if options.retries < 0 or options.backoff < 0 or options.max_retry_wait < 0:
        raise ConfigError(f"[models.{name}] retries, backoff, max_retry_wait: must not be negative")


def check_url(name: str, url: str) -> None:
    """ConfigError unless `url` is a plain http or https address."""
    where = f"[models.{name}] url: '{url}'"
    try:
        parsed = URL(url)
    except ValueError as exc:
        raise ConfigError(f"{where} is no address") from exc
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError(f"{where} must begin with http:// or https:// and name a host")
    if parsed.user or parsed.password:
        raise ConfigError(f"[models.{name}] url: must hold no password; name it by key_env")


def reach_of(url: str) -> Reach:
    """DEVICE for a loopback address, else PUBLIC: what is nearer must be declared."""
    host = URL(url).host or ""
    if host == "localhost":
        return Reach.DEVICE
    try:
        return Reach.DEVICE if ipaddress.ip_address(host).is_loopback else Reach.PUBLIC
    except ValueError:
        return Reach.PUBLIC
