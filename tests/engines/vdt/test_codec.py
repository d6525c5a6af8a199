"""The autoencoder of frames: shapes, spread, what it loses, and that a file gives it back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bicameral.engines.vdt import checkpoint  # noqa: E402
from bicameral.engines.vdt import codec as codecs  # noqa: E402
from bicameral.engines.vdt.design import Autoencoder, Design  # noqa: E402
from bicameral.engines.vdt.learn.autoencode import (  # noqa: E402
    CodecSchedule,
    CodecTrainer,
    floor,
)
from bicameral.engines.vdt.learn.clips import Clips  # noqa: E402
from bicameral.errors import ConfigError, WeightsError  # noqa: E402


def design(factor: int = 2, channels: int = 3) -> Design:
    made = Autoencoder(factor=factor, channels=4, hidden=8)  # type: ignore[arg-type]
    sizes = {"frames": 2, "height": 8, "width": 8, "depth": 1, "dim": 24, "heads": 2}
    return Design(kind="modern", patch=1, channels=channels, codec=made, **sizes)  # type: ignore[arg-type]


def spots(dice: np.random.Generator) -> np.ndarray:
    """A bright square on dark, as wide as it is high."""
    film = np.full((2, 8, 8, 3), 30, np.uint8)
    top, left = dice.integers(5, size=2)
    film[:, top : top + 3, left : left + 3] = dice.integers(120, 256, 3)
    return film


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_shapes(factor: int) -> None:
    codec = codecs.build(design(factor))
    latent = codec.encode(torch.rand(3, 2, 3, 8, 8))
    assert latent.shape == (3, 2, 4, 8 // factor, 8 // factor)
    assert codec.decode(latent).shape == (3, 2, 3, 8, 8)


def test_each_frame_by_itself() -> None:
    codec, clip = codecs.build(design()), torch.rand(1, 2, 3, 8, 8)
    torch.testing.assert_close(codec.encode(clip)[:, 1:], codec.encode(clip[:, 1:]))


def test_pixels_come_back() -> None:
    codec, clip = codecs.Pixels(), torch.rand(1, 2, 3, 8, 8)
    assert codec.encode(clip).min() < 0
    torch.testing.assert_close(codec.decode(codec.encode(clip)), clip)


@pytest.mark.parametrize("kl", [0.0, 1e-4])
def test_it_learns_and_its_latents_have_spread_one(kl: float) -> None:
    source = Clips(spots, None)
    trainer = CodecTrainer(design(), CodecSchedule(steps=50, batch=8, rate=3e-3, kl=kl), source)
    before = floor(trainer.codec, source, "cpu")
    for _ in range(50):
        trainer.step()
    codec = trainer.done()
    assert floor(codec, source, "cpu") > before + 6
    clips = torch.from_numpy(source.batch(64, np.random.default_rng(5))).movedim(-1, 2) / 255
    latent = codec.encode(clips)
    assert latent.mean((0, 1, 3, 4)).abs().max() < 0.2
    assert (latent.std((0, 1, 3, 4)) - 1).abs().max() < 0.2
    assert not any(each.requires_grad for each in codec.parameters())


def test_the_seed_decides() -> None:
    def trained(seed: int) -> list[float]:
        schedule = CodecSchedule(steps=4, batch=2, seed=seed)
        trainer = CodecTrainer(design(), schedule, Clips(spots, None))
        return [trainer.step() for _ in range(4)]

    assert trained(1) == trained(1)
    assert trained(1) != trained(2)


def test_a_file_gives_it_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    codec = codecs.build(design())
    clip = torch.rand(4, 2, 3, 8, 8)
    codec.measure(clip)
    checkpoint.save(tmp_path / "c.safetensors", design(), codecs.tensors(codec))
    read, tensors, _ = checkpoint.read(tmp_path / "c.safetensors")
    again = codecs.load(read, {"other": torch.zeros(1), **tensors})
    assert torch.equal(again.encode(clip), codec.encode(clip))
    assert torch.equal(again.scale, codec.scale)


def test_another_codec_is_refused() -> None:
    tensors = codecs.tensors(codecs.build(design(2)))
    with pytest.raises(WeightsError, match="do not fit"):
        codecs.load(design(4), tensors)


def test_no_codec_is_pixels() -> None:
    plain = Design(kind="modern", frames=2, height=8, width=8, depth=1, dim=24, heads=2)
    assert isinstance(codecs.load(plain, {}), codecs.Pixels)
    assert codecs.tensors(codecs.Pixels()) == {}
    with pytest.raises(ConfigError, match="has none to train"):
        CodecTrainer(plain, CodecSchedule(), Clips(spots, None))
