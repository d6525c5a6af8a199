"""Videos over HTTP by the real client: made, looked at, listed, fetched, cancelled, deleted."""

from __future__ import annotations

import io
from pathlib import Path

import openai
import pytest

from bicameral.config import parse
from bicameral.errors import ConfigError
from tests.server.client import call, until
from tests.server.filming import (
    FILM,
    GIF,
    MP4,
    NPZ,
    PNG,
    SLOW,
    client,
    ended,
    form,
    get,
    kept,
    post,
    running,
)
from tests.server.live import serving

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API")


@pytest.fixture
async def live(tmp_path: Path):
    async with serving(FILM + SLOW + kept(tmp_path, running=2)) as live:
        yield live


def files(tmp_path: Path) -> list[str]:
    return sorted(p.parent.name for p in tmp_path.glob("*/video_*"))


# --- the real client ---------------------------------------------------------------------------


async def test_the_openai_client_makes_a_video_and_fetches_it(live, tmp_path) -> None:
    async with client(live) as api:
        made = await api.videos.create_and_poll(
            prompt="a ball", seconds="4", size="1280x720", poll_interval_ms=10
        )
        assert (made.object, made.status, made.progress) == ("video", "completed", 100)
        assert (made.model, made.seconds, made.size) == ("film", "1", "1280x720")
        assert made.error is None
        assert made.created_at <= made.completed_at < made.expires_at
        clip = await api.videos.download_content(made.id)
        assert clip.content == MP4
        headers = clip.response.headers
        assert headers["content-type"] == "video/mp4"
        assert headers["content-length"] == str(len(MP4))
        assert headers["accept-ranges"] == "none"
        await until(lambda: files(tmp_path) == ["made"])
        gone = await api.videos.delete(made.id)
        assert (gone.id, gone.deleted, gone.object) == (made.id, True, "video.deleted")
        assert files(tmp_path) == []
        for ask in (api.videos.retrieve, api.videos.download_content, api.videos.delete):
            with pytest.raises(openai.NotFoundError, match="there is no video"):
                await ask(made.id)


async def test_it_uploads_a_reference_and_further_fields(live, monkeypatch) -> None:
    asked = []
    film = live.scripted("film")
    say = film._film
    monkeypatch.setattr(film, "_film", lambda request: asked.append(request) or say(request))
    async with client(live) as api:
        made = await api.videos.create_and_poll(
            prompt="it goes on",
            input_reference=("clip.gif", io.BytesIO(GIF)),
            extra_body={
                "num_frames": 16,
                "fps": 8,
                "seed": 7,
                "num_inference_steps": 20,
                "guidance_scale": 2.5,
                "extra_params": {"task": "interpolate", "keep_frames": [0, 8]},
            },
            poll_interval_ms=10,
        )
    assert made.status == "completed"
    (request,) = asked
    text, clip = request.messages[0].parts
    assert (text.text, clip.data, clip.media_type) == ("it goes on", GIF, "image/gif")
    spec = request.video
    assert (spec.task, spec.keep, spec.frames, spec.fps) == ("interpolate", (0, 8), 16, 8)
    assert (spec.steps, spec.guidance, request.sampling.seed) == (20, 2.5, 7)
    assert request.id == made.id


async def test_it_lists_page_by_page(live) -> None:
    async with client(live) as api:
        ids = [(await api.videos.create(prompt=str(n))).id for n in range(5)]
        assert [job.id async for job in api.videos.list(limit=2)] == ids[::-1]
        assert [job.id async for job in api.videos.list(limit=2, order="asc")] == ids
        assert [job.id async for job in api.videos.list(after=ids[3], order="asc")] == ids[4:]
        page = await api.videos.list(limit=5)
        assert (page.has_more, page.last_id) == (False, ids[0])
        with pytest.raises(openai.NotFoundError):
            await api.videos.list(after="video_0")
        for query in ({"limit": 0}, {"limit": 101}, {"limit": "x"}, {"order": "up"}):
            with pytest.raises(openai.BadRequestError, match=next(iter(query))):
                await api.videos.list(extra_query=query)


@pytest.mark.parametrize(
    ("kind", "clip", "media_type"),
    [
        ("gif", GIF, "image/gif"),
        ("npz", NPZ, "application/x-npz"),
        ("png", PNG, "image/png"),
        ("mp4", MP4, "video/mp4"),
    ],
)
async def test_a_clip_comes_as_what_was_asked_for(live, kind, clip, media_type) -> None:
    id = (await post(live, output_format=kind)).json["id"]
    await ended(live, id)
    got = await get(live, id, "/content?variant=video")
    assert (got.body, got.headers["content-type"]) == (clip, media_type)
    assert f'filename="{id}.{kind}"' in got.headers["content-disposition"]
    at_once = await post(live, path="/v1/videos/sync", output_format=kind)
    assert (at_once.body, at_once.headers["content-type"]) == (clip, media_type)
    assert at_once.headers["content-length"] == str(len(clip))
    assert (await get(live, id, "/content?variant=thumbnail")).error["param"] == "variant"


# --- progress, and how it ends -------------------------------------------------------------------


async def test_a_running_job_tells_how_far_it_is_and_has_no_content_yet(live) -> None:
    id = (await post(live, model="slow")).json["id"]
    await running(live)
    while not (job := (await get(live, id)).json)["progress"]:
        pass
    assert job["status"] == "in_progress"
    assert 0 < job["progress"] < 100
    assert job["started_at"] >= job["created_at"]
    got = await get(live, id, "/content")
    assert (got.status, got.error["code"]) == (409, "video_not_ready")
    assert got.headers["retry-after"] == "1"


async def test_cancelling_stops_the_model_between_steps_and_keeps_the_record(live, tmp_path):
    id = (await post(live, model="slow")).json["id"]
    await running(live)
    cancelled = await call(live, "POST", f"/v1/videos/{id}/cancel")
    assert (cancelled.status, cancelled.json["status"]) == (200, "cancelled")
    assert (live.scripted("slow").cancelled, live.scripted("slow").running) == (1, 0)
    assert files(tmp_path) == []
    again = await call(live, "POST", f"/v1/videos/{id}/cancel")
    assert again.json == cancelled.json == (await get(live, id)).json
    assert (await get(live, id, "/content")).status == 409


async def test_deleting_stops_the_model_too(live, tmp_path) -> None:
    id = (await post(live, model="slow")).json["id"]
    await running(live)
    assert (await call(live, "DELETE", f"/v1/videos/{id}")).json["deleted"]
    assert live.scripted("slow").cancelled == 1
    assert files(tmp_path) == []
    assert (await get(live, id)).status == 404


async def test_what_has_ended_cannot_be_cancelled(live) -> None:
    id = (await post(live)).json["id"]
    await ended(live, id)
    got = await call(live, "POST", f"/v1/videos/{id}/cancel")
    assert (got.status, got.error["code"]) == (409, "video_completed")
    assert (await get(live, id, "/content")).status == 200


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ('fail = "overloaded"', "overloaded"),
        ('fail = "rejected"', "scripted"),
        ("die_after = 2", "broken_answer"),
    ],
)
async def test_a_model_that_fails_fails_the_job(tmp_path, script, code) -> None:
    bad = f'[models.bad]\nengine = "scripted"\nemits = ["video"]\n{script}\n'
    async with serving(bad + kept(tmp_path)) as live:
        job = await ended(live, (await post(live)).json["id"])
        assert (job["status"], job["error"]["code"]) == ("failed", code)
        assert job["error"]["message"]
        await until(lambda: not files(tmp_path))
        assert (await get(live, job["id"], "/content")).status == 409
        assert (await post(live, path="/v1/videos/sync")).status >= 400


async def test_what_is_unexpected_fails_the_job_and_tells_nothing(live, monkeypatch, caplog):
    async def broken(request):
        raise ZeroDivisionError("of a secret")
        yield

    monkeypatch.setattr(live.scripted("film"), "_film", broken)
    job = await ended(live, (await post(live)).json["id"])
    assert job["error"]["code"] == "server_error"
    assert "secret" not in job["error"]["message"]
    assert any(record.exc_info for record in caplog.records)


async def test_a_job_may_take_only_so_long(live) -> None:
    got = await post(live, {"x-bicameral-timeout": "0.2"}, model="slow")
    job = await ended(live, got.json["id"])
    assert job["error"]["code"] == "timeout"
    assert live.scripted("slow").cancelled == 1


async def test_who_hangs_up_cancels_what_he_waits_for(live) -> None:
    async with client(live) as api:
        with pytest.raises(openai.APITimeoutError):
            await api.post(
                "/videos/sync", cast_to=object, body={"prompt": "", "model": "slow"},
                options={"timeout": 0.3},
            )  # fmt: skip
    await running(live, count=0)
    assert live.scripted("slow").cancelled == 1


# --- what there is and what not ------------------------------------------------------------------


async def test_without_a_model_that_makes_videos_the_answer_says_which_engine_to_add() -> None:
    async with serving() as live:
        for got in (
            await post(live),
            await post(live, path="/v1/videos/sync"),
            await get(live, "video_0"),
            await call(live, "GET", "/v1/videos"),
        ):
            assert got.status == 404
            assert "add one of engine 'vdt'" in got.error["message"]
        assert "bicameral_videos" not in (await call(live, "GET", "/metrics")).body.decode()


async def test_they_can_be_switched_off(tmp_path) -> None:
    async with serving(FILM + kept(tmp_path / "none", enabled=False)) as live:
        assert (await post(live)).error["code"] == "videos_off"
    assert not (tmp_path / "none").exists()


async def test_a_model_that_makes_none_is_refused_before_it_is_queued(live) -> None:
    got = await post(live, model="chat")
    assert (got.status, got.error["code"]) == (400, "unsupported")
    assert (await post(live, model="flim")).error["code"] == "model_not_found"
    assert (await call(live, "GET", "/v1/videos")).json["data"] == []


async def test_what_a_model_does_not_take_is_refused_before_it_is_queued(tmp_path) -> None:
    blind = '[models.blind]\nengine = "scripted"\nemits = ["video"]\nfeatures = []\n'
    async with serving(blind + kept(tmp_path)) as live:
        assert (await form(live, ("prompt", "x"), ("input_reference", PNG))).status == 400
        assert (await post(live, seed=1)).error["param"] == "seed"
        assert (await post(live)).status == 200


async def test_a_prompt_nobody_reads_is_refused_before_it_is_queued(tmp_path) -> None:
    deaf = '[models.deaf]\nengine = "scripted"\naccepts = ["image"]\nemits = ["video"]\n'
    async with serving(deaf + kept(tmp_path)) as live:
        got = await post(live, prompt="a ball")
        assert (got.status, got.error["param"], got.error["code"]) == (400, "prompt", "unsupported")
        assert 'send ""' in got.error["message"]
        assert (await post(live, prompt="")).status == 200


async def test_the_metrics_count_jobs_by_status(live) -> None:
    await ended(live, (await post(live)).json["id"])
    text = (await call(live, "GET", "/metrics")).body.decode()
    assert 'bicameral_videos{status="completed"} 1' in text
    assert 'bicameral_videos{status="queued"} 0' in text
    assert 'route="videos",model="film",status="200"' in text


async def test_who_waits_for_a_clip_waits_only_so_long(live) -> None:
    got = await post(live, {"x-bicameral-timeout": "0.2"}, path="/v1/videos/sync", model="slow")
    assert (got.status, got.error["code"]) == (504, "timeout")
    assert (live.scripted("slow").cancelled, live.scripted("slow").running) == (1, 0)


async def test_the_headers_that_limit_any_request_limit_this_one(live) -> None:
    unpriced = await post(live, {"x-bicameral-budget": "0.01"})
    assert (unpriced.status, unpriced.error["code"]) == (402, "budget_exceeded")
    assert (await post(live, {"x-bicameral-reach": "mars"})).error["param"] == "x-bicameral-reach"
    assert (await post(live, {"Content-Encoding": "gzip"})).status == 415


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("qeue = 1", ["[videos]", "'qeue'", "'queue'"]),
        ("running = 0", ["[videos] running", ">= 1"]),
        ("keep_seconds = 0", ["[videos] keep_seconds"]),
        ("path = 3", ["[videos] path", "str"]),
    ],
)
def test_a_wrong_table_says_where(table, words) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"[videos]\n{table}", "test")
    for word in words:
        assert word in str(caught.value)
