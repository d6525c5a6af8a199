from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bicameral.engines.vdt.design import SIZES, Autoencoder, Design, named
from bicameral.errors import ConfigError

SMALL: dict[str, Any] = {
    "kind": "modern", "frames": 4, "height": 16, "width": 24, "patch": 4,
    "depth": 1, "dim": 24, "heads": 2,
}  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["faithful", "modern"])
def test_each_name_is_a_design_of_its_size(kind: str, size: str) -> None:
    design = named(f"{kind}-{size}", frames=16, height=64, width=32)
    assert (design.depth, design.dim, design.heads) == SIZES[size]
    assert (design.kind, design.grid) == (kind, (16, 32, 16))


def test_sizes_are_those_of_the_paper() -> None:
    assert SIZES["s"] == (12, 384, 6)
    assert SIZES["l"] == (28, 1152, 16)


@pytest.mark.parametrize("name", ["modern", "modern-xl", "faithful-", "old-s", ""])
def test_an_unknown_name_says_which_there_are(name: str) -> None:
    with pytest.raises(ConfigError, match="faithful-nano, faithful-s, faithful-l, modern-n"):
        named(name, frames=4, height=16, width=16)


def test_a_token_is_a_patch_of_pixels() -> None:
    design = Design(**SMALL)
    assert (design.cell, design.latent, design.grid) == (4, 3, (4, 4, 6))


def test_with_a_codec_a_token_is_a_patch_of_latents() -> None:
    design = Design(**SMALL | {"patch": 2, "codec": Autoencoder(factor=4, channels=5)})
    assert (design.cell, design.latent, design.grid) == (8, 5, (4, 2, 3))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"height": 18}, "18 x 24 pixels do not divide into cells of 4"),
        ({"width": 26}, "16 x 26 pixels do not divide into cells of 4"),
        ({"codec": Autoencoder(factor=8)}, "cells of 32"),
        ({"heads": 5}, "dim 24 does not divide into 5 even heads"),
        ({"heads": 8}, "does not divide into 8 even heads"),
        ({"heads": 6}, "heads of 4 do not turn by row, column and frame"),
        ({"kind": "faithful", "attention": "full"}, "over time, then over space"),
        ({"kind": "faithful", "predicts": "clean"}, "predicts the noise"),
        ({"kind": "faithful", "dim": 18, "heads": 1}, "dim 18 does not divide by 4"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Design(**SMALL | wrong)


def test_a_design_goes_through_json() -> None:
    design = Design(**SMALL | {"patch": 2, "codec": Autoencoder()})
    assert msgspec.json.decode(msgspec.json.encode(design), type=Design) == design


@pytest.mark.parametrize("wrong", [b'"sheet": 1', b'"depth": 0', b'"channels": 5', b'"shift": 0'])
def test_json_of_another_kind_of_design_is_refused(wrong: bytes) -> None:
    text = msgspec.json.encode(Design(**SMALL))
    assert msgspec.json.decode(text, type=Design)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text[:-1] + b"," + wrong + b"}", type=Design)
