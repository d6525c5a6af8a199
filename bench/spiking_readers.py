"""How other libraries read a NIR file and run it, step by step: one function for each.

Each takes a file and spikes as (steps, inputs) of bool and gives the output of every step as a
numpy array. They are imported where they are used; none is a dependency of the package.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Reader = Callable[[Path, np.ndarray, tuple[int, ...]], np.ndarray]


@contextlib.contextmanager
def quiet():
    """The libraries print and warn while they read."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _loop(net: Any, spikes: np.ndarray, shape: tuple[int, ...], state: Any = None) -> np.ndarray:
    import torch

    given = torch.from_numpy(spikes.astype(np.float32)).reshape(len(spikes), 1, *shape)
    outputs = []
    with torch.no_grad():
        for now in given:
            out = net(now, state)
            out, state = out if isinstance(out, tuple) else (out, None)
            outputs.append(out.detach().reshape(-1).numpy().copy())
    return np.array(outputs)


def snntorch(path: Path, spikes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """snnTorch's neurons hold their state themselves."""
    import nir
    from snntorch.import_nir import import_from_nir

    with quiet():
        net = import_from_nir(nir.read(path))
        return _loop(net, spikes, shape)


def spikingjelly(path: Path, spikes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """SpikingJelly hands its state in and out."""
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    with quiet():
        return _loop(import_from_nir(path, dt=1e-4), spikes, shape)


def norse(path: Path, spikes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Norse takes the step from its caller."""
    import nir
    from norse.torch.utils.import_nir import from_nir

    with quiet():
        return _loop(from_nir(nir.read(path), dt=1e-4), spikes, shape)


READERS: dict[str, Reader] = {"snnTorch": snntorch, "SpikingJelly": spikingjelly, "Norse": norse}
