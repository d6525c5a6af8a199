"""The spiking engine: recordings in, percepts out, and everything else refused by name."""

from __future__ import annotations

import asyncio
import io
import time
from contextlib import aclosing

import numpy as np
import pytest

from bicameral.engines import spiking
from bicameral.engines.spike.graph import Affine, Flatten, Linear, chain
from bicameral.errors import ConfigError, RequestError, Timeout, Unsupported, WeightsError
from bicameral.model import collect
from bicameral.types import Audio, Image, Message, Modality, Request, Text, Video
from tests.engines import spiking_case
from tests.engines.spike.nets import lif

pytest.importorskip("nir", reason="needs pip install 'bicameral[spiking]'")
pytest.importorskip("h5py", reason="needs pip install 'bicameral[spiking]'")

EVENTS = "application/x-events"


@pytest.fixture
def left_or_right(tmp_path):
    """A net that tells which half of a 4 x 2 sensor is busy, and needs a few events to say so."""
    from bicameral.engines.spike.exchange import write

    halves = np.zeros((2, 2, 2, 4))
    halves[0, :, :, :2] = halves[1, :, :, 2:] = 0.4
    net = chain((2, 2, 4), Flatten(), Linear(weight=halves.reshape(2, -1)), lif((2,)))
    write(net, tmp_path / "sides.nir")
    return tmp_path / "sides.nir"


def opened(path, **keys):
    keys = {"labels": ("left", "right"), "window": 0.01} | keys
    options = spiking.Options(engine="spiking", weights=str(path), **keys)
    return spiking.open("sides", options)


def recorded(x, t, *, y=0, p=1, width=4, height=2, **changed) -> bytes:
    """An npz of events; `changed` replaces or, with None, leaves out arrays."""
    x, t = np.asarray(x, dtype=int), np.asarray(t, dtype=int)
    arrays = {"x": x, "y": np.zeros_like(x) + y, "t": t, "p": np.zeros_like(x) + p}
    arrays |= {"width": np.array(width), "height": np.array(height)} | changed
    out = io.BytesIO()
    np.savez_compressed(out, **{k: v for k, v in arrays.items() if v is not None})
    return out.getvalue()


def busy(column: int, start: int, count: int = 50) -> tuple[list[int], list[int]]:
    """An event every 0.1 ms at one column, from `start` microseconds on."""
    return [column] * count, [start + 100 * i for i in range(count)]


def asked(*parts, **fields) -> Request:
    return Request(messages=(Message("user", parts),), output=Modality.PERCEPT, **fields)


def clip(data: bytes, media_type: str | None = EVENTS) -> Video:
    return Video(data=data, media_type=media_type)


def both() -> bytes:
    (x0, t0), (x1, t1) = busy(0, 0), busy(3, 20_000)
    return recorded(x0 + x1, t0 + t1)


async def test_windows_become_percepts_with_their_times(left_or_right):
    async with opened(left_or_right) as model:
        answer = await collect(model, asked(Text("what?"), clip(both())))
    assert answer.error is None
    assert (answer.usage.media_ms, answer.usage.cost) == (24, None)
    found = [(p.kind, p.text, p.start, p.end, p.source) for p in answer.percepts]
    assert found == [
        ("event", "left", 0.0, pytest.approx(0.01), 0),
        ("event", "right", pytest.approx(0.02), pytest.approx(0.025), 0),
    ]
    assert [p.confidence for p in answer.percepts] == [1.0, 1.0]


async def test_confidence_is_the_share_of_the_spikes(left_or_right):
    (x0, t0), (x1, t1) = busy(0, 0, 60), busy(3, 50, 20)
    order = np.argsort(t0 + t1, kind="stable")
    data = recorded(np.array(x0 + x1)[order], np.array(t0 + t1)[order])
    async with opened(left_or_right) as model:
        (percept,) = (await collect(model, asked(clip(data)))).percepts
    assert percept.text == "left"
    assert 0.5 < percept.confidence < 1


async def test_silence_and_an_empty_recording_give_nothing(left_or_right):
    async with opened(left_or_right) as model:
        for data in (recorded([0], [0]), recorded([], []), recorded([0, 0], [0, 10**6])):
            answer = await collect(model, asked(clip(data)))
            assert answer.error is None
            assert answer.percepts == ()


async def test_a_larger_sensor_is_pooled_and_a_step_may_cover_more(left_or_right):
    x, t = busy(500, 0)
    data = recorded(x, [10 * at for at in t], y=400, width=640, height=480)
    async with opened(left_or_right, step=1e-3, window=0.1) as model:
        (percept,) = (await collect(model, asked(clip(data)))).percepts
    assert (percept.text, percept.start, percept.end) == ("right", 0.0, pytest.approx(0.05))


async def test_sources_count_all_media_and_each_recording_starts_from_rest(left_or_right):
    async with opened(left_or_right) as model:
        answer = await collect(model, asked(clip(both()), clip(both())))
    first, second = answer.percepts[:2], answer.percepts[2:]
    assert [p.source for p in answer.percepts] == [0, 0, 1, 1]
    assert [(p.text, p.start) for p in first] == [(p.text, p.start) for p in second]


async def test_concurrent_runs_share_no_state(left_or_right):
    async with opened(left_or_right, window=0.001) as model:
        alone = await collect(model, asked(clip(both())))
        together = await asyncio.gather(*(collect(model, asked(clip(both()))) for _ in range(5)))
    assert len(alone.percepts) > 5
    assert all(answer.percepts == alone.percepts for answer in together)


async def test_without_labels_neurons_are_numbered(left_or_right):
    async with opened(left_or_right, labels=()) as model:
        answer = await collect(model, asked(clip(both())))
    assert [p.text for p in answer.percepts] == ["neuron 0", "neuron 1"]


@pytest.mark.parametrize(
    ("part", "error", "match"),
    [
        (Video(data=b"", media_type="video/mp4"), Unsupported, "video/mp4"),
        (Video(data=b"", media_type=None), Unsupported, "unknown type"),
        (Video(url="http://a/b.npz", media_type=EVENTS), RequestError, "URL"),
        (Image(data=b""), Unsupported, "image"),
        (Audio(data=b"", format="wav"), Unsupported, "audio"),
        (Text("hello"), RequestError, "no recording"),
    ],
)
async def test_anything_else_is_refused_by_name(left_or_right, part, error, match):
    async with opened(left_or_right) as model:
        answer = await collect(model, asked(part))
    assert isinstance(answer.error, error)
    assert match in str(answer.error)
    assert answer.error.param == "messages"


async def test_a_recording_without_end_is_refused(left_or_right):
    async with opened(left_or_right) as model:
        answer = await collect(model, asked(clip(recorded([0, 0], [0, 10**13]))))
    assert "send it in parts" in str(answer.error)


async def test_closing_the_stream_stops_the_work(left_or_right, monkeypatch):
    taken = []
    watch = spiking.Net.watch

    def counted(self, data, index):
        for found in watch(self, data, index):
            taken.append(found)
            yield found

    monkeypatch.setattr(spiking.Net, "watch", counted)
    async with opened(left_or_right, window=0.001) as model:
        async with aclosing(model.run(asked(clip(recorded(*busy(0, 0, 10_000)))))) as events:
            await anext(events)
        assert len(taken) <= 3
        answer = await collect(model, asked(clip(both())))
    assert answer.percepts


async def test_a_deadline_is_kept(left_or_right):
    x, t = busy(0, 0, 60_000)
    request = asked(clip(recorded(x, t)), deadline=time.monotonic() + 0.3)
    async with opened(left_or_right, window=0.01) as model:
        answer = await collect(model, request)
    assert isinstance(answer.error, Timeout)


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"labels": ("left",)}, "2 output neurons and 1 labels"),
        ({"dt": 1.0}, "smaller dt"),
        ({"size": (5, 5)}, "5 x 5"),
    ],
)
async def test_options_that_do_not_fit_the_net_are_refused(left_or_right, keys, match):
    with pytest.raises(ConfigError, match=match):
        async with opened(left_or_right, **keys):
            pass


async def test_a_flat_input_needs_its_size(tmp_path):
    from bicameral.engines.spike.exchange import write

    net = chain((8,), Affine(weight=np.ones((2, 8)), bias=np.zeros(2)), lif((2,)))
    write(net, tmp_path / "flat.nir")
    with pytest.raises(ConfigError, match="set size"):
        async with opened(tmp_path / "flat.nir"):
            pass
    async with opened(tmp_path / "flat.nir", size=(4, 2)) as model:
        assert (await collect(model, asked(clip(both())))).percepts


async def test_weights_that_are_none_are_refused(tmp_path):
    (tmp_path / "bad.nir").write_bytes(b"GGUF")
    for name in ("bad.nir", "none.nir"):
        with pytest.raises(WeightsError):
            async with opened(tmp_path / name):
                pass


async def test_the_case_of_the_contract_suite_fires():
    async with spiking_case.spiking() as model:
        answer = await collect(model, asked(spiking_case.recording()))
    assert [p.text for p in answer.percepts] == ["busy"] * 5
