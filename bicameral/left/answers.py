"""Answers made comparable: texts that say the same give the same key, whatever their task.

Rules, not a model: they read what an answer commits to and nothing else, so a text can at most
decide its own key. All of it takes time in proportion to the length of the text.
"""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct

from bicameral.left import choices, final, formulas, numbers, sources, values
from bicameral.types import Request

Kind = Literal["choice", "number", "exact", "json", "code", "text"]

# So much is read of the two ends of a longer text; of code and JSON so much is read as such.
_HEAD, _TAIL, _WHOLE = 8_000, 24_000, 200_000
# A longer "the answer is ..." is an argument, not a result; so is one that much follows on.
_SHORT, _AFTERWARDS = 80, 300
_CODE = re.compile(
    r"```|\bdef \w+\(|\bconst \w+ ?=|\bfunction \w+\(|^>>> |^#include\b"
    r"|\b(?:write|implement|complete|fix|refactor)\b[^.\n]{0,60}"
    r"\b(?:function|program|code|script|class|method|query|regex)\b",
    re.IGNORECASE | re.MULTILINE,
)
_OUTPUT = re.compile(
    r"\bwhat (?:is|does|will|would)\b[^.\n]{0,60}\b(?:output|print|return|result|value)"
    r"|\bcomplete the assertion|\bpredict the output",
    re.IGNORECASE,
)
_MATH = re.compile(r"\\boxed|\$[^$\n]{1,200}\$|\\[\[(]|\\frac|\\sqrt")
_COUNT = re.compile(
    r"\bhow (?:many|much|old|far|long|tall|fast)\b|多少|几[个只天次]", re.IGNORECASE
)
_COMPUTE = re.compile(
    r"\b(?:compute|calculate|evaluate|remainder|percent(?:age)?|probability)\b"
    r"|\b(?:what(?:'s|’s| is| was| are| will be)|find)\b[^.?\n]{0,40}"
    r"\b(?:total|sum|product|number|value|result|average|area|perimeter|length|distance|price|cost"
    r"|amount|salary|age|speed|weight|smallest|largest|greatest|least|minimum|maximum)\b"
    r"|\d\s?[-+*/×÷=]\s?\d",
    re.IGNORECASE,
)
_DIGIT = re.compile(r"\d")
_PERCENT = re.compile(r"%|\bpercent", re.IGNORECASE)
_REFUSED = re.compile(
    r"\W{0,3}(?:(?:i'?m|i am) (?:very |so |really )?(?:sorry|unable|not (?:sure|certain|able))"
    r"|(?:sorry|unfortunately)\b[^.]{0,60}\b(?:can|not|unable)"
    r"|i (?:do not|don['’]?t|really don['’]?t) (?:know|have (?:enough|access))"
    r"|i (?:can ?not|can['’]?t|won['’]?t|couldn['’]?t) "
    r"(?:answer|help|assist|provide|determine|say|fulfill|do)"
    r"|as an ai\b|no idea\b|unknown\W*$|n/a\W*$|not sure\b"
    r"|(?:the )?(?:correct )?(?:answer )?"
    r"(?:cannot|can['’]?t|could not) be (?:determined|answered|known|derived|provided)"
    r"|我不知道|抱歉|对不起|无法(?:确定|回答|判断)"
    r"|not (?:\w+ )?(?:listed|given|provided|known|available|among|in the)\b)",
    re.IGNORECASE,
)


class Said(Struct, frozen=True):
    """What an answer says, as its key, and the stretch of the text that says it."""

    key: str
    start: int
    end: int


def kind(request: Request) -> Kind:
    """What sort of answer the request wants, guessed from its form and wording."""
    question = request.question[-_TAIL:]
    if request.format is not None:
        return "json"
    if choices.options(question):
        return "choice"
    if _CODE.search(question):
        return "exact" if _OUTPUT.search(question) else "code"
    if _COUNT.search(question) or (_COMPUTE.search(question) and _DIGIT.search(question)):
        return "number"
    return "exact" if _MATH.search(question) else "text"


def key(kind: Kind, prompt: str, answer: str) -> str | None:
    """Equal for answers to `prompt` that say the same; None: it abstained, or cannot be read."""
    said = read(kind, prompt, answer)
    return said.key if said else None


def read(kind: Kind, prompt: str, answer: str) -> Said | None:
    """What `answer` says as an answer of this kind to `prompt`, and where; None if nothing."""
    text = final.spoken(answer)
    if kind == "json":
        return _said(values.found(text))
    if kind == "code":
        program = sources.program(text)
        short = len(program) <= _WHOLE
        return _whole(sources.bare(program) if short else " ".join(program.split()), text)
    ends, left_out = _ends(text)
    said = _read(kind, prompt[-_TAIL:], ends)
    if said is None or not left_out or said.start < _HEAD:
        return said
    return Said(said.key, said.start + left_out, said.end + left_out)


def normalised(text: str) -> str:
    """JSON by value, else words without case, marks and articles."""
    whole = values.found(text) if text.lstrip()[:1] in ("{", "[") else None
    return whole.text if whole and whole.end == len(text.rstrip()) else final.words(text)


def _ends(text: str) -> tuple[str, int]:
    """The beginning and the end of a long text, and how much was left out between them."""
    if len(text) <= _HEAD + _TAIL:
        return text, 0
    return text[:_HEAD] + text[-_TAIL:], len(text) - _HEAD - _TAIL


def _read(kind: Kind, prompt: str, text: str) -> Said | None:
    percent = _PERCENT.search(prompt) is not None
    match kind:
        case "choice":
            listed = choices.options(prompt)
            found = choices.chosen(listed, text) if listed else None
            return Said(found.label, found.start, found.end) if found else None
        case "number":
            return _number(text, percent)
        case "exact":
            return _exact(text, percent)
        case _:
            return _text(text)


def _number(text: str, percent: bool) -> Said | None:
    stated = final.stated(text)
    if stated is None and _REFUSED.match(text):
        return None
    piece = stated or final.last_line(text)
    number = numbers.value(piece.text, percent=percent)
    if number is None and not formulas.symbolic(piece.text):
        number = numbers.mentioned(piece.text, stated=stated is not None, percent=percent)
    if number is not None:
        return Said(numbers.shown(number), piece.start, piece.end)
    return _result(stated, percent) if stated else None


def _exact(text: str, percent: bool) -> Said | None:
    stated = final.stated(text)
    if stated is None and _REFUSED.match(text):
        return None
    return _result(stated or final.last_formula(text) or final.last_line(text), percent)


def _result(piece: final.Piece, percent: bool) -> Said | None:
    if _REFUSED.match(piece.text):
        return None
    return _said(final.Piece(formulas.spelled(piece.text, percent=percent), piece.start, piece.end))


def _text(text: str) -> Said | None:
    if _REFUSED.match(text):
        return None
    stated = final.stated(text)
    if stated and len(stated.text) <= _SHORT and len(text) - stated.end <= _AFTERWARDS:
        return _said(final.Piece(final.words(stated.text), stated.start, stated.end))
    return _whole(normalised(text), text)


def _said(piece: final.Piece | None) -> Said | None:
    return Said(piece.text, piece.start, piece.end) if piece and piece.text else None


def _whole(key: str, text: str) -> Said | None:
    return Said(key, 0, len(text)) if key.strip() else None
