"""Answers made comparable: texts that say the same give the same."""

from __future__ import annotations

import json
import re

_BOUNDARY = re.compile(r"[\s\W_]+")


def normalised(text: str) -> str:
    """JSON by value, else words without case and marks."""
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except ValueError:
        return _BOUNDARY.sub(" ", text).strip().casefold()
