"""Select: several answer at once, one of the answers is picked and not rewritten.

By how likely each is right (best of n), or by a judge who names one (arXiv 2306.05685).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from bicameral.left.aside import Aside
from bicameral.left.brief import MATERIAL, aside, laid_out, leaving_room, shuffled, told
from bicameral.left.cascade import Posthoc, sounding
from bicameral.left.policy import Case, Step, Verdict
from bicameral.model import Model
from bicameral.types import Feature

_ASK = "Which answer is best? Think of which is right first. Reply with its number and nothing else"


class Select:
    """The pick of the judge; without one, or if it names none, the answer most likely right.

    The judge sees different answers only, shuffled and without names. What it says counts as a
    repetition of the answer it named, so that the record shows which that was, without text.
    `posthoc` says how likely each answer is right, by default its own signs.
    """

    name = "select"
    refuses = frozenset({Feature.MANY, Feature.TOOLS})

    def __init__(self, judge: Model | None = None, *, posthoc: Posthoc = sounding) -> None:
        self._judge = judge
        self._posthoc = posthoc

    @property
    def settings(self) -> Mapping[str, Any]:
        """The judge's name."""
        return {"judge": self._judge.card.name if self._judge else None}

    def next(self, case: Case) -> Step | None:
        """All members at once, then the judge if they differ."""
        if not case.asked:
            request = leaving_room(case.request, 2 if self._judge else 1)
            return Step(models=case.members, request=request)
        different = _different(case)
        if self._judge is None or len(case.asked) > len(case.members) or len(different) < 2:
            return None
        order = shuffled(different, case.request)
        texts = [case.answers[i].text for i in order]
        brief = f"{MATERIAL}\n\n{laid_out(texts, case.request)}\n\n{_ASK} (1 to {len(texts)})."
        return Step(
            models=(Aside(self._judge, _picking(texts)),),
            request=aside(told(case.request, brief)),
            why=f"asked {self._judge.card.name} which of {len(texts)} is best",
        )

    def settle(self, case: Case) -> Verdict:
        """The first answer that says what the judge named, or the one most likely right."""
        panel = len(case.members)
        heard = replace(case, asked=case.asked[:panel], answers=case.answers[:panel])
        after, good = self._posthoc(heard), heard.good
        if picked := self._picked(case, panel):
            best = max(picked, key=lambda i: (after[i], -i))
            judge = case.asked[panel].model
            return Verdict(
                index=best, why=f"{judge} picked {case.asked[best].model}", quality=after[best]
            )
        best = max(good, key=lambda i: (after[i], -i))
        name = case.asked[best].model
        failed = "the judge named none; " if len(case.asked) > panel else ""
        why = f"{failed}{name} is {after[best]:.2f} likely right"
        return Verdict(index=best, why=why, quality=after[best])

    def _picked(self, case: Case, panel: int) -> list[int]:
        if len(case.asked) <= panel or case.asked[panel].key is None:
            return []
        key = case.asked[panel].key
        return [i for i in case.good if i < panel and case.asked[i].key == key]


def _different(case: Case) -> list[int]:
    """The first of each group of answers that say the same; those that say nothing are left out."""
    first: dict[str, int] = {}
    for i in case.good:
        key = case.asked[i].key
        if key is not None:
            first.setdefault(key, i)
    return list(first.values())


def _picking(texts: Sequence[str]) -> Callable[[str], str]:
    """Reads a judge's reply as the one text it names."""

    def read(reply: str) -> str:
        lines = reply.strip().splitlines() or [""]
        for said in (reply, lines[-1]):
            named = {int(n) for n in re.findall(r"\d{1,9}", said)}
            if len(named) == 1 and 1 <= (number := named.pop()) <= len(texts):
                return texts[number - 1]
        raise ValueError(f"named none of the {len(texts)} answers")

    return read
