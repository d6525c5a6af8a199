"""Where an answer says its result: behind "the answer is", in a box, in a field, on its last line.

Every search is over bounded pieces, so the time grows with the length of the text and no faster.
"""

from __future__ import annotations

import json
import re
from collections import deque
from unicodedata import normalize

from msgspec import Struct

_LONGEST = 500
_FIELD = re.compile(
    r"[\"'](?:final[_ ])?(?:answer|result|solution)[\"']\s{0,9}:\s{0,9}", re.IGNORECASE
)
_PHRASE = re.compile(
    r"\banswers?\b[^.\n:=]{0,60}?"
    r"(?:\b(?:is|are|was|would be|should be)\b(?![^.\n]{0,60}\bis:)|[:=])[\s:*_]{0,9}"
    r"|答案[^。\n]{0,20}?[是为：:][\s：:*_]{0,9}",
    re.IGNORECASE,
)
_STOP = re.compile(r"\n|[.!?](?=\s|$)|[。！？]|\*\*(?=\s|$)")
_QUOTED = re.compile(r"\"((?:[^\"\\]|\\.){0,500})\"", re.DOTALL)
_BARE = re.compile(r"[^,}\n]{0,500}")
_FORMULA = re.compile(r"\$([^$\n]{1,500})\$|\\\(([^\n]{1,500}?)\\\)")
_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_decoder = json.JSONDecoder()
_BETWEEN = re.compile(r"[\W_]+")
_ARTICLE = re.compile(r"\b(?:the|a|an) ")


class Piece(Struct, frozen=True):
    """A part of an answer: its text, and where that begins and ends in the whole."""

    text: str
    start: int
    end: int


def plain(text: str) -> str:
    """Words without case and marks."""
    return _BETWEEN.sub(" ", normalize("NFKC", text).casefold()).strip()


def words(text: str) -> str:
    """`plain`, and without articles."""
    return _ARTICLE.sub("", plain(text))


def spoken(text: str) -> str:
    """The text with thoughts in <think> blanked out, so that places in it stay the same."""
    if "<" not in text:
        return text
    return _THOUGHT.sub(lambda block: " " * len(block[0]), text)


def stated(text: str) -> Piece | None:
    """The result that the text marks as such, the last one; None if it marks none."""
    for look in (_field, _box, _hashes, _phrase):
        if (piece := look(text)) and piece.text.strip():
            return piece
    return None


def last_line(text: str) -> Piece:
    """The last line that says anything; the whole of a text of one line."""
    end = len(text.rstrip())
    start = text.rfind("\n", 0, end) + 1
    return Piece(text[start:end], start, end)


def last_formula(text: str) -> Piece | None:
    """The last formula set in LaTeX on the last line, if that line is prose."""
    line = last_line(text)
    found = latest(_FORMULA, line.text)
    if found is None:
        return None
    return Piece(found[1] or found[2] or "", line.start + found.start(), line.start + found.end())


def _field(text: str) -> Piece | None:
    name = latest(_FIELD, text)
    if name is None:
        return None
    if value := _QUOTED.match(text, name.end()):
        inner = value[1].replace('\\"', '"').replace("\\\\", "\\")
        return Piece(inner, *value.span(1))
    if text[name.end() : name.end() + 1] in ("{", "["):
        try:
            end = _decoder.raw_decode(text, name.end())[1]
        except (ValueError, RecursionError):
            return None
        return _cut(text, name.end(), end)
    bare = _BARE.match(text, name.end())
    return bare and Piece(bare[0], *bare.span())


def _box(text: str) -> Piece | None:
    at = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
    if at < 0:
        return None
    start = text.index("{", at) + 1
    depth = 1
    for end in range(start, min(len(text), start + _LONGEST)):
        depth += (text[end] == "{") - (text[end] == "}")
        if depth == 0:
            return Piece(text[start:end], start, end)
    return None


def _hashes(text: str) -> Piece | None:
    at = text.rfind("#### ")
    if at < 0:
        return None
    end = text.find("\n", at)
    return _cut(text, at + 5, len(text) if end < 0 else end)


def _phrase(text: str) -> Piece | None:
    said = latest(_PHRASE, text)
    if said is None:
        return None
    stop = _STOP.search(text, said.end(), said.end() + _LONGEST)
    return _cut(text, said.end(), stop.start() if stop else said.end() + _LONGEST)


def _cut(text: str, start: int, end: int) -> Piece:
    end = min(end, len(text), start + _LONGEST)
    return Piece(text[start:end], start, end)


def latest(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last match."""
    found = deque(pattern.finditer(text), maxlen=1)
    return found[0] if found else None
