"""Fuse: a panel answers, a judge writes the final answer from theirs.

Mixture of agents (arXiv 2406.04692), with an analysis between: what the answers agree on, where
they contradict each other, what is missing. The same member may be sampled several times, which
often beats a mixed panel (Self-MoA, arXiv 2502.00674).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from bicameral.left.aside import Aside, Sample
from bicameral.left.brief import MATERIAL, aside, laid_out, leaving_room, shuffled, told, weights
from bicameral.left.policy import Case, Step, Verdict
from bicameral.model import Model
from bicameral.types import Feature, JsonFormat

_ANALYSE = (
    "Compare them. Reply with one JSON object and nothing else: {parts}. `consensus` lists what "
    "they agree on, `contradictions` where they contradict each other, which is right and why, "
    "`missing` what matters and none of them says."
).format(parts='{"consensus": [...], "contradictions": [...], "missing": [...]}')
_WRITE = (
    "Where they contradict each other, work out which is right. Answer the user yourself, once, "
    "in the form the user asked for, without mentioning the assistants."
)
# What is said to have come from the panel, the rest from the writer: a convention, no measurement.
_PANEL = 0.5


class Analysis(msgspec.Struct, frozen=True):
    """What the judge found in the answers of the panel."""

    consensus: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


_LISTS = {"type": "array", "items": {"type": "string"}}
_FORMAT = JsonFormat(
    name="analysis",
    schema={
        "type": "object",
        "properties": dict.fromkeys(Analysis.__struct_fields__, _LISTS),
        "required": list(Analysis.__struct_fields__),
        "additionalProperties": False,
    },
)


class Fuse:
    """The judge, by default the last member, streams; a panel of one speaks for itself.

    Each member is sampled `samples` times. If the judge fails, the best of the panel writes once
    more; if that fails too, the best answer of the panel stands. A requested format binds the
    writer alone, so where there is one even a single answer is rewritten. `analysis`: the judge
    first compares the answers; if it fails at that, they have to do.
    """

    name = "fuse"
    refuses = frozenset({Feature.MANY, Feature.TOOLS})

    def __init__(
        self, judge: Model | None = None, *, samples: int = 1, analysis: bool = False
    ) -> None:
        if samples < 1:
            raise ValueError("samples: at least 1")
        self._judge = judge
        self._samples = samples
        self._analysis = analysis

    @property
    def settings(self) -> Mapping[str, Any]:
        """The judge's name, samples of each member, whether it analyses."""
        judge = self._judge.card.name if self._judge else None
        return {"judge": judge, "samples": self._samples, "analysis": self._analysis}

    def next(self, case: Case) -> Step | None:
        """The panel at once, then perhaps an analysis, then a writer over what it said."""
        panel = len(case.members) * self._samples
        if not case.asked:
            return self._panel(case)
        good = [i for i in case.good if i < panel]
        if len(good) < (2 if case.request.format is None else 1):
            return None
        analyses = self._analysis and len(good) > 1
        if analyses and len(case.asked) == panel:
            return self._analyse(case, good)
        tried = len(case.asked) - panel - analyses
        writers = self._writers(case, good)
        if tried >= len(writers):
            return None
        analysed = analyses and case.asked[panel].error is None
        return self._write(case, good, writers[tried], panel if analysed else None)

    def settle(self, case: Case) -> Verdict:
        """Nobody wrote, or everybody failed at it: the best answer of the panel."""
        panel = len(case.members) * self._samples
        best = max((i for i in case.good if i < panel), key=lambda i: (_quality(case, i), -i))
        if sum(i < panel for i in case.good) == 1:
            return Verdict(index=best, why=f"only {case.asked[best].model} answered")
        return Verdict(index=best, why=f"no writer, so {case.asked[best].model}'s answer stands")

    def _panel(self, case: Case) -> Step:
        models: tuple[Model, ...] = case.members
        for number in range(1, self._samples):
            models += tuple(Sample(member, number) for member in case.members)
        request = leaving_room(case.request, 3 if self._analysis else 2)
        plain = request if request.format is None else request.but(format=None)
        return Step(models=models, request=plain)

    def _analyse(self, case: Case, good: list[int]) -> Step:
        judge = self._judge or case.members[-1]
        brief = f"{MATERIAL}\n\n{self._answers(case, good)}\n\n{_ANALYSE}"
        format = _FORMAT if Feature.JSON_SCHEMA in judge.card.features else None
        request = leaving_room(aside(told(case.request, brief), format), 2)
        why = f"{judge.card.name} compared {len(good)}"
        return Step(models=(Aside(judge, _analysed),), request=request, why=why)

    def _write(self, case: Case, good: list[int], writer: Model, analysis: int | None) -> Step:
        parts = [MATERIAL, self._answers(case, good)]
        if analysis is not None:
            parts.append(f"A comparison of them:\n{case.answers[analysis].text}")
        shares = weights(good, {i: _quality(case, i) for i in good})
        return Step(
            models=(writer,),
            request=told(case.request, "\n\n".join([*parts, _WRITE])),
            final=True,
            why=f"{writer.card.name} wrote the answer from {len(good)}",
            shares=tuple(_PANEL * shares.get(i, 0.0) for i in range(len(case.asked))),
        )

    def _answers(self, case: Case, good: list[int]) -> str:
        texts = [case.answers[i].text for i in shuffled(good, case.request)]
        return laid_out(texts, case.request)

    def _writers(self, case: Case, good: list[int]) -> list[Model]:
        """The judge, then the best of those that answered."""
        judge = self._judge or case.members[-1]
        names = {case.asked[i].model: _quality(case, i) for i in good}
        names.pop(judge.card.name, None)
        best = max(names, key=lambda name: names[name], default=None)
        return [judge, *(m for m in case.members if m.card.name == best)]


def _quality(case: Case, i: int) -> float:
    estimate = case.estimates.get(case.asked[i].model)
    return estimate.quality if estimate else 0.0


def _analysed(reply: str) -> str:
    """The reply's JSON object, in one form, whatever stands around it."""
    found = reply[reply.find("{") : reply.rfind("}") + 1]
    try:
        analysis = msgspec.json.decode(found, type=Analysis)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError("gave no analysis") from error
    if analysis == Analysis():
        raise ValueError("gave an empty analysis")
    return msgspec.json.encode(analysis).decode()
