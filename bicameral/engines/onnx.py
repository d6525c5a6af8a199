"""Nets that run in onnxruntime, on the CPU: the one way in which engines start and call them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bicameral.engines.media.optional import library
from bicameral.errors import Broken, WeightsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PROVIDERS = ("CPUExecutionProvider",)
_SILENT = 4  # onnxruntime's level "fatal": what goes wrong comes as an error anyway


class Session:
    """A net with one output. More than one of `threads` pays on a machine with idle cores only."""

    def __init__(self, name: str, net: bytes | Path, *, threads: int) -> None:
        runtime = library("onnxruntime")
        self._name = name
        self._faults: tuple[type[Exception], ...] = _faults()
        try:
            self._net = runtime.InferenceSession(
                net if isinstance(net, bytes) else str(net),
                sess_options=options(threads),
                providers=list(PROVIDERS),
            )
        except self._faults as error:
            raise WeightsError(
                f"{name} has weights that onnxruntime cannot read: {error}"
            ) from error

    def run(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The net's output for its one input; Broken if onnxruntime cannot work it out."""
        feeds = {self._net.get_inputs()[0].name: values}
        try:
            output: NDArray[np.float32] = self._net.run(None, feeds)[0]
        except self._faults as error:
            raise Broken(self._name, f"onnxruntime failed: {error}") from error
        return output


def options(threads: int) -> Any:
    """Session options: so many threads, no log, and no memory kept from one call to the next."""
    settings = library("onnxruntime").SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = _SILENT
    # Pictures differ in size; an arena would keep the memory of the largest of each kind.
    settings.enable_cpu_mem_arena = False
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return settings


def _faults() -> tuple[type[Exception], ...]:
    """What onnxruntime raises; its errors have no common ancestor of their own."""
    state = vars(library("onnxruntime.capi.onnxruntime_pybind11_state"))
    return tuple(v for v in state.values() if isinstance(v, type) and issubclass(v, Exception))
