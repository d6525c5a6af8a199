"""Short results in one spelling: LaTeX and plain mathematics that mean the same look the same.

This compares spellings, it does no algebra: x + 1 and 1 + x stay different.
"""

from __future__ import annotations

import re

from bicameral.left import numbers
from bicameral.left.final import words

_MATH = re.compile(r"[\\^_=+*/(){}\[\]<>|√π∞°²³]|\d")
_DROPPED = re.compile(
    r"\\(?:left|right|displaystyle|[Bb]ig{1,2}[lr]?|[!,;: ()\[\]]|q?quad\b)|\$|\\?~|`|\*\*"
    r"|\^\{?\\circ\}?|°"
)
_BOXED = re.compile(
    r"\\(?:boxed|text|textbf|textit|mathrm|mathbf|mathit|operatorname|mbox|rm)\s?\{([^{}]*)\}"
)
_FRAC = re.compile(r"\\frac\{([^{}]*)\}\{([^{}]*)\}")
_SHORT_FRAC = re.compile(
    r"\\frac\s?(\d|[a-z]\b)\s?(\d|[a-z]\b)|\\frac(\d)\{([^{}]*)\}|\\frac\{([^{}]*)\}(\d)"
)
_ROOT = re.compile(r"\\sqrt\s?(?:\{([^{}]*)\}|(\w))")
_POWER = re.compile(r"([\^_])\{([^{}]*)\}")
_ATOM = re.compile(r"[\w.]*|sqrt\([\w.]*\)")
_SUM = re.compile(r"[-+,=<>]")
_OUTER = re.compile(r"\(([^(),]*)\)")
_LEFT_OF = re.compile(r"^[A-Za-z](?:\([A-Za-z]\))?=(?=[^=])")
_DECIMAL = re.compile(r"(?<![\w.])(\d{1,200}\.\d{1,200}|\.\d{1,200}|0\d{1,200})(?![\w.])")
_SPELLINGS = {
    "*": ("\\cdot", "\\times", "×", "·"),
    "/": ("\\div", "÷"),
    "-": ("−", "–"),
    "±": ("\\pm",),
    "%": ("\\%",),
    "^2": ("²",),
    "^3": ("³",),
    "\\sqrt": ("√",),
    "\\frac": ("\\dfrac", "\\tfrac"),
    "<=": ("\\leq", "\\le", "≤"),
    ">=": ("\\geq", "\\ge", "≥"),
    "!=": ("\\neq", "≠"),
    "pi": ("\\pi", "π"),
    "inf": ("\\infty", "∞"),
    "∪": ("\\cup",),
    "{": ("\\{",),
    "}": ("\\}",),
}
_SYMBOLS = {symbol: one for one, symbols in _SPELLINGS.items() for symbol in symbols}
_SYMBOL = re.compile("|".join(re.escape(s) + r"(?![a-z])" * s[-1].isalpha() for s in _SYMBOLS))
_SYMBOLIC = re.compile(r"[\\^_(\[{√π]|\d[a-z]\b")
_COMMAND = re.compile(r"\\(?:(?:text|mathrm|mbox)\s?\{[^{}]{0,40}\}|[A-Za-z]+)")
_WORD = re.compile(r"[^\W\d_]{3}")
_LONGEST, _PASSES = 500, 40  # what is nested deeper than that stays as it is


def spelled(text: str, *, percent: bool = False) -> str:
    """The one spelling of a result; "" if it says nothing. A number is spelled by its value."""
    text = text.strip()[:_LONGEST]
    for _ in range(_PASSES):
        before, text = text, _unquoted(text)
        number = numbers.value(text, percent=percent)
        if number is not None:
            return numbers.shown(number)
        text = _BOXED.sub(r"\1", text)
        text = _once(text) if _MATH.search(text) else words(text)
        if text == before:
            break
    return text


def _unquoted(text: str) -> str:
    """Without the quotes around the whole, if it holds no other."""
    quote = text[:1]
    around = quote in ("'", '"', "`") and len(text) > 1 and text.find(quote, 1) == len(text) - 1
    return text[1:-1] if around else text


def symbolic(text: str) -> bool:
    """Whether it is a formula rather than a number in words: symbols, but no word."""
    return _SYMBOLIC.search(text) is not None and not _WORD.search(_COMMAND.sub("", text))


def _once(text: str) -> str:
    text = _SYMBOL.sub(lambda m: _SYMBOLS[m[0]], _DROPPED.sub("", text))
    text = _SHORT_FRAC.sub(_fraction, _FRAC.sub(_fraction, text))
    text = _ROOT.sub(lambda m: f"sqrt({m[1] or m[2] or ''})", text)
    text = _POWER.sub(lambda m: m[1] + _held(m[2]), text)
    text = "".join(text.split()).rstrip(".,;:!").replace('"', "'")
    text = _DECIMAL.sub(lambda m: _trimmed(m[1]), text)
    text = _LEFT_OF.sub("", text)
    outer = _OUTER.fullmatch(text)
    return outer[1] if outer else text


def _fraction(found: re.Match[str]) -> str:
    over, under = (part for part in found.groups() if part is not None)
    return f"{f'({over})' if _SUM.search(over) else over.strip()}/{_held(under)}"


def _held(part: str) -> str:
    """In brackets, unless it is one word, number or root."""
    part = part.strip()
    return part if _ATOM.fullmatch(part) else f"({part})"


def _trimmed(digits: str) -> str:
    number = numbers.value(digits)
    return digits if number is None else numbers.shown(number)
