"""The ways in which gateways lose or invent money, one after another; here on the real path.

Each is known from a public issue or pull request of BerriAI/litellm, whose number is given.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, asynccontextmanager

import pytest

from bicameral.brain import Brain
from bicameral.config import parse
from bicameral.errors import Broken, ModelError
from bicameral.ledger.estimate import tokens
from bicameral.ledger.meter import Meter
from bicameral.types import Call, Delta, Done, Request, Text, Usage, Wire
from tests import messages_api, upstream
from tests.ledger.booked import HEAD, bookings, only
from tests.ledger.test_meter import Leaf, Price
from tests.server.client import HI, raw, until
from tests.server.client import head as post_head
from tests.server.live import serving
from tests.upstream import CLOSE, HANG, RESET, Upstream, Wait

FAR = """
[models.far]
engine = "{engine}"
url = "{url}"
model = "fake-1"
retries = {retries}
breaker_failures = 100
{keys}
[minds.default]
policy = "route"
members = ["far"]
"""
ASKED, SAID = 1000, 2000  # nano-dollars a token
PLAIN = 'price_input = "1"\nprice_output = "2"\n'
TEXT = "one two three four five six"
QUESTION = "hello my friend"
PROMPT = tokens(QUESTION) + 4
WIRED = Wire(json.dumps({"model": "x", "messages": HI, "stream": True}).encode(), True, False)
WAYS = pytest.mark.parametrize("wire", [None, WIRED], ids=["written", "relayed"])


@pytest.fixture
async def far(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-1")
    async with Upstream() as far:
        yield far


@pytest.fixture
def path(tmp_path):
    return tmp_path / "book.sqlite3"


def config(path, far, engine="openai", keys=PLAIN, retries=0):
    far = FAR.format(engine=engine, url=far.url, keys=keys, retries=retries)
    return HEAD.format(path=path) + far


@asynccontextmanager
async def opened(*args, **keys):
    async with Brain.open(parse(config(*args, **keys), "test")) as brain:
        yield brain


async def asked(brain, wire=None, *, pieces=None):
    """Read so many events of an answer, by default all; how it ended."""
    request = Request.ask(QUESTION, wire=wire)
    try:
        async with aclosing(brain.run(request)) as events:
            async for event in events:
                if isinstance(event, Done):
                    return event
                if pieces is not None and (pieces := pieces - 1) == 0:
                    return None
    except ModelError as error:
        return error


async def hung_up(live, far, *, stream, clients=1):
    """So many clients ask and leave: in a stream, after the first piece."""
    body = json.dumps({"model": "default", "messages": HI, "stream": stream}).encode()
    open_ = [await raw(live) for _ in range(clients)]
    for _, writer in open_:
        writer.write(post_head(live, len(body)) + body)
    await far.until(lambda up: up.running == clients)
    if stream:
        for reader, _ in open_:
            await asyncio.wait_for(reader.readuntil(b"data: "), 5)
    for _, writer in open_:
        writer.close()
    await far.until(lambda up: up.cancelled == clients)
    await until(lambda: not live.server.app.desk.tasks)


def packet(*events):
    """Events that arrive in one piece."""
    return b"".join(upstream.event(event) for event in events)


def piece(text=TEXT, **delta):
    return upstream.chunk({"content": text, **delta})


def last(usage):
    return {"id": "c1", "model": "fake-1", "choices": [], "usage": usage}


# --- 1. usage is lost when the client disconnects (#14457, #13245) -----------------------------


@pytest.mark.parametrize(("stream", "said"), [(True, TEXT), (False, "")])
async def test_1_a_client_that_leaves_does_not_take_the_usage_with_it(path, far, stream, said):
    far.script(upstream.stream(piece(), HANG) if stream else upstream.black_hole())
    async with serving(config(path, far)) as live:
        await hung_up(live, far, stream=stream)
    booking, call = only(path)
    assert (booking.ended, call.ended, call.state) == ("abandoned", "abandoned", "estimated")
    assert call.estimate.prompt_tokens == PROMPT
    assert call.estimate.completion_tokens == tokens(said)
    assert call.cost == booking.paid == PROMPT * ASKED + tokens(said) * SAID
    assert (call.usage.prompt_tokens, call.usage.completion_tokens) == (None, None)


# --- 2. a failure in mid-stream logs zero: "the largest requests contribute zero" (#30667) -----


@WAYS
@pytest.mark.parametrize("end", [RESET, CLOSE])
async def test_2_a_stream_that_breaks_costs_what_it_said(path, far, wire, end):
    far.script(upstream.stream(piece("word " * 2000), Wait(0.05), end))
    async with opened(path, far) as brain:
        assert isinstance(await asked(brain, wire), Broken)
    booking, call = only(path)
    assert (booking.ended, call.ended) == ("failed", "failed")
    assert call.cost == PROMPT * ASKED + 2500 * SAID


async def test_2_an_overload_in_mid_stream_is_not_free(path, far):
    busy = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    said = messages_api.delta(0, type="text_delta", text=TEXT)
    far.script(messages_api.message(messages_api.start(input_tokens=45), said, busy))
    async with opened(path, far, engine="anthropic") as brain:
        assert isinstance(await asked(brain), ModelError)
    _, call = only(path)
    assert call.usage.prompt_tokens == 45
    assert call.cost == 45 * ASKED + tokens(TEXT) * SAID


# --- 3. the last event has the usage, and the client has gone (#36008) -------------------------


@WAYS
async def test_3_the_usage_that_came_with_the_last_text_is_seen(path, far, wire):
    end = upstream.chunk({}, finish="stop")
    whole = packet(piece("Hello"), piece(" world"), end, last(upstream.DEFAULT_USAGE), "[DONE]")
    far.script(upstream.stream(whole, done=False))
    async with opened(path, far) as brain:
        assert await asked(brain, wire, pieces=1) is None
    booking, call = only(path)
    assert (booking.ended, call.ended, call.state) == ("abandoned", "abandoned", "reported")
    assert (call.usage.prompt_tokens, call.usage.completion_tokens) == (7, 3)
    assert call.cost == 7 * ASKED + 3 * SAID
    assert call.served == "fake-1"


@WAYS
async def test_3_the_usage_that_has_arrived_and_was_not_read_is_seen(path, far, wire):
    end = packet(upstream.chunk({}, finish="stop"), last(upstream.DEFAULT_USAGE), "[DONE]")
    far.script(upstream.stream(piece(), Wait(0.02), end, done=False))
    request = Request.ask(QUESTION, wire=wire)
    async with opened(path, far) as brain, aclosing(brain.run(request)) as events:
        await anext(events)
        await far.until(lambda up: not up.running)
        await asyncio.sleep(0.05)
    _, call = only(path)
    assert (call.ended, call.state) == ("abandoned", "reported")
    assert call.cost == 7 * ASKED + 3 * SAID


# --- 4. tokens of a part of an answer are counted, but not priced (#37558, #39893) -------------


async def test_4_a_part_is_priced_by_tier_and_cache(path, far):
    keys = (
        PLAIN + 'price_cached_input = "0.1"\n[[models.far.price_tiers]]\nfrom_tokens = 200000\n'
        'input = "2"\noutput = "4"\ncached_input = "0.2"\n'
    )
    began = messages_api.start(input_tokens=1000, cache_read_input_tokens=200_000, output_tokens=1)
    said = messages_api.delta(0, type="text_delta", text=TEXT)
    far.script(messages_api.message(began, said, then=(HANG,)))
    async with opened(path, far, engine="anthropic", keys=keys) as brain:
        await asked(brain, pieces=1)
    _, call = only(path)
    assert (call.usage.prompt_tokens, call.usage.cached_tokens) == (201_000, 200_000)
    assert call.cost == 1000 * 2000 + 200_000 * 200 + tokens(TEXT) * 4000


@WAYS
async def test_4_thoughts_have_their_own_price(path, far, wire):
    thought = upstream.chunk({"reasoning_content": "let me think " * 20})
    far.script(upstream.stream(thought, piece(), Wait(0.05), RESET))
    async with opened(path, far, keys=PLAIN + 'price_reasoning = "5"\n') as brain:
        await asked(brain, wire)
    _, call = only(path)
    assert call.estimate.reasoning_tokens == 65
    assert call.cost == PROMPT * ASKED + 65 * 5000 + tokens(TEXT) * SAID


# --- 5. `reported or estimate` takes an explicit 0 for missing (#37992) ------------------------


@WAYS
@pytest.mark.parametrize("pieces", [None, 1], ids=["whole", "abandoned"])
async def test_5_a_reported_0_stays_0(path, far, wire, pieces):
    zeros = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    whole = packet(piece(), piece(), upstream.chunk({}, finish="stop"), last(zeros), "[DONE]")
    far.script(upstream.stream(whole, done=False))
    async with opened(path, far) as brain:
        await asked(brain, wire, pieces=pieces)
    booking, call = only(path)
    assert (call.state, call.estimate, call.cost, booking.paid) == ("reported", None, 0, 0)


# --- 6. an interrupted stream of /v1/messages is not logged at all (#35958) --------------------


async def test_6_an_interrupted_message_is_in_the_book_once_and_stops_upstream(path, far):
    began = messages_api.start(input_tokens=45, output_tokens=1)
    block = messages_api.begin(0, type="text", text="")
    said = messages_api.delta(0, type="text_delta", text=TEXT)
    far.script(messages_api.message(began, block, said, then=(HANG,)))
    async with serving(config(path, far, engine="anthropic")) as live:
        await hung_up(live, far, stream=True)
    booking, call = only(path)
    assert (booking.ended, call.state) == ("abandoned", "estimated")
    # What the first event says of the output is no count, so 1 must not be charged for all.
    assert (call.usage.prompt_tokens, call.usage.completion_tokens) == (45, None)
    assert call.cost == 45 * ASKED + tokens(TEXT) * SAID


# --- usage that cannot be true -----------------------------------------------------------------


@WAYS
@pytest.mark.parametrize(
    ("reported", "known"),
    [
        ({"prompt_tokens": 0, "completion_tokens": 0}, (0, 0)),
        ({"prompt_tokens": 7, "completion_tokens": 10**12}, (7, None)),
        ({"prompt_tokens": -1, "completion_tokens": 3}, (None, 3)),
        ({"prompt_tokens": 10**12, "completion_tokens": -5}, (None, None)),
        ({}, (None, None)),
        (None, (None, None)),
    ],
)
async def test_9_what_cannot_be_true_is_unknown_and_estimated(path, far, wire, reported, known):
    far.script(upstream.chat(TEXT, usage=reported))
    async with opened(path, far) as brain:
        assert isinstance(await asked(brain, wire), Done)
    booking, call = only(path)
    asked_, said = known
    assert (call.usage.prompt_tokens, call.usage.completion_tokens) == known
    assert call.state == ("estimated" if None in known else "reported")
    asked_ = PROMPT if asked_ is None else asked_
    said = tokens(TEXT) if said is None else said
    assert call.cost == booking.paid == asked_ * ASKED + said * SAID


# --- many clients leave ------------------------------------------------------------------------


async def test_10_ten_clients_that_leave_are_booked_once_each_and_leave_no_task(path, far):
    far.script(upstream.stream(piece(), HANG))
    async with serving(config(path, far)) as live:
        before = asyncio.all_tasks()
        await hung_up(live, far, stream=True, clients=10)
        left = [task.get_coro().cr_code.co_filename for task in asyncio.all_tasks() - before]
        assert not [file for file in left if "/bicameral/" in file]
    booked = bookings(path)
    assert [len(booking.calls) for booking in booked] == [1] * 10
    assert {booking.ended for booking in booked} == {"abandoned"}


# --- tries again -------------------------------------------------------------------------------


async def test_a_try_that_broke_after_it_was_sent_is_booked_beside_the_next(path, far):
    far.script(upstream.reset(), upstream.error(504), upstream.error(500), upstream.chat(TEXT))
    async with opened(path, far, retries=3, keys=PLAIN + "backoff = 0.001\n") as brain:
        assert isinstance(await asked(brain), Done)
    (booking,) = bookings(path)
    # The model behind a reset or a gateway may have been asked; one that says 500 bills nothing.
    assert [call.ended for call in booking.calls] == ["failed", "failed", "finished"]
    assert [call.cost for call in booking.calls] == [
        PROMPT * ASKED,
        PROMPT * ASKED,
        7 * ASKED + 3 * SAID,
    ]


# --- and they are faults that these tests find -------------------------------------------------


class Naive(Meter):
    """Books as one would at first: after the stream, with `or` where nothing was reported."""

    async def run(self, request):
        usage = Usage()
        try:
            async for event in self._model.run(request):
                usage = event.usage if isinstance(event, Done) else usage
                yield event
        except ModelError:
            self._book(request, Usage(prompt_tokens=0, completion_tokens=0))
            raise
        self._book(request, usage)

    def _book(self, request, usage):
        usage = Usage(
            prompt_tokens=usage.prompt_tokens or 7,
            completion_tokens=usage.completion_tokens or 1,
        )
        self._note(Call(model="leaf", cost=self.card.price.cost(usage)), request.booking)


@pytest.mark.parametrize(("meter", "right"), [(Meter, True), (Naive, False)])
@pytest.mark.parametrize("case", ["left", "broken", "zero"])
async def test_a_naive_meter_has_these_faults(meter, right, case):
    said = Delta(Text("a" * 40))
    zero = Done(usage=Usage(prompt_tokens=0, completion_tokens=0))
    leaf = Leaf(said, said, *([zero] if case == "zero" else []), price=Price(input=0, output=10**9))
    leaf.error = Broken("leaf", "died") if case == "broken" else None
    costs = []
    try:
        events = meter(leaf, lambda call, _: costs.append(call.cost)).run(Request.ask("hello you"))
        async with aclosing(events):
            async for _ in events:
                if case == "left":
                    break
    except ModelError:
        pass
    wanted = {"left": 10_000, "broken": 20_000, "zero": 0}[case]
    assert (costs == [wanted]) is right
