"""The tables of the config file as closed, frozen structs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from bicameral.types import Price, Rates, Reach

ReachName = Literal["device", "site", "private", "public"]
KindName = Literal["choice", "number", "exact", "json", "code", "text"]
PolicyName = Literal[
    "route", "cascade", "vote", "fuse", "select", "verify", "samples", "tokens", "auto"
]


class Closed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table that takes the keys below and no other."""


class TierOptions(Closed, frozen=True, kw_only=True):
    """Prices that hold instead from `from_tokens` prompt tokens on, in dollars as above."""

    from_tokens: Annotated[int, Meta(ge=1)]
    input: str
    output: str
    cached_input: str | None = None
    reasoning: str | None = None


class MemberOptions(Closed, frozen=True, kw_only=True):
    """What every [models.NAME] table takes; an engine's Options add its own keys.

    `owner` is who is paid for its calls. `price_*` are dollars per million tokens, `price_image`
    per picture, `price_second` per second of sound or film, `price_chip_second` per second that
    the chip was busy, all written as strings so that they stay exact; `price_tiers` those for long
    prompts. `price_of` takes what is not given from that row of the price table that comes with
    Bicameral (`bicameral prices`). `watts` is what its chip draws while it answers. `quality`
    is the probability that its answers are right, for minds that have not learned it. `apart`: it
    runs in a process of its own, as its [models.NAME.apart] table says, or with true as usual.
    `cluster`: where the file has a [cluster], it runs there, as its [models.NAME.cluster] table
    says, or with true as usual; where it has none, here.
    """

    engine: str
    owner: str = ""
    reach: ReachName | None = None
    price_of: str | None = None
    price_input: str | None = None
    price_output: str | None = None
    price_cached_input: str | None = None
    price_reasoning: str | None = None
    price_image: str | None = None
    price_second: str | None = None
    price_chip_second: str | None = None
    price_tiers: tuple[TierOptions, ...] = ()
    watts: Annotated[float, Meta(gt=0)] | None = None
    quality: Annotated[float, Meta(ge=0, le=1)] | None = None
    apart: bool | dict[str, Any] = False
    cluster: bool | dict[str, Any] = False

    def price(self) -> Price | None:
        """The price in nano-dollars; None if it is not given."""
        given = [key for key in _PRICES if getattr(self, key) is not None]
        if not given and not self.price_tiers:
            return None
        if (self.price_input is None) != (self.price_output is None):
            raise ValueError("price_input and price_output go together: give both or neither")
        if self.price_input is None and {*given, *self.price_tiers} - _TOKENLESS:
            raise ValueError("price_input and price_output: give both, if any price of tokens")
        media: Mapping[str, Any] = {
            "image": _nano(self.price_image),
            "second": _nano(self.price_second),
            "chip_second": nano(self.price_chip_second or "0"),
        }
        tiers = tuple((tier.from_tokens, _rates(tier, media)) for tier in self.price_tiers)
        if [least for least, _ in tiers] != sorted({least for least, _ in tiers}):
            raise ValueError("price_tiers: from_tokens must grow from one tier to the next")
        return Price(
            input=nano(self.price_input or "0"),
            output=nano(self.price_output or "0"),
            cached_input=_nano(self.price_cached_input),
            reasoning=_nano(self.price_reasoning),
            tiers=tiers,
            **media,
        )

    def reach_or(self, default: Reach) -> Reach:
        """The declared reach, or `default`."""
        return default if self.reach is None else Reach[self.reach.upper()]


_PRICES = (
    "price_input",
    "price_output",
    "price_cached_input",
    "price_reasoning",
    "price_image",
    "price_second",
    "price_chip_second",
)
_TOKENLESS: frozenset[Any] = frozenset({"price_image", "price_second", "price_chip_second"})


def _rates(tier: TierOptions, media: Mapping[str, Any]) -> Rates:
    return Rates(
        input=nano(tier.input),
        output=nano(tier.output),
        cached_input=_nano(tier.cached_input),
        reasoning=_nano(tier.reasoning),
        **media,
    )


def _nano(dollars: str | None) -> int | None:
    return None if dollars is None else nano(dollars)


class CheckOptions(Closed, frozen=True, kw_only=True):
    """A check of a mind's answers: exactly one of the first three.

    `pattern`: a regular expression found in the answer. `json`: the answer has to satisfy the
    request's own JSON schema. `command`: a program that reads the answer on stdin and exits 0 for
    right, 1 for wrong, within `seconds`; it runs with the server's rights, so give it a sandbox.
    """

    pattern: str | None = None
    json: bool = False
    command: tuple[str, ...] = ()
    seconds: Annotated[float, Meta(gt=0)] = 10.0


class MindOptions(Closed, frozen=True, kw_only=True):
    """A [minds.NAME] table: a policy over members, which may be other minds.

    `learned` is the file that `bicameral learn` wrote, beside the config. `worth` is what a right
    answer is worth, `second` what a second is worth, `most` what a request may cost, all in
    dollars as strings; `least` asks for the cheapest that is right with that probability.
    A cascade without a worth stops at an answer whose confidence, 0 to 1, reaches `threshold`
    (0.8); its members before the last may say at most `try_tokens`. `judge` writes for a fuse (by
    default the last member), picks for a select, verifies for a verify. `samples` is how often
    each member of a fuse is asked, or at most the one of samples (5). `analysis`: the judge of a
    fuse first compares the answers. `at_once`: how many of a vote are asked together, by default
    all, or one after the other where the order was learned. `weights` and `sure` are for tokens:
    the say of each member, and how sure the first has to be to go on alone (0.5). `answers` says
    how answers are compared, by default guessed from each request. `sticky`: stay with the member
    that holds the conversation, unless a switch gains more than its cache is worth.
    `markup` is what callers pay on top of what its members cost (0.2: a fifth), or `price_input`
    and `price_output`, dollars per million tokens of what was asked and said, what they pay
    whatever it cost; what remains is the members' owners' (`bicameral ledger settle`).
    No member beyond `reach` is ever called.
    """

    policy: PolicyName
    members: tuple[str, ...]
    reach: ReachName = "public"
    learned: str | None = None
    worth: str | None = None
    second: str | None = None
    least: Annotated[float, Meta(ge=0, le=1)] | None = None
    most: str | None = None
    threshold: Annotated[float, Meta(ge=0, le=1)] | None = None
    try_tokens: Annotated[int, Meta(ge=1)] | None = None
    judge: str | None = None
    samples: Annotated[int, Meta(ge=1, le=64)] | None = None
    analysis: bool | None = None
    at_once: Annotated[int, Meta(ge=1)] | None = None
    weights: tuple[float, ...] | None = None
    sure: Annotated[float, Meta(gt=0, le=1)] | None = None
    answers: KindName | None = None
    check: CheckOptions | None = None
    sticky: bool = True
    markup: str | None = None
    price_input: str | None = None
    price_output: str | None = None


_GOAL = frozenset({"learned", "worth", "second", "least", "most"})
_READ = frozenset({"answers", "check"})
# The keys that mean something to a policy, besides members, reach, sticky and the prices.
POLICIES: Mapping[str, frozenset[str]] = {
    "route": _GOAL,
    "cascade": _GOAL | _READ | {"threshold", "try_tokens"},
    "vote": _GOAL | _READ | {"at_once"},
    "fuse": _READ | {"judge", "samples", "analysis"},
    "select": _READ | {"judge", "learned"},
    "verify": _READ | {"judge"},
    "samples": _READ | {"samples"},
    "tokens": frozenset({"weights", "sure"}),
    "auto": _GOAL | _READ,
}


class ServerOptions(Closed, frozen=True, kw_only=True):
    """The [server] table. Sizes are bytes, times seconds.

    `keys_env` names an environment variable with comma-separated API keys, which have no limits;
    those with limits are in the ledger (`bicameral keys`).
    """

    host: str = "127.0.0.1"
    port: int = 8080
    keys_env: str | None = None
    max_body: int = 32 * 2**20
    max_depth: int = 64
    max_messages: int = 2048
    max_image_pixels: int = 40_000_000
    max_streams: int = 512
    header_timeout: float = 10.0
    idle_timeout: float = 60.0
    write_timeout: float = 30.0
    drain_timeout: float = 30.0


class JournalOptions(Closed, frozen=True, kw_only=True):
    """The [journal] table: what is kept of the decisions of minds, for `explain` and `learn`.

    `path` is by default bicameral/journal.sqlite3 in $XDG_STATE_HOME (~/.local/state). It keeps
    the last `keep` answers: ids, names, costs and times, the question and the answer themselves
    only with `prompts`.
    """

    enabled: bool = True
    path: str | None = None
    prompts: bool = False
    keep: Annotated[int, Meta(ge=1, le=10**9)] = 100_000


class FetchOptions(Closed, frozen=True, kw_only=True):
    """Whether and what is fetched by URL for perceivers. Sizes are bytes, times seconds.

    `allow_hosts` are the only hosts it may go to, '*.example.com' for every name below one; empty:
    any public one. A host must have a public address either way. `fetch_seconds` is for all of
    one fetch, redirects included.
    """

    fetch: bool = False
    allow_hosts: tuple[str, ...] = ()
    fetch_ports: tuple[Annotated[int, Meta(ge=1, le=65535)], ...] = (80, 443)
    fetch_bytes: Annotated[int, Meta(ge=1, le=2**31)] = 32 * 2**20
    fetch_seconds: Annotated[float, Meta(gt=0, le=600)] = 20.0


class VideosOptions(Closed, frozen=True, kw_only=True):
    """The [videos] table: the jobs of POST /v1/videos. Sizes are bytes, times seconds.

    `path` is the folder of the table of jobs and of their files, by default bicameral/videos in
    $XDG_STATE_HOME (~/.local/state); several servers on one machine may share it. At most
    `running` clips are made at once by one server, `queue` jobs wait. One that was running when
    its server died is run again, at most `tries` times in all. A clip, and all that is known of
    one that failed, is kept for `keep_seconds`. `max_upload` is for the body of a request,
    `max_result` for one clip, `max_total` for all that is kept.
    """

    enabled: bool = True
    path: str | None = None
    running: Annotated[int, Meta(ge=1, le=64)] = 1
    queue: Annotated[int, Meta(ge=1, le=10_000)] = 64
    tries: Annotated[int, Meta(ge=1, le=10)] = 2
    keep_seconds: Annotated[int, Meta(ge=1, le=366 * 86_400)] = 86_400
    max_upload: Annotated[int, Meta(ge=1024, le=2**31)] = 32 * 2**20
    max_result: Annotated[int, Meta(ge=1, le=2**33)] = 64 * 2**20
    max_total: Annotated[int, Meta(ge=1, le=2**43)] = 4 * 2**30


class RightOptions(FetchOptions, frozen=True, kw_only=True):
    """The [right] table: how pictures, sounds and clips are put in words for models without eyes.

    `perceivers` names the models that do it, by default all that emit percepts. What they found in
    the last `remembered` parts is not looked for again. With `fetch`, media that a request names
    by URL are fetched for them, from `allow_hosts` only if there are any ('*.example.com': every
    name below), never from a private address, within `fetch_ports`, `fetch_bytes`, `fetch_seconds`.
    """

    perceivers: tuple[str, ...] | None = None
    remembered: Annotated[int, Meta(ge=1, le=10**6)] = 1024


class LedgerOptions(Closed, frozen=True, kw_only=True):
    """The [ledger] table: if there is one, every call is booked, and keys and budgets hold.

    `path` is a SQLite file, by default bicameral/ledger.sqlite3 in $XDG_STATE_HOME
    (~/.local/state). `url_env` names an environment variable with the URL of a PostgreSQL database
    instead (postgresql://...). What a request may cost is held before it is asked; a hold that
    nobody settles within `hold_seconds`, as after a crash, counts as spent. `keep` is the
    operator's own share of what callers pay above cost, 0 to 1.
    """

    enabled: bool = True
    path: str | None = None
    url_env: str | None = None
    hold_seconds: Annotated[int, Meta(ge=10, le=7 * 86_400)] = 3600
    keep: str = "0"


class ClusterOptions(Closed, frozen=True, kw_only=True):
    """The [cluster] table: where members that have `cluster` run; without one they run here.

    `address` is "local" (Ray is started on this machine, with `resources` beside what it finds),
    "auto" (the cluster that runs on this machine) or HOST:PORT of a cluster's head. Members off
    this machine count as at reach site, or further if their own table says so. `namespace` keeps
    actors apart from those of others. Every node needs Bicameral, the weights and the keys.
    """

    address: Annotated[str, Meta(pattern=r"^(auto|local|[^:/\s]+:\d{1,5})$")] = "auto"
    namespace: str = "bicameral"
    resources: Mapping[str, Annotated[float, Meta(gt=0)]] = {}


_DOLLARS = re.compile(r"\d{1,6}(\.\d{1,9})?", re.ASCII)


def nano(dollars: str) -> int:
    """Dollars as a decimal string to nano-dollars, exactly."""
    if not _DOLLARS.fullmatch(dollars):
        raise ValueError(f"'{dollars}' is no price: write dollars as \"0.25\"")
    whole, _, fraction = dollars.partition(".")
    return int(whole) * 10**9 + int(fraction.ljust(9, "0"))
