"""A text-only member behind the server answers about pictures; real OCR, OpenAI's own client."""

from __future__ import annotations

import asyncio
import base64
import io
from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError

from tests.server.live import serving

pytest.importorskip("rapidocr", reason="needs pip install 'bicameral[see]'")
PIL = pytest.importorskip("PIL.Image")

# The scripted member says the question back, so the answer shows what it was given.
CONFIG = """
[models.echo]
engine = "scripted"
[models.eyes]
engine = "ocr"
[minds.mind]
policy = "vote"
members = ["echo"]
"""


def picture(*lines: str) -> dict[str, Any]:
    from PIL import ImageDraw, ImageFont

    canvas = PIL.new("RGB", (420, 60 * len(lines) + 40), "white")
    font = ImageFont.load_default(40)
    for i, line in enumerate(lines):
        ImageDraw.Draw(canvas).text((30, 20 + 60 * i), line, "black", font=font)
    file = io.BytesIO()
    canvas.save(file, "PNG")
    return sent(file.getvalue())


def sent(data: bytes) -> dict[str, Any]:
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def asks(text: str, *pictures: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": text}, *pictures]}


def client(live: Any) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=live.base_url, api_key="none", max_retries=0)


async def test_a_text_only_member_answers_about_a_picture_and_a_follow_up_keeps_it() -> None:
    async with serving(CONFIG) as live, client(live) as openai:
        first = asks("What does it say?", picture("ROOM 417", "open 8:30"))
        reply = await openai.chat.completions.create(model="mind", messages=[first])
        assert "ROOM 417" in (reply.choices[0].message.content or "")
        more = [
            first,
            {"role": "assistant", "content": "Room 417."},
            asks("And the second one?", picture("ROOM 552")),
        ]
        stream = await openai.chat.completions.create(model="echo", messages=more, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert "Picture 2" in text
        assert "552" in text


async def test_forty_pictures_at_once_are_all_read() -> None:
    async with serving(CONFIG) as live, client(live) as openai:
        asked = [asks("?", picture(f"GATE {i % 4}")) for i in range(40)]
        replies = await asyncio.gather(
            *(openai.chat.completions.create(model="mind", messages=[one]) for one in asked)
        )
        for i, reply in enumerate(replies):
            assert f"GATE {i % 4}" in (reply.choices[0].message.content or "")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(sent(b"\x89PNG\r\n\x1a\n" + bytes(40)), id="header of nothing"),
        pytest.param({**picture("x"), "image_url": {"url": "data:image/png;base64,AAAA"}}, id="no"),
        pytest.param(
            {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/x.png"}}, id="url"
        ),
    ],
)
async def test_a_bad_picture_is_a_400_and_the_next_request_is_fine(content: Any) -> None:
    async with serving(CONFIG) as live, client(live) as openai:
        with pytest.raises(BadRequestError) as caught:
            await openai.chat.completions.create(model="mind", messages=[asks("?", content)])
        assert caught.value.param
        good = await openai.chat.completions.create(
            model="mind", messages=[asks("?", picture("FINE 1"))]
        )
        assert "FINE 1" in (good.choices[0].message.content or "")


async def test_a_truncated_picture_is_the_callers_error() -> None:
    whole = base64.b64decode(picture("CUT 1")["image_url"]["url"].partition(",")[2])
    async with serving(CONFIG) as live, client(live) as openai:
        with pytest.raises(BadRequestError):
            await openai.chat.completions.create(
                model="mind", messages=[asks("?", sent(whole[: len(whole) // 3]))]
            )
