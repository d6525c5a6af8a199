"""Fetches one file from a model hub through huggingface_hub, which is optional.

HF_ENDPOINT names a mirror, HF_HUB_OFFLINE forbids the hub. No token is sent.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bicameral.engines.weights import Hub
from bicameral.errors import WeightsError

PATIENCE = 5.0  # seconds until a hub that does not answer is passed over


def fetch(hub: Hub, *, size: int, folder: Path, arrived: Callable[[int], None]) -> Path:
    """The file, below `folder`, where an interrupted download goes on the next time.

    `arrived` is told the bytes that are here. A file of another size is refused unread.
    """
    _allowed()
    library: Any = importlib.import_module("huggingface_hub")
    errors: Any = importlib.import_module("huggingface_hub.errors")
    network: Any = importlib.import_module("httpx2")
    endpoint = os.environ.get("HF_ENDPOINT")
    url = library.hf_hub_url(hub.repo, hub.file, revision=hub.revision, endpoint=endpoint)
    try:
        # Asked for first, as the download itself would try for half a minute to reach the hub.
        there = library.get_hf_file_metadata(url, token=False, timeout=PATIENCE).size
        if there != size:
            raise WeightsError(f"{hub.repo} has {hub.file} with {there} bytes, not {size}")
        path = library.hf_hub_download(
            hub.repo,
            hub.file,
            revision=hub.revision,
            endpoint=endpoint,
            token=False,
            local_dir=folder,
            tqdm_class=_counter(arrived),
        )
    except (OSError, RuntimeError, network.HTTPError, errors.XetDownloadError) as error:
        raise WeightsError(f"the hub did not give {hub.repo}: {_line(error)}") from error
    return Path(path)


def _allowed() -> None:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise WeightsError("the hub was not asked, as HF_HUB_OFFLINE is set")
    if importlib.util.find_spec("huggingface_hub") is None:
        raise WeightsError("the hub was not asked, which takes `pip install 'bicameral[hub]'`")


def _counter(arrived: Callable[[int], None]) -> type:
    """What huggingface_hub takes for a progress bar: it counts for us and draws nothing."""

    class Counter:
        def __init__(self, *, initial: int = 0, **_: Any) -> None:
            self.done = initial

        def __enter__(self) -> Counter:
            return self

        def __exit__(self, *_: object) -> None: ...

        def update(self, more: float | None = 1) -> None:
            self.done += int(more or 0)
            arrived(self.done)

    return Counter


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
