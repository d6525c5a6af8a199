"""Rating answers over HTTP: by every id an answer has, only one's own, and refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bicameral.journal.store import Entry, Store
from tests.server.client import Got, call, chat
from tests.server.live import Live, serving
from tests.upstream import Upstream

CONFIG = """
[models.echo]
engine = "scripted"
[models.other]
engine = "scripted"
[minds.mind]
policy = "vote"
members = ["echo", "other"]
[minds.outer]
policy = "vote"
members = ["mind", "other"]
[journal]
path = "{path}"
"""
FAR = """
[models.far]
engine = "openai"
url = "{url}"
model = "fake-1"
[minds.mind]
policy = "route"
members = ["far"]
[journal]
path = "{path}"
"""
KEY, OTHER = "sk-0123456789abcdef", "sk-fedcba9876543210"
EXPLAIN = {"x-bicameral-explain": "1"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite3"


@pytest.fixture
async def live(path):
    async with serving(CONFIG.format(path=path)) as live:
        yield live


async def rate(live: Live, body: Any, headers: dict[str, str] | None = None) -> Got:
    return await call(live, "POST", "/v1/feedback", body, headers)


def kept(path: Any, name: str) -> Entry:
    store = Store(path, create=False)
    found = store.find(name)
    store.close()
    assert found
    return found


def name_of(got: Got) -> str:
    return (got.chunks[0] if got.body.startswith(b"data") else got.json)["id"]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_is_rated_by_its_id_or_its_requests(live, path, stream) -> None:
    got = await chat(live, model="mind", stream=stream)
    for name, score in ((name_of(got), 0.25), (got.headers["x-request-id"], 0.75)):
        rated = await rate(live, {"id": name, "score": score})
        assert rated.status == 200
        assert rated.json == {"object": "feedback", "id": name, "score": score}
        assert kept(path, name).score == score


@pytest.mark.parametrize("stream", [False, True])
async def test_a_relayed_answer_is_rated_by_the_id_its_upstream_gave_it(path, stream) -> None:
    async with Upstream() as up, serving(FAR.format(url=up.url, path=path)) as live:
        got = await chat(live, model="mind", stream=stream)
        name = name_of(got)
        assert got.headers["x-request-id"] not in name  # it is the upstream's own
        assert (await rate(live, {"id": name, "score": True})).status == 200
    assert kept(path, got.headers["x-request-id"]).score == 1.0


async def test_the_last_score_counts_and_true_is_one(live, path) -> None:
    name = name_of(await chat(live, model="mind"))
    for score in (False, 0.5, 0.5, True):
        assert (await rate(live, {"id": name, "score": score})).status == 200
    assert kept(path, name).score == 1.0


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"score": 1}, "id"),
        ({"id": "x"}, "score"),
        ({"id": 7, "score": 1}, "id"),
        ({"id": "", "score": 1}, "id"),
        ({"id": "x" * 257, "score": 1}, "id"),
        ({"id": "x", "score": 1.01}, "score"),
        ({"id": "x", "score": -1}, "score"),
        ({"id": "x", "score": "1"}, "score"),
        ({"id": "x", "score": None}, "score"),
        ({"id": "x", "score": [1]}, "score"),
        ({"id": "x", "score": 1, "comment": "good"}, "comment"),
        (b'{"id":"x","score":NaN}', None),
        (b'{"id":"x","score":1e400}', None),
        (b'{"id":"x","score":1,"score":0}', None),
        (b"[]", None),
        (b"", None),
    ],
)
async def test_what_is_wrong_is_refused_by_name(live, body, param) -> None:
    got = await rate(live, body)
    assert (got.status, got.error["param"]) == (400, param)


async def test_an_unknown_answer_is_404(live) -> None:
    plain = await chat(live, model="echo")
    for name in ("chatcmpl-no", name_of(plain), "' OR 1=1 --", "%", "\n"):
        got = await rate(live, {"id": name, "score": 1})
        assert (got.status, got.error["code"]) == (404, "unknown_answer")


async def test_nobody_rates_anothers_answer(monkeypatch, path) -> None:
    """Every pair of keys, even where both chose the same request id."""
    monkeypatch.setenv("TEST_KEYS", f"{KEY}, {OTHER}")
    bearers = [{"Authorization": f"Bearer {key}"} for key in (KEY, OTHER)]
    async with serving(CONFIG.format(path=path), keys_env="TEST_KEYS") as live:
        names = [name_of(await chat(live, bearer, model="mind")) for bearer in bearers]
        for i, name in enumerate(names):
            for j, bearer in enumerate(bearers):
                got = await rate(live, {"id": name, "score": j}, bearer)
                assert got.status == (200 if i == j else 404)
        for j, bearer in enumerate(bearers):
            same = bearer | {"x-request-id": "same"}
            name = name_of(await chat(live, same, model="mind"))
            assert (await rate(live, {"id": name, "score": j}, bearer)).status == 200
        assert (await rate(live, {"id": names[0], "score": 1})).status == 401
    assert [kept(path, name).score for name in names] == [0.0, 1.0]
    store = Store(path)
    assert sorted(entry.score for entry in store.rated() if entry.id == "same") == [0.0, 1.0]
    store.close()
    assert KEY.encode() not in b"".join(f.read_bytes() for f in path.parent.iterdir())


async def test_a_page_of_another_site_cannot_rate(live) -> None:
    got = await rate(live, {"id": "x", "score": 1}, {"Origin": "https://elsewhere.example"})
    assert got.status == 403


async def test_a_journal_that_cannot_be_written_is_503_and_answers_go_on(live, path) -> None:
    path.mkdir()
    got = await chat(live, model="mind")
    assert got.status == 200
    rated = await rate(live, {"id": name_of(got), "score": 1})
    assert (rated.status, rated.error["code"]) == (503, "journal_unavailable")
    assert str(path) not in rated.body.decode()
    assert (await call(live, "GET", "/readyz")).json["journal"] == "failing"
    assert b"bicameral_journal_dropped_total 1\n" in (await call(live, "GET", "/metrics")).body
    assert (await chat(live, model="mind")).status == 200


async def test_switched_off_it_says_so(path) -> None:
    async with serving(CONFIG.format(path=path) + "enabled = false") as live:
        got = await rate(live, {"id": name_of(await chat(live, model="mind")), "score": 1})
        assert (got.status, got.error["code"]) == (404, "journal_off")
        assert (await call(live, "GET", "/readyz")).json["journal"] == "off"


async def test_only_post(live) -> None:
    assert (await call(live, "GET", "/v1/feedback")).status == 405


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("ask", [EXPLAIN, {"bicameral": {"explain": True}}])
async def test_the_explanation_holds_the_decision_as_it_is_kept(live, path, ask, stream) -> None:
    headers = ask if ask is EXPLAIN else None
    fields = {} if ask is EXPLAIN else ask
    got = await chat(live, headers, model="outer", stream=stream, **fields)
    told = got.chunks[-1]["bicameral"] if stream else got.json["bicameral"]
    assert told["id"] == got.headers["x-request-id"]
    await rate(live, {"id": told["id"], "score": 1})  # writes what was noted before
    entry = kept(path, told["id"])
    assert told["decision"]["mind"] == "outer"
    assert [inner["mind"] for inner in told["inner"]] == ["mind"]
    assert [told["decision"]["by"], told["inner"][0]["by"]] == [d.by for d in entry.decisions]
    assert told["decision"]["asked"][0]["model"] == "mind"


async def test_a_plain_member_decides_nothing(live) -> None:
    told = (await chat(live, EXPLAIN, model="echo")).json["bicameral"]
    assert told["decision"] is None
    assert told["calls"]


async def test_what_is_ours_in_a_body_stays_here(path) -> None:
    """The rest of the body goes on byte for byte."""
    async with Upstream() as up, serving(FAR.format(url=up.url, path=path)) as live:
        body = b'{"bicameral": {"explain":true}, "model":"mind", "seed": 1,"top_k":1.50,'
        body += b'"messages":[{"role":"user","content":"a \\u00e9"}]}'
        got = await call(live, "POST", "/v1/chat/completions", body)
        assert got.json["bicameral"]["decision"]["mind"] == "mind"
        sent = up.requests[-1].body
    assert set(json.loads(sent)) == {"model", "seed", "top_k", "messages"}
    assert b'[{"role":"user","content":"a \\u00e9"}]' in sent
    assert b"1.50" in sent


@pytest.mark.parametrize("ours", [{"explain": "yes"}, {"explian": True}, 1, [1]])
async def test_what_is_ours_is_checked_too(live, ours) -> None:
    got = await chat(live, model="mind", bicameral=ours)
    assert got.status == 400
    assert got.error["param"].startswith("bicameral")


async def test_what_is_ours_may_be_null(live) -> None:
    got = await chat(live, model="mind", bicameral=None)
    assert "bicameral" not in got.json
    assert got.status == 200
