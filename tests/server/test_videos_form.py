"""What may be asked of /v1/videos: forms and JSON, references, masks, what contradicts itself."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bicameral.config import ServerOptions
from bicameral.errors import BicameralError, RequestError
from bicameral.server.videos import form, mask
from bicameral.types import Image, Video
from tests.server.filming import GIF, MP4, NPZ, PNG, npy

OPTIONS = ServerOptions(max_image_pixels=4096)
JPEG = b"\xff\xd8\xff\xc0\x00\x11\x08\x00\x10\x00\x10\x03" + bytes(12)
HUGE = PNG[:16] + (100).to_bytes(4) + (100).to_bytes(4) + PNG[24:]
MASK = npy(np.ones((8, 4, 4)))
BOUNDARY = b"multipart/form-data; boundary=x"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def url(data: bytes) -> str:
    return f"data:application/octet-stream;base64,{b64(data)}"


def packed(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def as_json(**fields: Any) -> form.Asked:
    body = msgspec.json.encode({"prompt": "x", **fields})
    return form.read(body, b"application/json", OPTIONS)


def as_form(*parts: tuple[str, Any]) -> form.Asked:
    lines = []
    for name, value in (("prompt", "x"), *parts):
        file = b'; filename="f"' if isinstance(value, bytes) else b""
        data = value if isinstance(value, bytes) else value.encode()
        head = b'--x\r\nContent-Disposition: form-data; name="' + name.encode() + b'"' + file
        lines.append(head + b"\r\n\r\n" + data + b"\r\n")
    return form.read(b"".join([*lines, b"--x--\r\n"]), BOUNDARY, OPTIONS)


def part(asked: form.Asked) -> Any:
    return asked.request.messages[0].parts[1]


# --- what is right -------------------------------------------------------------------------------


def test_a_prompt_alone_is_unconditional_and_may_be_empty() -> None:
    asked = form.read(b'{"prompt":""}', b"", OPTIONS)
    assert asked.request.question == ""
    assert (asked.spec.task, asked.spec.frames, asked.spec.format) == ("unconditional", None, "mp4")


@pytest.mark.parametrize(
    ("fields", "frames", "fps"),
    [
        ({}, None, None),
        ({"num_frames": 16}, 16, None),
        ({"num_frames": 16, "fps": 8}, 16, 8),
        ({"seconds": "4"}, 32, 8),
        ({"seconds": 2, "fps": 12}, 24, 12),
        ({"seconds": 0.5, "num_frames": 10}, 10, 20),
        ({"seconds": "2", "num_frames": 16, "fps": 8}, 16, 8),
        ({"seconds": 0.001}, 1, 8),
    ],
)
def test_a_length_is_said_in_frames_or_in_seconds(fields, frames, fps) -> None:
    for asked in (as_json(**fields), as_form(*((k, str(v)) for k, v in fields.items()))):
        assert (asked.spec.frames, asked.spec.fps) == (frames, fps)


@pytest.mark.parametrize(
    ("data", "kind", "media_type", "task"),
    [
        (PNG, Image, "image/png", "image"),
        (JPEG, Image, "image/jpeg", "image"),
        (GIF, Video, "image/gif", "predict"),
        (MP4, Video, "video/mp4", "predict"),
        (NPZ, Video, "application/x-npz", "predict"),
        (MASK, Video, "application/x-npy", "predict"),
        (b"\x1aE\xdf\xa3webm", Video, "video/webm", "predict"),
        (b"RIFF\0\0\0\0AVI LIST", Video, "video/x-msvideo", "predict"),
    ],
)
def test_a_reference_is_known_by_its_bytes_however_it_is_sent(data, kind, media_type, task):
    for asked in (
        as_form(("input_reference", data)),
        as_form(("input_reference", b64(data))),
        as_form(("input_reference[image_url]", url(data))),
        as_json(input_reference=b64(data)),
        as_json(input_reference=url(data)),
        as_json(input_reference={"image_url": url(data)}),
    ):
        assert part(asked) == kind(data=data, media_type=media_type)
        assert asked.spec.task == task


def test_a_picture_is_the_frame_that_it_is_said_to_be() -> None:
    assert as_json(input_reference=b64(PNG)).spec.keep == (0,)
    assert as_json(input_reference=b64(PNG), frame_index=3, num_frames=8).spec.keep == (3,)


@pytest.mark.parametrize(
    ("extra", "task", "keep"),
    [
        ({}, "predict", None),
        ({"task": "backward"}, "backward", None),
        ({"task": "interpolate"}, "interpolate", None),
        ({"task": "interpolate", "keep_frames": [0, 4]}, "interpolate", (0, 4)),
        ({"keep_frames": [1, 5, 7]}, "frames", (1, 5, 7)),
    ],
)
def test_extra_params_say_which_frames_a_clip_gives(extra, task, keep) -> None:
    brackets = [("extra_params[task]", extra["task"])] if "task" in extra else []
    brackets += [("extra_params[keep_frames][]", str(n)) for n in extra.get("keep_frames", ())]
    for asked in (
        as_json(input_reference=b64(GIF), extra_params=extra),
        as_form(("input_reference", GIF), ("extra_params", json.dumps(extra))),
        as_form(("input_reference", GIF), *brackets),
    ):
        assert (asked.spec.task, asked.spec.keep) == (task, keep)


def test_a_source_and_a_mask_are_completed() -> None:
    for asked in (
        as_form(("source_video", MP4), ("video_noise_mask", MASK), ("num_frames", "8")),
        as_json(source_video=b64(MP4), video_noise_mask=url(MASK), size="64x32"),
    ):
        assert (asked.spec.task, asked.spec.mask, part(asked).data) == ("complete", MASK, MP4)
    assert (asked.spec.width, asked.spec.height) == (64, 32)


@pytest.mark.parametrize(
    "data",
    [
        npy(np.eye(4)[None].repeat(8, 0), np.float32),
        npy(np.full((8, 2, 2), 0.25), np.float64),
        npy(np.ones((8, 2, 2)), np.bool_),
        npy(np.ones((4, 6)), np.int64),
        PNG,
        packed(anything=np.ones((8, 2, 2))),
        packed(clip=np.zeros(3), mask=np.ones((8, 2, 2), np.float32)),
    ],
)
def test_masks_of_many_kinds_are_taken(data) -> None:
    mask.check(data, frames=8, max_pixels=4096)


# --- what is wrong -------------------------------------------------------------------------------

PICTURE, CLIP = {"input_reference": b64(PNG)}, {"input_reference": b64(GIF)}
WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"negative_prompt": "x"}, "negative_prompt", "not supported"),
    ({"prompt": 3}, "prompt", "Expected `str`"),
    ({"num_frames": 0}, "num_frames", ">= 1"),
    ({"num_inference_steps": 0}, "num_inference_steps", ">= 1"),
    ({"num_inference_steps": 201}, "num_inference_steps", "<= 200"),
    ({"guidance_scale": -0.1}, "guidance_scale", ">= 0"),
    ({"guidance_scale": 20.5}, "guidance_scale", "<= 20"),
    ({"fps": 0}, "fps", "> 0"),
    ({"seed": -1}, "seed", ">= 0"),
    ({"seed": 2**63}, "seed", "<="),
    ({"seconds": 0}, "seconds", "> 0"),
    ({"seconds": "0"}, "seconds", "more than 0"),
    ({"seconds": "9999"}, "seconds", "at most 3600"),
    ({"seconds": "four"}, "seconds", "regex"),
    ({"seconds": 4, "num_frames": 16, "fps": 8}, "seconds", "another length"),
    ({"size": "big"}, "size", "regex"),
    ({"size": "0x4"}, "size", "regex"),
    ({"output_format": "avi"}, "output_format", "avi"),
    ({"input_reference": "https://example.com/a.png"}, "input_reference", "not fetched"),
    ({"input_reference": {"image_url": "http://127.0.0.1/"}}, "input_reference", "not fetched"),
    ({"input_reference": {"file_id": "f"}}, "input_reference.file_id", "unknown"),
    ({"input_reference": "file:///etc/passwd"}, "input_reference", "not fetched"),
    ({"input_reference": "%%%"}, "input_reference", "base64"),
    ({"input_reference": "data:image/png,x"}, "input_reference", "data:TYPE;base64,DATA"),
    ({"input_reference": ""}, "input_reference", "empty"),
    ({"input_reference": b64(b"words")}, "input_reference", "neither a picture"),
    ({"input_reference": b64(HUGE)}, "input_reference", "4096 in all"),
    ({"frame_index": 1}, "frame_index", "needs a picture"),
    ({**CLIP, "frame_index": 1}, "frame_index", "needs a picture"),
    ({**PICTURE, "frame_index": 8, "num_frames": 8}, "frame_index", "beyond the last"),
    ({**PICTURE, "num_frames": 1}, "num_frames", "nothing is to be generated"),
    ({"extra_params": {"task": "fly"}}, "extra_params.task", "fly"),
    ({"extra_params": {"tasks": 1}}, "extra_params.tasks", "unknown field"),
    ({"extra_params": {"task": "predict"}}, "extra_params.task", "needs a clip"),
    ({"extra_params": {"task": "complete"}}, "extra_params.task", "needs source_video"),
    ({**CLIP, "extra_params": {"task": "image"}}, "extra_params.task", "needs a picture"),
    ({**CLIP, "extra_params": {"task": "unconditional"}}, "extra_params.task", "without a ref"),
    ({**PICTURE, "extra_params": {"task": "predict"}}, "extra_params.task", "needs a clip"),
    ({**PICTURE, "extra_params": {"keep_frames": [1]}}, "extra_params.keep_frames", "a picture"),
    ({**CLIP, "extra_params": {"task": "frames"}}, "extra_params.keep_frames", "say which"),
    (
        {**CLIP, "extra_params": {"task": "predict", "keep_frames": [0]}},
        "extra_params.keep_frames",
        "conflicts with the task",
    ),
    ({**CLIP, "extra_params": {"keep_frames": [2, 2]}}, "extra_params.keep_frames", "grow"),
    ({**CLIP, "extra_params": {"keep_frames": [-1]}}, "extra_params.keep_frames", ">= 0"),
    (
        {**CLIP, "num_frames": 4, "extra_params": {"keep_frames": [4]}},
        "extra_params.keep_frames",
        "beyond the last",
    ),
    (
        {**CLIP, "num_frames": 2, "extra_params": {"keep_frames": [0, 1]}},
        "num_frames",
        "nothing is to be generated",
    ),
    ({"source_video": b64(MP4)}, "video_noise_mask", "is missing"),
    ({"video_noise_mask": b64(MASK)}, "source_video", "is missing"),
    (
        {**CLIP, "source_video": b64(MP4), "video_noise_mask": b64(MASK)},
        "input_reference",
        "conflicts with source_video",
    ),
    ({"source_video": b64(PNG), "video_noise_mask": b64(MASK)}, "source_video", "is a picture"),
]


@pytest.mark.parametrize(("fields", "param", "why"), WRONG, ids=lambda x: str(x)[:40])
def test_what_is_wrong_is_named(fields, param, why) -> None:
    with pytest.raises(RequestError) as caught:
        as_json(**fields)
    assert caught.value.param == param
    assert why in str(caught.value)


def bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mask.npy", bytes(40 << 20))
    return file.getvalue()


MASKS: list[tuple[bytes, str]] = [
    (npy(np.zeros((8, 4, 4))), "is all zero: nothing is to be generated"),
    (packed(mask=np.zeros((8, 4, 4), np.float32)), "is all zero"),
    (npy(np.full((8, 4, 4), 255)), "outside 0 (keep) to 1 (generate)"),
    (npy(np.full((8, 4, 4), -0.5), np.float32), "outside 0"),
    (npy([[[1.0, np.nan]]] * 8, np.float32), "outside 0"),
    (npy([[[np.nan, 1.0]]] * 8, np.float64), "outside 0"),
    (npy(np.ones((7, 4, 4))), "is for 7 frames, num_frames is 8"),
    (npy(np.ones(8)), "has the shape (8,)"),
    (npy(np.ones((8, 0, 4))), "has the shape"),
    (npy(np.ones((8, 4, 4)), np.float16), "must be of bool"),
    (npy(np.ones((8, 4, 4)), np.complex128), "must be of bool"),
    (MASK[:-1], "is cut"),
    (MASK + b"\1", "longer than its header says"),
    (MASK[:40], "no whole .npy header"),
    (MASK.replace(b"'descr'", b"__boom_"), "cannot be read"),
    (MASK.replace(b"(8, 4, 4)", b"[8, 4, 4]"), "cannot be read"),
    (packed(a=np.ones(1), b=np.ones(1)), "no whole .npz file"),
    (packed(mask=np.ones((8, 4, 4), np.uint8))[:60], "no whole .npz file"),
    (b"PK\x03\x04", "no whole .npz file"),
    (bomb(), "unpacks to more than"),
    (bytes(mask.MOST + 1), "at most 8388608 are taken"),
    (HUGE, "more than 4096 pixels"),
    (MP4, "is no .npy or .npz file"),
]


@pytest.mark.parametrize(("data", "why"), MASKS, ids=lambda x: x[:30] if type(x) is str else "")
def test_a_mask_that_is_wrong_says_how(data, why) -> None:
    with pytest.raises(RequestError) as caught:
        mask.check(data, frames=8, max_pixels=4096)
    assert why in str(caught.value)
    assert caught.value.param == "video_noise_mask"


@pytest.mark.parametrize(
    ("parts", "param"),
    [
        ([("input_reference", GIF), ("input_reference", GIF)], "input_reference"),
        ([("input_reference", GIF), ("input_reference", b64(GIF))], "input_reference"),
        ([("prompt", "again")], "prompt"),
        ([("prompt", b"a file")], "prompt"),
        ([("num_frames", "many")], "num_frames"),
        ([("guidance_scale", "nan")], "guidance_scale"),
        ([("extra_params", "{")], None),
        ([("extra_params", "[]")], None),
        ([("extra_params[task]", "backward"), ("extra_params", "{}")], "extra_params"),
        ([("extra_params[fly]", "x"), ("input_reference", GIF)], "extra_params.fly"),
        (
            [("extra_params[keep_frames]", "x"), ("input_reference", GIF)],
            "extra_params.keep_frames",
        ),
        ([("input_reference", b"")], "input_reference"),
        ([("mask", GIF)], "mask"),
        ([("a[b][c]", "x")], "a[b][c]"),
        ([("size[]", "x")], "size[]"),
    ],
)
def test_a_form_that_is_wrong_names_the_field(parts, param) -> None:
    with pytest.raises(RequestError) as caught:
        as_form(*parts)
    assert caught.value.param == param


@given(st.binary(max_size=64), st.sampled_from([b"", MASK[:10], MASK, b"PK\x03\x04", NPZ[:80]]))
def test_no_mask_whatever_is_in_it_breaks_the_server(data, head) -> None:
    try:
        mask.check(head + data, frames=None, max_pixels=4096)
    except RequestError:
        return
    assert head.startswith((b"\x93NUMPY", b"")), data


@given(st.binary(max_size=200))
def test_no_body_whatever_is_in_it_breaks_the_server(body) -> None:
    for kind in (BOUNDARY, b"application/json"):
        with pytest.raises(BicameralError):
            form.read(body, kind, OPTIONS)
