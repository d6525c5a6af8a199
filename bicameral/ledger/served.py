"""Whether the model that a provider says it ran is the one that was asked for."""

from __future__ import annotations

import re

# What stands for the same model: OpenRouter's ways to route, Ollama's and others' "latest".
_TAG = re.compile(r":(free|nitro|floor|online|exacto|extended|latest)$")
_FILE = re.compile(r"\.gguf$")
# A snapshot: -2024-08-06, -20241022, @20241022, -0613, -001, and what says "the newest".
_DATE = re.compile(r"[-@](\d{4}-\d{2}-\d{2}|\d{8}|\d{6}|\d{3,4}|latest)$")


def same(asked: str, served: str) -> bool:
    """Whether `served` is `asked`, as far as names tell.

    A provider's prefix, letter case and a tag of routing do not count, nor does the date of a
    snapshot that only one of the two has: a name without one is that of its newest snapshot.
    """
    if asked == served:
        return True
    (model, date), (ran, when) = _split(asked), _split(served)
    return model == ran and (date == when or not date or not when)


def _split(name: str) -> tuple[str, str]:
    """The model and the date of its snapshot, "" if there is none."""
    bare = _FILE.sub("", _TAG.sub("", name.strip().lower().rpartition("/")[2]))
    found = _DATE.search(bare)
    if found is None:
        return bare, ""
    date = "" if found[1] == "latest" else found[1].replace("-", "")
    return bare[: found.start()], date
