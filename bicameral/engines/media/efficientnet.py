"""EfficientNet-Lite0 as ONNX, from the tensors of its PyTorch checkpoint.

The net: M. Tan, Q. V. Le, "EfficientNet" (2019); Lite: R. Liu, "Higher accuracy on vision models
with EfficientNet-Lite" (2020). It has no squeeze-and-excitation, and ReLU6 for swish. All sizes
are read off the tensors, but for the strides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bicameral.engines.media.graph import Graph
from bicameral.engines.media.optional import library
from bicameral.errors import WeightsError

if TYPE_CHECKING:
    from bicameral.engines.media.checkpoint import Tensors

SIDE = 224
CLASSES = 1000
# Blocks whose depthwise convolution halves the picture.
_HALVING = frozenset({1, 3, 5, 11})
_BLOCKS = 16
_EPSILON = 1e-3


def onnx(tensors: Tensors) -> bytes:
    """A net from (1, 3, 224, 224), each value (byte - 127) / 128, to (1, 1000) probabilities."""
    net = _Net(tensors)
    try:
        at = net.convolved("_conv_stem", "_bn0", net.graph.input, stride=2)
        for number in range(_BLOCKS):
            at = _block(net, number, at)
        at = net.convolved("_conv_head", "_bn1", at)
        at = net.graph.node("Flatten", net.graph.node("GlobalAveragePool", at))
        weight, bias = net.weight("_fc.weight"), net.weight("_fc.bias")
    except KeyError as error:
        raise WeightsError(f"these are not the weights of EfficientNet-Lite0: no {error}") from None
    logits = net.graph.node("Gemm", at, weight, bias, transB=1)
    return net.graph.model(net.graph.node("Softmax", logits, axis=1), (1, CLASSES))


def _block(net: _Net, number: int, inward: str) -> str:
    """Inverted residual: widen, convolve each channel, narrow; add what came in if it fits."""
    prefix = f"_blocks.{number}"
    stride = 2 if number in _HALVING else 1
    at, width = inward, net.depth(f"{prefix}._depthwise_conv")
    if number:
        at = net.convolved(f"{prefix}._expand_conv", f"{prefix}._bn0", at)
    at = net.convolved(
        f"{prefix}._depthwise_conv", f"{prefix}._bn1", at, stride=stride, group=width
    )
    at = net.convolved(f"{prefix}._project_conv", f"{prefix}._bn2", at, bounded=False)
    narrow = net.depth(f"{prefix}._project_conv")
    same = number > 0 and stride == 1 and net.tensors[f"{prefix}._expand_conv.weight"].shape[1]
    return net.graph.node("Add", at, inward) if same == narrow else at


class _Net:
    """A graph, and the tensors it is made of."""

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors
        self.graph = Graph([1, 3, SIDE, SIDE])
        numpy = library("numpy")
        self._bounds = [self.graph.weight(numpy.array(bound)) for bound in (0.0, 6.0)]

    def weight(self, name: str) -> str:
        return self.graph.weight(self.tensors[name])

    def depth(self, name: str) -> int:
        """How many channels come out."""
        return int(self.tensors[f"{name}.weight"].shape[0])

    def convolved(
        self,
        conv: str,
        norm: str,
        at: str,
        *,
        stride: int = 1,
        group: int = 1,
        bounded: bool = True,
    ) -> str:
        """Convolution without bias, batch normalisation, and ReLU6 if `bounded`."""
        at = self.graph.node(
            "Conv",
            at,
            self.weight(f"{conv}.weight"),
            auto_pad="SAME_UPPER",  # as TensorFlow pads, where the net was trained
            strides=(stride, stride),
            group=group,
        )
        scales = ("weight", "bias", "running_mean", "running_var")
        numbers = [self.weight(f"{norm}.{each}") for each in scales]
        at = self.graph.node("BatchNormalization", at, *numbers, epsilon=_EPSILON)
        return self.graph.node("Clip", at, *self._bounds) if bounded else at
