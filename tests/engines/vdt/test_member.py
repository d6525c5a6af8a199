"""The engine vdt on nets with random weights: what is kept is kept, and it stops when told."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio

torch = pytest.importorskip("torch", reason="needs `make torch`: see the Makefile")

import numpy as np  # noqa: E402

from bicameral.engines.vdt import checkpoint  # noqa: E402
from bicameral.engines.vdt.design import Autoencoder  # noqa: E402
from bicameral.errors import (  # noqa: E402
    Broken,
    Overloaded,
    Timeout,
)
from bicameral.ledger.meter import Meter  # noqa: E402
from bicameral.model import Model  # noqa: E402
from bicameral.types import (  # noqa: E402
    Call,
    Delta,
    Done,
    Modality,
    Progress,
    Video,
)
from tests.engines.vdt.serving import (  # noqa: E402
    FRAMES,
    SIDE,
    clip,
    events_of,
    film,
    frames,
    made,
    noise,
    packed,
    picture,
    saved,
    served,
    tiny,
    wanting,
    watched,
)

torch.set_num_threads(1)
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("modern"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model(path: Path) -> AsyncIterator[Model]:
    async with served(path) as model:
        yield model


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def faithful(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Model]:
    path = tiny(tmp_path_factory.mktemp("faithful"), "ours.safetensors", kind="faithful")
    async with served(path) as model:
        yield model


class Gate:
    """Holds the net at its `at`-th pass until it is opened, and counts the passes."""

    def __init__(self, at: int) -> None:
        self.passes, self._at = 0, at
        self.reached, self._open = threading.Event(), threading.Event()

    def __call__(self, *inputs: Any) -> None:
        self.passes += 1
        if self.passes == self._at:
            self.reached.set()
            assert self._open.wait(30)

    def open(self) -> None:
        self._open.set()

    async def there(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, 30)


# --- events ------------------------------------------------------------------------------------


async def test_it_tells_each_step_then_gives_the_clip(model: Model) -> None:
    *steps, video, done = await events_of(model, wanting(steps=5, fps=8))
    assert [step.part for step in steps] == [Progress(i, 5) for i in range(1, 6)]
    assert isinstance(video, Delta)
    assert isinstance(video.part, Video)
    assert frames(video.part).shape == (FRAMES, SIDE, SIDE, 3)
    assert isinstance(done, Done)
    assert (done.usage.media_ms, done.usage.images, done.usage.total_tokens) == (500, 0, 0)
    assert done.usage.cost is None
    assert (done.reason, done.by) == ("stop", "m")


async def test_the_card(model: Model, faithful: Model, path: Path) -> None:
    assert model.card.emits == {Modality.VIDEO}
    assert model.card.accepts == {Modality.IMAGE, Modality.VIDEO}  # and no text
    assert (model.card.chip, model.card.serves) == ("cpu", path.parent.name)
    assert faithful.card.serves == "ours"


async def test_pictures_taken_in_are_counted(model: Model) -> None:
    answer = await made(model, wanting(picture(noise(SIDE, SIDE, 3))))
    assert answer.usage.images == 1


async def test_the_meter_charges_seconds_of_film_and_of_the_chip(path: Path) -> None:
    calls: list[Call] = []
    async with served(path, price_second="2", price_chip_second="0.5", watts=10) as model:
        await made(Meter(model, lambda call, booking: calls.append(call)), wanting(fps=4))
    (call,) = calls
    assert call.chip_seconds is not None
    assert call.usage.media_ms == 1000
    assert call.cost == pytest.approx(2e9 + 5e8 * call.chip_seconds, abs=1e6)


async def test_chance_is_that_of_the_seed(model: Model) -> None:
    first, again, other = [await film(model, seed=seed) for seed in (1, 1, 2)]
    assert (first == again).all()
    assert (first != other).any()
    free = [await film(model, seed=None) for _ in range(2)]
    assert (free[0] != free[1]).any()
    assert (await film(model, seed=-1) != await film(model, seed=2**80)).any()


async def test_clips_made_at_once_are_those_made_alone(path: Path) -> None:
    together = threading.Barrier(2)
    async with served(path, slots=2) as model:
        alone = [await film(model, seed=seed) for seed in (1, 2)]
        with watched(model, lambda *inputs: together.wait(30)):
            both = await asyncio.gather(film(model, seed=1), film(model, seed=2))
    assert (np.stack(both) == np.stack(alone)).all()


async def test_a_folder_is_its_model(path: Path) -> None:
    async with served(path.parent) as model:
        assert (await film(model)).any()


async def test_weights_written_in_half_precision_serve_as_well(path: Path, tmp_path: Path) -> None:
    design, tensors, _ = checkpoint.read(path)
    half = {name: each.bfloat16() for name, each in tensors.items()}
    checkpoint.save(tmp_path / "half.safetensors", design, half)
    async with served(tmp_path / "half.safetensors") as half_model, served(path) as full:
        one, other = await film(half_model), await film(full)
    assert (one != other).any()
    assert abs(one.astype(int) - other).mean() < 8


# torch's fused norm wants its weight in the precision of what it norms, and warns of its absence
@pytest.mark.filterwarnings("ignore:Mismatch dtype:UserWarning")
async def test_half_precision_makes_nearly_the_same(path: Path) -> None:
    async with served(path, precision="bfloat16") as half, served(path) as full:
        one, other = await film(half), await film(full)
    assert (one != other).any()
    assert abs(one.astype(int) - other).mean() < 8


# --- tasks -------------------------------------------------------------------------------------

TASKS: list[tuple[int, dict[str, Any], list[int]]] = [
    (2, {"task": "predict"}, [0, 1]),
    (2, {"task": "backward"}, [2, 3]),
    (2, {"task": "interpolate"}, [0, 3]),
    (2, {"task": "frames", "keep": (3, 1)}, [3, 1]),
    (1, {"task": "image", "keep": (2,)}, [2]),
    (3, {"task": "predict", "frames": 11}, [0, 1, 2]),
    (3, {"task": "backward", "frames": 11}, [8, 9, 10]),
    (1, {"task": "image", "keep": (6,), "frames": 13}, [6]),
]


@pytest.mark.parametrize("kind", ["model", "faithful"])
@pytest.mark.parametrize(("given", "spec", "places"), TASKS)
async def test_what_is_given_comes_back_bit_for_bit(
    request: pytest.FixtureRequest, kind: str, given: int, spec: Any, places: list[int]
) -> None:
    model, sent = request.getfixturevalue(kind), noise(given, SIDE, SIDE, 3)
    got, other = [await film(model, clip(sent), seed=seed, **spec) for seed in (1, 2)]
    assert len(got) == spec.get("frames", FRAMES)
    assert (got[places] == sent).all()
    for frame in set(range(len(got))) - set(places):
        assert (got[frame] != other[frame]).any()  # it was made, by chance


async def test_the_steps_of_all_windows_are_told(model: Model) -> None:
    events = await events_of(model, wanting(clip(noise(2, SIDE, SIDE, 3)), frames=7, steps=4))
    told = [e.part for e in events if isinstance(e, Delta) and isinstance(e.part, Progress)]
    assert told == [Progress(i, 12) for i in range(1, 13)]  # frames 0-3, 2-5, 3-6


async def test_a_later_window_is_given_what_was_made_before(model: Model) -> None:
    seen: list[Any] = []
    with watched(model, lambda x, mask, *rest: seen.append((x.clone(), mask.clone()))):
        got = await film(model, clip(noise(2, SIDE, SIDE, 3)), frames=6, steps=2)
    x, mask = seen[2]  # the first step of the second window: frames 2 to 5
    given = torch.from_numpy(got[2:4]).movedim(-1, 1) / 255 * 2 - 1
    assert (x[0, :2] - given).abs().max() < 1e-6
    assert mask[0, :, 0, 0].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("kind", ["model", "faithful"])
async def test_completion_leaves_every_kept_pixel(
    request: pytest.FixtureRequest, kind: str
) -> None:
    model, sent = request.getfixturevalue(kind), noise(FRAMES, SIDE, SIDE, 3)
    mask = np.zeros((FRAMES, SIDE, SIDE), bool)
    mask[1:3, 3:6, 1:4] = True  # not on the edges of tokens
    got = await film(model, clip(sent), mask=saved(mask))
    assert (got[~mask] == sent[~mask]).all()
    assert (got[mask] != sent[mask]).any()


async def test_half_a_mask_noises_by_half(model: Model) -> None:
    sent = noise(FRAMES, SIDE, SIDE, 3)
    mask = np.zeros((FRAMES, SIDE, SIDE), np.float32)
    mask[:, :4] = 0.01
    mask[:, 6:] = 1
    got = await film(model, clip(sent), mask=packed(mask=mask))
    off = abs(got.astype(int) - sent)
    assert off[:, 4:6].max() == 0
    assert 0 < off[:, :4].max() < 16
    assert off[:, 6:].max() > 64


async def test_other_sizes_and_grey_nets_and_codecs(tmp_path: Path) -> None:
    design = {"channels": 1, "codec": Autoencoder(factor=2, channels=2, hidden=8), "patch": 1}
    async with served(tiny(tmp_path, **design)) as model:
        sent = noise(2, 12, 4, 1)
        got = await film(model, clip(sent), width=4, height=12)
    assert got.shape == (FRAMES, 12, 4, 1)
    assert (got[:2] == sent).all()


@pytest.mark.parametrize("design", [{}, {"attention": "full", "predicts": "clean"}])
async def test_guidance_leads_where_something_is_given(tmp_path: Path, design: Any) -> None:
    given = clip(noise(1, SIDE, SIDE, 3))
    async with served(tiny(tmp_path, **design)) as model:
        plain, led = [await film(model, given, guidance=g) for g in (1, 4)]
        assert (plain != led).any()
        passes = Gate(0)
        with watched(model, passes):
            await film(model, guidance=4)
        assert passes.passes == 3  # nothing is given: nothing to be led away from


async def test_mp4_comes_and_goes(model: Model) -> None:
    pytest.importorskip("cv2", reason="needs pip install 'bicameral[video]'")
    (video,) = (await made(model, wanting(format="mp4", frames=6))).videos
    assert video.media_type == "video/mp4"
    longer = await film(model, video, frames=8)
    assert longer.shape == (8, SIDE, SIDE, 3)


async def test_gif_comes_and_goes(model: Model) -> None:
    (video,) = (await made(model, wanting(format="gif"))).videos
    assert (await film(model, video, frames=8)).shape == (8, SIDE, SIDE, 3)


# --- stopping ----------------------------------------------------------------------------------


async def test_a_closed_stream_stops_before_the_next_step(model: Model) -> None:
    gate = Gate(3)
    with watched(model, gate):
        async with aclosing(model.run(wanting(steps=200))) as events:
            told = [await anext(events), await anext(events)]
            await gate.there()
        gate.open()
        await made(model, wanting(steps=2))
    assert [event.part for event in told if isinstance(event, Delta)] == [
        Progress(1, 200),
        Progress(2, 200),
    ]
    assert gate.passes == 3 + 2


async def test_the_deadline_counts_while_it_is_made(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, late = Gate(3), SimpleNamespace(monotonic=lambda: time.monotonic() + 100)
    request = wanting(steps=200).but(deadline=time.monotonic() + 60)
    with watched(model, gate):
        async with aclosing(model.run(request)) as events:
            await anext(events)
            await gate.there()
            with monkeypatch.context() as patched:
                patched.setattr("bicameral.types.time", late)
                with pytest.raises(Timeout, match="total"):
                    assert [event async for event in events]
        gate.open()
        await made(model, wanting(steps=2))
    assert gate.passes == 3 + 2


async def test_the_deadline_counts_while_it_waits(model: Model) -> None:
    gate = Gate(1)
    with watched(model, gate):
        first = asyncio.create_task(made(model, wanting()))
        await gate.there()
        with pytest.raises(Timeout, match="queue"):
            await made(model, wanting().but(deadline=time.monotonic()))
        gate.open()
        assert (await first).videos


async def test_who_finds_the_line_full_is_told_when_to_come_back(path: Path) -> None:
    gate = Gate(1)
    async with served(path, queue=0) as model:
        with watched(model, gate):
            first = asyncio.create_task(made(model, wanting()))
            await gate.there()
            with pytest.raises(Overloaded) as caught:
                await made(model, wanting())
            gate.open()
            await first
    assert caught.value.retry_after


async def test_closing_the_member_stops_what_it_makes(path: Path) -> None:
    gate = Gate(3)
    async with served(path) as model:
        watching = watched(model, gate)
        watching.__enter__()
        asking = asyncio.create_task(made(model, wanting(steps=200)))
        await gate.there()
        asyncio.get_running_loop().call_later(0.01, gate.open)
    with pytest.raises(Broken, match="closed"):
        await asking
    assert gate.passes == 3
