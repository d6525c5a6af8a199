"""Multiple choice: the options that a question lists, and the one that an answer commits to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise

from msgspec import Struct

from bicameral.left.final import latest, plain

# An option opens a line ("C.", "C)", "(C)", "**C.**", "- C:") or, in brackets, follows a space.
_OPENS = re.compile(r"(?:^|\n)[ \t>*#-]{0,6}[(（]?([A-Z]|[a-z])[).:）．：、]\*{0,2}(?=\s*\S)")
_INSIDE = re.compile(
    r"(?:^|[\s,;:])\((?:([A-Z])\)(?=\s*\S)|([a-z])\)(?=\s+\S))|[\s,;:](?:([A-Z])|([a-z]))\)(?=\s+\S)"
)
_PAIR = re.compile(
    r"(?:\b(?:answer|reply|respond|say|choose|print|output|with|is it)\b[^.\n]{0,40}"
    r"|[?:.]\s{0,3}|^|\()[\"'*]{0,3}"
    r"\b(yes|true)\b[\"'*]{0,3}(?: or |/)[\"'*]{0,3}\b(no|false)\b",
    re.IGNORECASE | re.MULTILINE,
)

# A letter that stands alone; how far before it the words that commit to it may begin.
_LETTER = re.compile(
    r"(?<![A-Za-z0-9_À-ɏ'’&^/.+°-])([A-Za-z])(?![A-Za-z0-9_À-ɏ'’&^/]|\}?[_^]|-\w|\.\w|\s*[=+<>])"
)
_REACH = 90
_ENDS = re.compile(r"[.!?;](?=\s)|[。！？；]|(?<![:,\s\[])(?<! is)(?<! are)\s*\n(?=\s*\S)")

_ANSWER = re.compile(r"answers?\b|\\boxed\b|####|答案|故选|应选", re.IGNORECASE)
_CHOSEN = re.compile(
    r"\b(?:closest|nearest|correct|right|best|most|only|options?|choices?|choose|chosen|select"
    r"|pick|corresponds?|match(?:es)?|go with|therefore|thus|hence|so|conclude|is|are|be|as)\b"
    r"|选|因此|所以",
    re.IGNORECASE,
)
_CLOSING = frozenset({*".:)）．：、。", ""})
_OPTION = re.compile(r"\b(?:option|choice|letter|statement)\W{0,6}$|选项?$", re.IGNORECASE)
_VALUE = re.compile(r"(?:\bis\b|\bare\b|:)[^\n]*\d|[=≈]")
_DIRECT = re.compile(r"\W*(?:(?:is|be|are)\b\W*)?(?:(?:option|choice)\b\W*)?", re.IGNORECASE)
_AFTER = re.compile(
    r"\W{0,6}(?:[^.\n]{0,80}?\s)?(?:is|as|seems|would be)\s(?:\w+\s){0,3}?"
    r"(?:correct|right|closest|nearest|best|answer|true)\b",
    re.IGNORECASE,
)
_NOT = re.compile(
    r"\b(?:not|isn't|never|neither|nor|incorrect|wrong|eliminate\w*|rule[sd]? out|exclud\w+"
    r"|unlike|than|except|between)\b|不|非|错",
    re.IGNORECASE,
)
_TURN = re.compile(r"\b(?:but|so|however|instead|rather|therefore|thus)\b", re.IGNORECASE)
# "A" and "I" are words too: only before these, a mark or the end they are letters.
_GOES_ON = re.compile(r"\s+(?:and|or|because|since|as|with|which|for|is|based|if|when|but)\b|\s*\n")
_LINE = re.compile(
    r"(?:^|\n)[\s*_(`#>$\\\[-]{0,8}([A-Za-z])[*_`]{0,3}(?:[).:\]][*_`)\]]{0,3}|\n|$)"
)
_CORRECTS = re.compile(
    r"\b(?:wait|however|but|actually|sorry|correction|let me|mistake\w*|re-?check\w*|instead)\b",
    re.IGNORECASE,
)
_AGAIN = re.compile(
    r"\n\W{0,8}(?:Question|Q|Options)\W{0,4}\d{0,4}:|\nA[.)] [^\n]*\nB[.)] [^\n]*\nC[.)] "
    r"|\ball (?:the )?answers\b|总结|所有答案",
    re.IGNORECASE,
)
_BARE = 60  # letters: a commitment with less than that before it was not reasoned for


class Found(Struct, frozen=True):
    """An option's label, and where in the answer it was committed to."""

    label: str
    start: int
    end: int


def options(prompt: str) -> Mapping[str, str]:
    """Label -> text of the options that `prompt` lists last; empty if it lists none.

    "Yes or no" and "true or false" are two options that are their own labels.
    """
    for pattern in (_OPENS, _INSIDE):
        if run := _last_run(list(pattern.finditer(prompt))):
            ends = [mark.start() for mark in run[1:]] + [len(prompt)]
            texts = [prompt[mark.end() : end] for mark, end in zip(run, ends, strict=True)]
            texts[-1] = texts[-1].strip().partition("\n")[0]
            return {_label(m): text.strip(" \t\n*,;") for m, text in zip(run, texts, strict=True)}
    pairs = _PAIR.findall(prompt)
    return {word.lower(): word.lower() for word in pairs[-1]} if pairs else {}


def _last_run(marks: list[re.Match[str]]) -> list[re.Match[str]]:
    """The last marks that count a, b, c, ...; empty if there are not two."""
    run: list[re.Match[str]] = []
    best: list[re.Match[str]] = []
    for mark in marks:
        if _label(mark) in "Aa":
            run = [mark]
        elif run and ord(_label(mark)) == ord(_label(run[-1])) + 1:
            run.append(mark)
            best = run
    return best


def _label(mark: re.Match[str]) -> str:
    return str(mark[mark.lastindex or 0])


def chosen(choices: Mapping[str, str], text: str) -> Found | None:
    """The option that `text` commits to last; None if it commits to none.

    In this order: a letter after words such as "the answer is" or "closest is option"; a line
    that opens with a letter; the words of exactly one option where the answer should be.
    A letter inside a denial does not count. A later letter takes back an earlier one only if
    there is some reasoning between them: a bare list of letters at the end is a run-on.
    """
    labels = {label.casefold(): label for label in choices}
    if any(len(label) > 1 for label in labels):
        return _word(labels, text)
    return _letter(labels, text) or _opening(labels, text) or _worded(choices, text)


def _word(labels: Mapping[str, str], text: str) -> Found | None:
    """For yes or no: what the text opens with, or the last word after "answer"."""
    said = list(re.finditer(rf"\b(?:{'|'.join(labels)})\b", text, re.IGNORECASE))
    if not said:
        return None
    opens = not re.search(r"\w", text[: said[0].start()])
    one = len({m[0].casefold() for m in said}) == 1
    told = [m for m in said if _ANSWER.search(text, max(0, m.start() - _REACH), m.start())]
    last = told[-1] if told else said[0] if opens or one else None
    return last and Found(labels[last[0].casefold()], last.start(), last.end())


def _letter(labels: Mapping[str, str], text: str) -> Found | None:
    strong: list[Found] = []
    weak: list[Found] = []
    for found, is_strong in _commitments(labels, text):
        (strong if is_strong else weak).append(found)
    if strong:
        return _stands(strong, text)
    return weak[-1] if weak else next(_other_case(labels, text), None)


def _stands(said: list[Found], text: str) -> Found:
    """The last that has reasoning of its own; if none has, the last of all."""
    if said[-1].start < _BARE * len(said):
        return said[-1]
    stands = said[0]
    for before, after in pairwise(said):
        between = text[before.end : after.start]
        if _CORRECTS.search(between):
            stands = after
        elif _AGAIN.search(between):
            break
        elif sum(map(str.isalnum, between.partition("\n")[2])) > _BARE:
            stands = after
    return stands


def _commitments(labels: Mapping[str, str], text: str) -> Iterator[tuple[Found, bool]]:
    """Each letter that is committed to; True where the text calls it the answer."""
    used = 0
    for mention in _LETTER.finditer(text):
        label = mention[1]
        if labels.get(label.casefold()) != label or _is_word(mention, text):
            continue
        start, end = mention.span()
        before = text[max(used, start - _REACH) : start]
        answer = latest(_ANSWER, before)
        lead = before[answer.end() :] if answer else _sentence(before)
        if _NOT.search(_TURN.split(lead)[-1]):
            used = end
        elif answer and not (_ENDS.search(lead) or _VALUE.search(lead)):
            used = end
            yield Found(label, start, end), True
        elif (_is_marked(mention, text) or _OPTION.search(lead)) and (
            _CHOSEN.search(lead) or _AFTER.match(text, end, end + _REACH)
        ):
            used = end
            yield Found(label, start, end), False


def _other_case(labels: Mapping[str, str], text: str) -> Iterator[Found]:
    """Letters right behind "the answer is" that are written small where the option is not."""
    for mention in _LETTER.finditer(text):
        label = labels.get(mention[1].casefold())
        before = text[max(0, mention.start() - _REACH) : mention.start()]
        answer = latest(_ANSWER, before)
        if label and answer and _DIRECT.fullmatch(before, answer.end()):
            yield Found(label, *mention.span())


def _is_word(mention: re.Match[str], text: str) -> bool:
    """Whether an A or an I goes on as a sentence does."""
    end = mention.end()
    if mention[1].upper() not in "AI" or _is_marked(mention, text) or text[end : end + 1] in ",\n":
        return False
    return _GOES_ON.match(text, end) is None


def _is_marked(mention: re.Match[str], text: str) -> bool:
    """Whether a bracket, a mark or the end says that this is a label, not a variable."""
    start, end = mention.span()
    opened = text[start - 1 : start] in ("(", "（", "*", "{", '"', "[", "`")
    closed = text[end : end + 1] in (")", "）", "*", "}", '"', "]", "`")
    return (opened and closed) or text[end : end + 1] in _CLOSING


def _sentence(before: str) -> str:
    """What of `before` belongs to the sentence that goes on after it."""
    end = latest(_ENDS, before)
    return before[end.end() :] if end else before


def _opening(labels: Mapping[str, str], text: str) -> Found | None:
    """A letter that opens the text or its last line, and no other line."""
    lines = [m for m in _LINE.finditer(text) if m[1].casefold() in labels]
    lines = [m for m in lines if m[1] == labels[m[1].casefold()] or len(text) < _REACH]
    if not lines or len({m[1] for m in lines}) > 1:
        return None
    only = lines[-1]
    last = "\n" not in text[only.end() :].strip()
    first = not text[: only.start(1)].strip(" \n\t*(`_#")
    return Found(labels[only[1].casefold()], *only.span(1)) if last or first else None


def _worded(choices: Mapping[str, str], text: str) -> Found | None:
    """The one option whose words stand after "the answer is", or in the last sentence."""
    by_words = {plain(words): label for label, words in choices.items() if plain(words)}
    if len(by_words) < len(choices):
        return None
    tail = text.rstrip()
    start = 0
    if said := latest(_ANSWER, tail[-400:]):
        start = len(tail) - len(tail[-400:]) + said.end()
    else:
        end = latest(_ENDS, tail[:-1])
        start = end.end() if end else 0
    words = f" {plain(tail[start:])} "
    if len(words) > 400 or _NOT.search(words):
        return None
    hits = [w for w in by_words if f" {w} " in words]
    longest = [w for w in hits if not any(w != o and w in o for o in hits)]
    return Found(by_words[longest[0]], start, len(tail)) if len(longest) == 1 else None
