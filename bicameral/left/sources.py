"""Source code without what does not run: comments, blank lines, spaces inside a line."""

from __future__ import annotations

import re
from collections.abc import Iterator

_FENCE = re.compile(r"^[ \t]*(```|~~~)[^\n]*$", re.MULTILINE)
_TOKEN = re.compile(
    # What is not closed ends with the text: no piece is tried twice.
    r"(?P<text>\"\"\"(?:[^\"]|\"(?!\"\"))*(?:\"\"\"|\Z)|'''(?:[^']|'(?!''))*(?:'''|\Z)"
    r"|\"(?:[^\"\\\n]|\\.)*\"?|'(?:[^'\\\n]|\\.)*'?)"
    r"|(?P<comment>#[^\n]*|//[^\n]*|/\*(?:[^*]|\*(?!/))*(?:\*/|\Z))"
    r"|(?P<word>\w+)|(?P<line>\n[ \t]*)|(?P<mark>[^\s\w])"
)


def program(answer: str) -> str:
    """The code in the answer's fences, joined; the whole answer if it has none."""
    marks = list(_FENCE.finditer(answer))
    if not marks:
        return answer
    pairs = zip(marks[::2], [*marks[1::2], None], strict=False)
    return "\n".join(answer[a.end() : b.start() if b else len(answer)] for a, b in pairs)


def bare(source: str) -> str:
    """The code with one space between tokens; equal for sources that differ in layout only.

    How far a line is indented counts only against the lines around it, as in Python.
    """
    depths = [0]
    lines: list[str] = []
    for indent, tokens in _lines(source):
        while depths[-1] > indent:
            depths.pop()
        if indent > depths[-1]:
            depths.append(indent)
        lines.append(" " * (len(depths) - 1) + " ".join(tokens))
    return "\n".join(lines)


def _lines(source: str) -> Iterator[tuple[int, list[str]]]:
    indent, tokens = 0, list[str]()
    for token in _TOKEN.finditer("\n" + source.expandtabs(8)):
        match token.lastgroup:
            case "line":
                if tokens:
                    yield indent, tokens
                indent, tokens = len(token[0]) - 1, []
            case "comment":
                pass
            case _:
                tokens.append(token[0])
    if tokens:
        yield indent, tokens
