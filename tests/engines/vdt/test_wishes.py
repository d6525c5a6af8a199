"""From a request to the frames that are given and the mask of what is to be made; no net runs."""

from __future__ import annotations

from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs pip install 'bicameral[video]'")
pytest.importorskip("PIL.Image", reason="needs pip install 'bicameral[video]'")

from bicameral.engines.vdt.asking import Asked, Habits, asked  # noqa: E402
from bicameral.engines.vdt.design import Design  # noqa: E402
from bicameral.engines.vdt.fit import Shape  # noqa: E402
from bicameral.engines.vdt.wishes import Wish, wish  # noqa: E402
from bicameral.errors import RequestError, Unsupported  # noqa: E402
from bicameral.model import admit  # noqa: E402
from bicameral.types import (  # noqa: E402
    Card,
    Image,
    Message,
    Modality,
    Request,
    Sampling,
    Text,
    Video,
    VideoLimits,
    VideoSpec,
)
from tests.engines.vdt.serving import clip, noise, packed, picture, saved  # noqa: E402

L, SIDE, CELL = 8, 12, 4


def habits(**design: Any) -> Habits:
    usual = {"kind": "modern", "patch": CELL, "depth": 1, "dim": 16, "heads": 2}
    shape = {"frames": L, "height": SIDE, "width": SIDE}
    made = Design(**{**usual, **shape, **design})
    limits = VideoLimits(
        width=SIDE,
        height=SIDE,
        fixed=made.kind == "faithful",
        cell=made.cell,
        pixels=4 * SIDE * SIDE,
        frames=32,
        steps=200,
    )
    return Habits(design=made, limits=limits, steps=20, guidance=1.0, fps=10.0)


def heard(*parts: Any, has: Habits | None = None, **spec: Any) -> Asked:
    has = has or habits()
    takes, gives = frozenset({Modality.IMAGE, Modality.VIDEO}), frozenset({Modality.VIDEO})
    card = Card(name="demo", engine="vdt", accepts=takes, emits=gives, clips=has.limits)
    message = Message("user", parts)
    request = Request(messages=(message,), output=Modality.VIDEO, video=VideoSpec(**spec))
    admit(card, request)
    return asked(request, has)


def wished(*parts: Any, has: Habits | None = None, **spec: Any) -> Wish:
    return wish(heard(*parts, has=has, **spec))


def film(frames: int, side: int = SIDE):
    return noise(frames, side, side, 3)


def still(kind: str = "PNG", side: int = SIDE) -> Image:
    return picture(noise(side, side, 3), kind)


def test_a_request_that_says_nothing_dreams_as_the_net_learned_to() -> None:
    request = Request(messages=(Message("user", (Text(" \n"),)),))
    said = asked(request, habits())
    made = wish(said)
    assert (said.task, said.steps, said.guidance, said.format) == ("unconditional", 20, 1.0, "mp4")
    assert made.film.shape == (L, SIDE, SIDE, 3)
    assert made.mask.shape == (L, 3, 3)
    assert made.mask.all()
    assert not made.kept.any()
    assert (made.frames, made.fps) == (L, 10.0)


PLACES = [
    # what is given, what is asked, frames of the clip, and which of them are given
    (3, {}, L, [0, 1, 2]),
    (3, {"task": "predict", "frames": 5}, 5, [0, 1, 2]),
    (10, {"task": "predict"}, 14, range(10)),
    (10, {"task": "predict", "frames": 11}, 11, range(10)),
    (3, {"task": "backward"}, L, [5, 6, 7]),
    (10, {"task": "backward"}, 14, range(4, 14)),
    (2, {"task": "interpolate"}, L, [0, 7]),
    (3, {"task": "interpolate", "frames": 9}, 9, [0, 4, 8]),
    (10, {"task": "interpolate"}, 19, range(0, 19, 2)),
    (2, {"task": "interpolate", "keep": (1, 6)}, L, [1, 6]),
    (9, {"task": "interpolate", "frames": 9}, 9, [0, 4, 8]),
    (2, {"keep": (5, 2)}, L, [5, 2]),
    (2, {"task": "frames", "keep": (3, 11)}, 12, [3, 11]),
    (9, {"task": "frames", "keep": (0, 8)}, 9, [0, 8]),
    (1, {"task": "image"}, L, [0]),
    (1, {"task": "image", "keep": (4,)}, L, [4]),
]


@pytest.mark.parametrize(("given", "spec", "frames", "places"), PLACES)
def test_what_is_given_goes_where_the_task_says(given, spec, frames, places) -> None:
    sent, places = film(given), list(places)
    made = wished(clip(sent), **spec)
    assert made.film.shape == (frames, SIDE, SIDE, 3)
    picked = sent[places] if given == frames else sent
    assert (made.film[places] == picked).all()
    rest = [i for i in range(frames) if i not in places]
    assert not made.film[rest].any()
    assert made.mask[rest].all()
    assert not made.mask[places].any()
    assert made.kept[places].all()
    assert not made.kept[rest].any()


def test_pictures_are_frames_in_their_order() -> None:
    sent = film(2)
    made = wished(*map(picture, sent), keep=(6, 1))
    assert (made.film[[6, 1]] == sent).all()
    alone = wished(picture(sent[0]))
    assert (alone.film[0] == sent[0]).all()
    assert alone.mask[1:].all()
    assert (wished(*map(picture, sent), task="predict").film[:2] == sent).all()


def test_the_rate_is_that_asked_for_else_of_the_clip_else_the_members() -> None:
    assert wished(clip(film(2)), fps=24).fps == 24
    assert wished(clip(film(2))).fps == 5.0
    assert wished(still()).fps == 10.0


# --- sizes -------------------------------------------------------------------------------------


def test_what_has_the_size_is_not_touched() -> None:
    frame = noise(SIDE, SIDE, 3)
    assert Shape(SIDE, SIDE, 3).fit(frame, "messages") is frame


def test_the_largest_middle_part_of_the_wanted_shape_is_taken() -> None:
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = 200  # the middle third
    assert (Shape(4, 4, 3).fit(wide, "messages") == 200).all()
    assert (Shape(8, 8, 3).fit(wide, "messages")[:, 2:6] == 200).all()
    assert (Shape(2, 2, 3).fit(wide, "messages") == 200).all()
    tall = wide.transpose(1, 0, 2)
    assert (Shape(4, 4, 3).fit(tall, "messages") == 200).all()


def test_smaller_is_the_mean_of_what_lies_under_it() -> None:
    frame = np.zeros((4, 4, 1), np.uint8)
    frame[::2] = 200
    assert (Shape(2, 2, 1).fit(frame, "messages") == 100).all()


def test_colours_become_what_the_net_makes() -> None:
    grey = wished(clip(film(2)), has=habits(channels=1))
    assert grey.film.shape[3] == 1
    assert 0 < grey.film[0].mean() < 255
    colour = wished(clip(noise(2, SIDE, SIDE, 1)))
    assert (colour.film[0, ..., 0] == colour.film[0, ..., 2]).all()


def test_a_clip_is_made_at_the_size_asked_for() -> None:
    made = wished(still(side=40), width=20, height=16)
    assert made.film.shape == (L, 16, 20, 3)
    assert made.mask.shape == (L, 4, 5)


# --- masks -------------------------------------------------------------------------------------


def test_a_token_is_made_if_any_pixel_under_it_is_and_the_others_are_kept() -> None:
    sent, mask = film(3), np.zeros((3, SIDE, SIDE))
    mask[1, 5, 2] = 1
    made = wished(clip(sent), mask=saved(mask))
    assert np.argwhere(made.mask).tolist() == [[1, 1, 0]]
    assert (made.film == sent).all()
    assert np.argwhere(~made.kept).tolist() == [[1, 5, 2]]


def test_a_mask_may_be_a_part_and_a_token_gets_the_most_of_it() -> None:
    mask = np.zeros((2, SIDE, SIDE), np.float32)
    mask[0, :4, :4] = 0.25
    mask[0, 0, 0] = 0.5
    made = wished(clip(film(2)), mask=packed(anything=mask))
    assert made.mask[0, 0, 0] == 0.5
    assert made.mask.sum() == 0.5


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_is_a_mask_for_every_frame(kind) -> None:
    drawn = np.zeros((SIDE, SIDE, 3), np.uint8)
    drawn[:, 8:] = 255
    made = wished(clip(film(3)), mask=picture(drawn, kind).data)
    assert (made.mask == np.array([0, 0, 1])).all()
    assert set(np.unique(made.mask)) == {0, 1}


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float16, np.float64])
def test_numbers_of_any_kind_and_one_plane_for_all_frames(dtype) -> None:
    plane = np.zeros((SIDE, SIDE), dtype)
    plane[:4] = 1
    assert wished(clip(film(2)), mask=saved(plane)).mask.sum() == 2 * 3


def test_a_mask_of_the_clips_own_size_is_fitted_as_the_clip_is() -> None:
    mask = np.zeros((2, 24, 48))
    mask[:, 0, 12] = 1  # the first pixel of the middle square
    mask[:, :, :12] = 1  # cut off with what it covers
    made = wished(clip(noise(2, 24, 48, 3)), mask=saved(mask))
    assert np.argwhere(~made.kept).tolist() == [[0, 0, 0], [1, 0, 0]]


def test_a_faithful_net_makes_all_its_frames_or_more() -> None:
    faithful = habits(kind="faithful")
    made = wished(clip(film(2)), has=faithful, frames=5)
    assert made.film.shape[0] == L
    assert made.frames == 5
    assert made.mask[2:].all()
    assert len(wished(has=faithful, frames=20).film) == 20


# --- what is refused ---------------------------------------------------------------------------

TEXT, ONE, TWO = Text("a red ball"), clip(film(1)), clip(film(2))
HALF = saved(np.full((2, SIDE, SIDE), 0.5))
ALL = saved(np.ones((2, SIDE, SIDE)))
WRONG = [
    ("prompt", [TEXT], {}),
    ("prompt", [ONE, TEXT], {}),
    ("messages", [Video(url="https://example.org/a.mp4")], {}),
    ("messages", [Image(url="https://example.org/a.png")], {}),
    ("messages", [ONE, TWO], {}),
    ("messages", [ONE, still()], {}),
    ("messages", [Video(data=b"\0" * 50)], {}),
    ("messages", [Video(data=b"")], {}),
    ("messages", [Image(data=b"no picture")], {}),
    ("messages", [Image(data=still().data[:60])], {}),
    ("messages", [clip(noise(1, 8, 8, 4))], {}),
    ("messages", [clip(film(33, 4))], {}),
    ("messages", [still()] * 33, {"task": "predict"}),
    ("messages", [], {"task": "predict"}),
    ("messages", [], {"task": "image"}),
    ("messages", [], {"mask": ALL}),
    ("task", [TWO], {"task": "unconditional"}),
    ("frames", [], {"frames": 0}),
    ("frames", [], {"frames": 33}),
    ("frames", [clip(film(5))], {"frames": 4}),
    ("frames", [clip(film(5))], {"frames": 5}),
    ("frames", [clip(film(30))], {}),
    ("frames", [clip(film(20))], {"task": "interpolate"}),
    ("frames", [TWO], {"mask": ALL, "frames": 3}),
    ("width", [], {"width": 13}),
    ("width", [], {"width": 0}),
    ("width", [], {"width": 400, "height": 400}),
    ("height", [], {"height": -4}),
    ("fps", [], {"fps": 0}),
    ("fps", [], {"fps": float("nan")}),
    ("fps", [], {"fps": 1000.0}),
    ("steps", [], {"steps": 0}),
    ("steps", [], {"steps": 201}),
    ("guidance", [], {"guidance": -1.0}),
    ("guidance", [], {"guidance": 20.5}),
    ("keep", [TWO], {"task": "frames"}),
    ("keep", [TWO], {"task": "predict", "keep": (0, 1)}),
    ("keep", [TWO], {"keep": (0, 0)}),
    ("keep", [TWO], {"keep": (-1, 2)}),
    ("keep", [TWO], {"keep": ()}),
    ("keep", [TWO], {"keep": (1, 2, 3)}),
    ("keep", [TWO], {"keep": (1, 9), "frames": 9}),
    ("keep", [TWO], {"task": "image"}),
    ("keep", [ONE], {"task": "interpolate"}),
    ("keep", [], {"keep": (1,)}),
    ("mask", [TWO], {"task": "complete"}),
    ("mask", [TWO], {"task": "predict", "mask": ALL}),
    ("mask", [TWO], {"mask": saved(np.zeros((2, SIDE, SIDE)))}),
    ("mask", [TWO], {"mask": saved(np.ones((3, SIDE, SIDE)))}),
    ("mask", [TWO], {"mask": saved(np.ones(2))}),
    ("mask", [TWO], {"mask": saved(np.ones((2, 6, 6)))}),
    ("mask", [TWO], {"mask": saved(np.full((2, SIDE, SIDE), 1.5))}),
    ("mask", [TWO], {"mask": saved(np.full((2, SIDE, SIDE), np.nan))}),
    ("mask", [TWO], {"mask": saved(np.full((2, SIDE, SIDE), "1"))}),
    ("mask", [TWO], {"mask": packed(a=np.ones(2), b=np.ones(2))}),
    ("mask", [TWO], {"mask": b"what is this"}),
    ("mask", [TWO], {"mask": b""}),
    ("mask", [TWO], {"mask": b"\x93NUMPY\x01\x00"}),
    ("mask", [TWO], {"mask": bytes(8 * 2**20 + 1)}),
]


@pytest.mark.parametrize(("param", "parts", "spec"), WRONG, ids=lambda x: str(x)[:40])
def test_what_cannot_be_is_refused_by_name(param, parts, spec) -> None:
    with pytest.raises(RequestError) as caught:
        wished(*parts, **spec)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("param", "parts", "spec"),
    [("width", [], {"width": 16}), ("height", [], {"height": 8}), ("mask", [TWO], {"mask": HALF})],
)
def test_a_faithful_net_refuses_what_only_a_modern_one_can(param, parts, spec) -> None:
    wished(*parts, **spec)
    with pytest.raises(RequestError) as caught:
        wished(*parts, has=habits(kind="faithful"), **spec)
    assert caught.value.param == param


@pytest.mark.parametrize("word", ["max_tokens", "temperature", "top_p"])
def test_what_is_about_words_is_refused_by_name(word) -> None:
    request = Request(messages=(Message("user", ()),), sampling=Sampling(**{word: 1}))
    with pytest.raises(Unsupported) as caught:
        asked(request, habits())
    assert caught.value.param == word


def test_the_nearest_size_is_named() -> None:
    with pytest.raises(RequestError, match="multiple of 4: 16 is near 15"):
        heard(width=15)
