"""Numbers as people and models write them, by value: 1,000 = 1000 = 1e3 = $1000."""

from __future__ import annotations

import re
from fractions import Fraction

from bicameral.left.final import latest

_SIGN = r"[-+−–]?"
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d{1,200})?|\d{1,200}(?:\.\d{0,200})?|\.\d{1,200})"
_TEN = r"\s?(?:\\times|\\cdot|×|·|x|\*)\s?10\s?(?:\^|\*\*)\s?\{?\s?([-+−]?\d{1,3})\}?"
_SCALE = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_NUMBER = re.compile(
    rf"(?<![A-Za-z0-9_.,/^])({_SIGN})\s?[$€£¥]?\s?({_DIGITS})"
    rf"(?:[eE]([-+−]?\d{{1,3}})(?![\w.])|{_TEN})?"
    r"(?:\s?/\s?(\d{1,200})(?![\w/]|\.\d))?"
    rf"(?:\s?(%|percent\b|per cent\b)|\s({'|'.join(_SCALE)})\b)?",
    re.IGNORECASE,
)
_FRACTION = re.compile(
    r"\\[dt]?frac\s?(?:\{\s?(-?\d{1,200})\s?\}\s?\{\s?(\d{1,200})\s?\}|(\d)\s?(\d))"
)
_NAMES = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    *("nineteen", "twenty"),
]
_NAMED = re.compile(rf"\b(?:{'|'.join(_NAMES)})\b", re.IGNORECASE)
_MARKS = re.compile(r"\\[()\[\]!,;%$]|\$|\\(?:left|right)\b|\*\*|[`~\u00a0\u202f]|\{,\}")
_LEAD = re.compile(
    r"\W*(?:\w{1,20}\s?(?:=|≈|\\approx)|(?:about|approximately|only|exactly|is)\b)*\W*"
)
_UNIT = re.compile(
    r"\s*(?:\\(?:text|mathrm|mbox)\s?\{[^{}\d]{0,40}\}|\^?\{?\\circ\}?|°|(?<=\s)[^\W\d_]{2}[^\d=+*\\^]{0,40})?"
    r"(?:\^\{?[23]\}?)?[\s.,;:!}]*"
)
_PLACES = 6
_LONGEST = 500
_TINY, _HUGE = Fraction(1, 10**100), 10**200  # beyond that a number is not written out


def value(text: str, *, percent: bool = False) -> Fraction | None:
    """The number that `text` is, with or without a unit; None if it is anything else.

    `percent`: the question asks for a percentage, so that the sign is but a unit.
    """
    text = _readable(text).strip()
    if len(text) > _LONGEST:
        return None
    found = _NUMBER.match(text, _start(text))
    if found is None:
        named = text.strip(" .*").casefold()
        return Fraction(_NAMES.index(named)) if named in _NAMES else None
    return _worth(found, percent) if _UNIT.fullmatch(text, found.end()) else None


def mentioned(text: str, *, stated: bool, percent: bool = False) -> Fraction | None:
    """The number that `text` arrives at: the last one, or behind the last "=" if there is any.

    `stated`: the text is said to be the result, so what it begins with counts, not what it adds.
    """
    text = _readable(text)
    after = text.rpartition("=")[2]
    found = latest(_NUMBER, after) if len(after) < len(text) else None
    found = found or (_NUMBER.search(text) if stated else latest(_NUMBER, text))
    if found:
        return _worth(found, percent)
    names = _NAMED.findall(text)
    return Fraction(_NAMES.index(names[-1].casefold())) if names else None


def shown(number: Fraction) -> str:
    """One text per value: integers exactly, others to six places, or six digits if below one."""
    if number.denominator == 1:
        return str(number.numerator)
    places = _PLACES
    small = abs(number)
    while 0 < small < Fraction(1, 10):
        small *= 10
        places += 1
    scaled = round(abs(number) * 10**places)
    whole, rest = divmod(scaled, 10**places)
    digits = str(rest).rjust(places, "0").rstrip("0")
    return ("-" if number < 0 else "") + (f"{whole}.{digits}" if digits else str(whole))


def _readable(text: str) -> str:
    plain = _MARKS.sub(lambda m: "%" if m[0] == "\\%" else "", text)
    return _FRACTION.sub(lambda m: f"{m[1] or m[3]}/{m[2] or m[4]}", plain)


def _start(text: str) -> int:
    lead = _LEAD.match(text)
    end = lead.end() if lead else 0
    while end and text[end - 1] in " -+−–.$€£¥":
        end -= 1
    return end


def _worth(found: re.Match[str], percent: bool) -> Fraction | None:
    sign, digits, exponent, power, under, hundredth, scale = found.groups()
    number = Fraction(digits.replace(",", "").rstrip(".") or "0")
    number *= Fraction(10) ** int((exponent or power or "0").replace("−", "-"))
    if under:
        if int(under) == 0:
            return None
        number /= int(under)
    if hundredth and not percent:
        number /= 100
    if scale:
        number *= _SCALE[scale.casefold()]
    if number and not _TINY < number < _HUGE:
        return None
    return -number if sign in ("-", "−", "–") and sign else number
