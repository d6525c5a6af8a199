"""wordllama's static token vectors, from its package alone."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any


def load() -> Any:
    """The WordLlama object; ImportError if the package (extra `embed-fast`) is not installed."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    import wordllama

    # Importing it sets up logging for the whole process, which is not its to do.
    root.handlers[:], root.level = handlers, level
    # Weights and tokenizer are in the package; left alone, load() asks a model hub first.
    folder = Path(wordllama.__file__).parent
    return wordllama.WordLlama.load(cache_dir=folder, disable_download=True)
