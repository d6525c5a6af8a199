"""PyTorch's older checkpoints, read without PyTorch; and the nets that are written as ONNX."""

from __future__ import annotations

import collections
import io
import pickle

import pytest

np = pytest.importorskip("numpy", reason="needs pip install 'bicameral[see]'")

from bicameral.engines.media import checkpoint, efficientnet  # noqa: E402
from bicameral.engines.media.graph import Graph  # noqa: E402
from bicameral.errors import WeightsError  # noqa: E402


class Named:
    """Pickled as a call of the thing with that name, as torch.save writes it."""

    def __init__(self, module: str, name: str, *arguments: object) -> None:
        self.module, self.name, self.arguments = module, name, arguments


class Writer(pickle._Pickler):  # the one in Python can be told how to write each thing
    def persistent_id(self, thing: object) -> object:
        return thing.arguments if isinstance(thing, Storage) else None

    def save(self, thing: object, *rest: object, **more: object) -> None:
        if isinstance(thing, Named):
            self.write(b"c" + f"{thing.module}\n{thing.name}\n".encode())
            if thing.arguments:
                super().save(thing.arguments)
                self.write(b"R")
            return
        super().save(thing, *rest, **more)


class Storage:
    def __init__(self, key: str, length: int, kind: str = "FloatStorage", view: object = None):
        self.arguments = ("storage", Named("torch", kind), key, "cpu", length, view)


def dumped(thing: object) -> bytes:
    out = io.BytesIO()
    Writer(out, 2).dump(thing)
    return out.getvalue()


def tensor(storage: Storage, offset: int, shape: tuple, strides: tuple) -> Named:
    more = (False, collections.OrderedDict())
    return Named("torch._utils", "_rebuild_tensor_v2", storage, offset, shape, strides, *more)


def saved(tensors: dict[str, object], storages: dict[str, np.ndarray]) -> bytes:
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, tensors, list(storages)]
    body = b"".join(len(v).to_bytes(8, "little") + v.tobytes() for v in storages.values())
    return b"".join(map(dumped, head)) + body


NUMBERS = np.arange(12, dtype="<f4")


def test_tensors_come_in_the_usual_order_whatever_their_strides():
    store = Storage("a", 12)
    tensors = {
        "plain": tensor(store, 0, (3, 4), (4, 1)),
        "turned": tensor(store, 0, (4, 3), (1, 4)),
        "part": tensor(store, 6, (2, 3), (3, 1)),
        "single": tensor(store, 5, (), ()),
    }
    found = checkpoint.read(saved(tensors, {"a": NUMBERS}))
    assert np.array_equal(found["plain"], NUMBERS.reshape(3, 4))
    assert np.array_equal(found["turned"], NUMBERS.reshape(3, 4).T)
    assert np.array_equal(found["part"], NUMBERS[6:].reshape(2, 3))
    assert found["single"] == 5
    assert all(values.flags["C_CONTIGUOUS"] for values in found.values())


@pytest.mark.parametrize(
    ("module", "name"), [("os", "system"), ("builtins", "eval"), ("torch", "load")]
)
def test_a_pickle_that_asks_for_more_is_refused_and_nothing_runs(module, name, tmp_path):
    mark = tmp_path / "ran"
    data = saved({"w": Named(module, name, f"touch {mark}")}, {"a": NUMBERS})
    with pytest.raises(WeightsError, match=f"asks for {module}.{name}"):
        checkpoint.read(data)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (13,), (1,)),
        (-1, (2,), (1,)),
        (0, (2, 2), (-1, 1)),
        (8, (2, 4), (4, 1)),
        (0, (2, 2), (1,)),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(offset, shape, strides):
    data = saved({"w": tensor(Storage("a", 12), offset, shape, strides)}, {"a": NUMBERS})
    with pytest.raises(WeightsError, match="no PyTorch checkpoint"):
        checkpoint.read(data)


def test_what_is_cut_or_something_else_is_refused():
    data = saved({"w": tensor(Storage("a", 12), 0, (12,), (1,))}, {"a": NUMBERS})
    for bad in (b"", b"PK\x03\x04", b"hello", pickle.dumps(1), *(data[:n] for n in (9, 60, -1))):
        with pytest.raises(WeightsError, match="no PyTorch checkpoint"):
            checkpoint.read(bad)
    assert len(checkpoint.read(data)["w"]) == 12


def test_a_storage_of_another_length_or_with_views_is_refused():
    for store in (Storage("a", 11), Storage("a", 12, view=("b", 0, 1))):
        with pytest.raises(WeightsError):
            checkpoint.read(saved({"w": tensor(store, 0, (2,), (1,))}, {"a": NUMBERS}))


def test_a_graph_is_what_onnxruntime_takes_it_for():
    pytest.importorskip("onnxruntime", reason="needs pip install 'bicameral[see]'")
    from bicameral.engines.onnx import Session

    graph = Graph([1, "width"])
    weight = graph.weight(np.array([[1.0], [300.0]], "f4").T)
    scaled = graph.node("Gemm", graph.input, weight, alpha=0.5, transB=1)
    output = graph.node("Softmax", scaled, axis=1)
    values = Session("test", graph.model(output, [1, 1]), threads=1).run(np.ones((1, 2), "f4"))
    assert values.tolist() == [[1.0]]


def test_weights_of_another_net_are_refused():
    with pytest.raises(WeightsError, match=r"not the weights of EfficientNet-Lite0.*_conv_stem"):
        efficientnet.onnx({"layer.weight": NUMBERS})
