"""What a folder of weights says of itself, read without torch; only safetensors are taken.

A pickled checkpoint (*.bin, *.pt) can run any code while it is loaded. Safetensors are numbers
after a header in JSON (huggingface/safetensors, "Format"): 8 bytes of its length, the header, data.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from bicameral.errors import WeightsError

_INDEX = "model.safetensors.index.json"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_MOST = 100 * 2**20  # bytes of a header, as the library that reads it allows
_CODE = (
    "config.json",
    "tokenizer_config.json",
    "processor_config.json",
    "preprocessor_config.json",
)
_EYES = ("preprocessor_config.json", "processor_config.json")


class Folder(Struct, frozen=True, kw_only=True):
    """A model in a folder: its config.json, and how it likes to be sampled.

    `sees`: it takes pictures. `code`: it names Python code of its own.
    """

    path: Path
    config: Mapping[str, Any]
    sampling: Mapping[str, Any]
    sees: bool
    code: bool

    @property
    def context(self) -> int | None:
        """Tokens it was made for, None if unsaid."""
        for part in (self.config, self.config.get("text_config") or {}):
            found = part.get("max_position_embeddings")
            if isinstance(found, int):
                return found
        return None


def look(path: Path) -> Folder:
    """The folder at `path`; WeightsError, which says what to do, if it cannot be run."""
    if not path.is_dir():
        more = "; the engine 'llama_cpp' runs GGUF files" if path.suffix == ".gguf" else ""
        raise WeightsError(f"{path}: is no folder with config.json and *.safetensors{more}")
    if not (path / "config.json").is_file():
        adapter = (path / "adapter_config.json").is_file()
        more = ": it is an adapter; merge it with its model first" if adapter else ""
        raise WeightsError(f"{path}: has no config.json{more}")
    for file in _weights(path):
        _whole(file)
    config = _read(path / "config.json")
    return Folder(
        path=path,
        config=config,
        sampling=_read(path / "generation_config.json"),
        sees="vision_config" in config and any((path / name).is_file() for name in _EYES),
        code=any("auto_map" in _read(path / name) for name in _CODE),
    )


def _weights(path: Path) -> Iterator[Path]:
    """The files of tensors; each that the index names has to be in the folder itself."""
    found = sorted(path.glob("*.safetensors"))
    if not found:
        pickled = any(any(path.glob(pattern)) for pattern in _PICKLED)
        raise WeightsError(
            f"{path}: has pickled weights only, which can run any code as they are loaded; take "
            "its safetensors, or save it anew with save_pretrained(safe_serialization=True)"
            if pickled
            else f"{path}: has no *.safetensors"
        )
    named = _read(path / _INDEX).get("weight_map") or {}
    for name in sorted(set(map(str, named.values()))):
        if path / name not in found:
            raise WeightsError(f"{path}: {_INDEX} names {name}, which is not there")
    yield from found


def _whole(file: Path) -> None:
    """WeightsError if the file is not as long as its header says."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        try:
            header = json.loads(opened.read(length)) if length <= min(size, _MOST) else {}
            tensors = [about for name, about in header.items() if name != "__metadata__"]
            end = max(about["data_offsets"][1] for about in tensors)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise WeightsError(f"{file}: is no safetensors file, or cut off") from error
    if 8 + length + end != size:
        raise WeightsError(f"{file}: is cut off or damaged; fetch it again")


def _read(file: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is no such file."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{file}: cannot be read as JSON") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{file}: has to be a JSON object")
    return found
