"""Loads a folder of weights through transformers, onto a chip; nothing is fetched.

A folder's own Python code never runs unless the config says so. Weights that the folder lacks are
an error: transformers would go on with random numbers in their place.
"""

from __future__ import annotations

import os
from typing import Any, Literal

from msgspec import Struct

from bicameral.engines.hf.folder import Folder
from bicameral.engines.media.optional import library, present
from bicameral.errors import ChipError, ConfigError, WeightsError

EXTRA = "transformers"
DtypeName = Literal["auto", "float32", "bfloat16", "float16"]
_KINDS = {"cuda": "gpu", "xpu": "gpu", "mps": "gpu"}
# What transformers raises for configs, tokenizers and weights that are wrong or unknown to it.
_WRONG = (
    OSError,
    ValueError,
    RuntimeError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
)


class Loaded(Struct, frozen=True):
    """A net on its device. `writer` makes prompts: the tokenizer, or for pictures the processor."""

    torch: Any
    net: Any
    tokenizer: Any
    writer: Any
    device: Any

    @property
    def chip(self) -> str:
        """cpu, gpu, or what torch calls any other kind."""
        kind: str = self.device.type
        return _KINDS.get(kind, kind)


def device(name: str, wanted: str) -> Any:
    """torch's device for `wanted`, auto for the best there is; ChipError if it is not there."""
    torch = library("torch", extra=EXTRA)
    if wanted == "auto":
        there = torch.accelerator.is_available()
        return torch.accelerator.current_accelerator() if there else torch.device("cpu")
    try:
        found = torch.device(wanted)
    except RuntimeError as error:
        raise ConfigError(
            f"[models.{name}] device: '{wanted}' is none; write auto, cpu, cuda:0, mps or xpu"
        ) from error
    try:
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ChipError(
            f"[models.{name}] device: torch {torch.__version__} finds no {wanted} on this machine "
            f"({first_line(error)}); 'cpu' always works"
        ) from error
    return found


def load(folder: Folder, where: Any, *, dtype: DtypeName, remote_code: bool) -> Loaded:
    """The net of `folder` on the device `where`; WeightsError or ConfigError if it cannot work."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when the libraries are imported
    torch = library("torch", extra=EXTRA)
    transformers = library("transformers", extra=EXTRA)
    present("jinja2", extra=EXTRA)  # chat templates
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    wrong: tuple[type[Exception], ...] = (*_WRONG, *_theirs())
    how = {"local_files_only": True, "trust_remote_code": remote_code}
    try:
        writer = _kind(transformers, folder, "AutoProcessor", "AutoTokenizer").from_pretrained(
            folder.path, **how
        )
        auto = _kind(transformers, folder, "AutoModelForImageTextToText", "AutoModelForCausalLM")
        net, told = auto.from_pretrained(
            folder.path,
            dtype=_dtype(folder, where, dtype),
            use_safetensors=True,
            output_loading_info=True,
            **_placed(where),
            **how,
        )
    except ImportError as error:
        raise ConfigError(f"{folder.path}: needs more libraries: {first_line(error)}") from error
    except wrong as error:
        raise _refused(folder, remote_code, error) from error
    _complete(folder, told)
    _plain(transformers, net)
    return Loaded(torch, net.eval(), getattr(writer, "tokenizer", writer), writer, where)


def _theirs() -> tuple[type[Exception], ...]:
    """What the libraries below transformers raise for wrong weights and wrong configs."""
    safetensors = library("safetensors", extra=EXTRA)
    errors = library("huggingface_hub.errors", extra=EXTRA)
    return safetensors.SafetensorError, errors.StrictDataclassError


def _kind(transformers: Any, folder: Folder, seeing: str, reading: str) -> Any:
    return getattr(transformers, seeing if folder.sees else reading)


def _dtype(folder: Folder, where: Any, dtype: DtypeName) -> str:
    """Few CPUs multiply 16-bit floats; weights that are quantized stay as they are."""
    plain = dtype == "auto" and where.type == "cpu" and "quantization_config" not in folder.config
    return "float32" if plain else dtype


def _placed(where: Any) -> dict[str, Any]:
    """Straight onto the chip, tensor by tensor, where it has a memory of its own."""
    if where.type == "cpu":
        return {}
    library("accelerate", extra=EXTRA)
    return {"device_map": {"": where}}


def _refused(folder: Folder, remote_code: bool, error: Exception) -> WeightsError:
    if folder.code and not remote_code:
        return WeightsError(
            f"{folder.path}: brings Python code of its own, which may do anything that you may; "
            "read it, then set remote_code = true"
        )
    return WeightsError(f"{folder.path}: transformers cannot load it: {first_line(error)}")


def _complete(folder: Folder, told: Any) -> None:
    """Extra tensors do no harm, as heads for training; ones that are missing do."""
    lacking = sorted(map(str, told["missing_keys"])) + [
        str(key) for key in told.get("mismatched_keys", ())
    ]
    if lacking:
        raise WeightsError(
            f"{folder.path}: {len(lacking)} tensors are missing or of another shape than "
            f"config.json says, {lacking[0]} for one; fetch the folder again"
        )


def _plain(transformers: Any, net: Any) -> None:
    """How tokens are drawn is ours to say, so generate() is left no habits of its own."""
    net.generation_config = transformers.GenerationConfig()


def first_line(error: BaseException) -> str:
    """What an error of torch or transformers says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
