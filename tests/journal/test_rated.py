"""Which member a rating is about: all that said the answer, and nobody where many wrote it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from msgspec.structs import replace

from bicameral.decision import Asked, Decision
from bicameral.errors import ConfigError
from bicameral.journal.rated import outcomes
from bicameral.journal.store import Entry


def rated(*decisions: Decision, score: float = 1.0, **fields) -> Entry:
    return Entry(id="req_1", at=1.0, score=score, decisions=decisions, **fields)


def decision(mind: str, *asked: Asked) -> Decision:
    by = next(a.model for a in asked if a.share)
    return Decision(id="req_1", mind=mind, policy="p", asked=asked, by=by)


def scores(*entries: Entry) -> dict[str, float]:
    table = outcomes(entries)
    return dict(zip(table.models, table.score[0].tolist(), strict=True))


def test_one_that_streamed_speaks_for_itself() -> None:
    asked = (Asked(model="a", key="k"), Asked(model="b", share=1.0, cost=5, seconds=0.5, tokens=7))
    table = outcomes([rated(decision("m", *asked), score=0.25, prompt="why?")])
    assert (table.models, table.prompts, table.ids) == (("b",), ("why?",), ("req_1",))
    assert table.score.tolist() == [[0.25]]
    assert (table.cost[0, 0], table.seconds[0, 0], table.tokens_out[0, 0]) == (5e-9, 0.5, 7)
    assert math.isnan(table.confidence[0, 0])


def test_all_that_said_it_were_as_right_and_the_others_nobody_knows() -> None:
    voted = decision(
        "m",
        Asked(model="a", key="x", share=0.6, confidence=0.5),
        Asked(model="b", key="y"),
        Asked(model="c", key="x", share=0.4, checked=True),
        Asked(model="d", error="Broken"),
    )
    table = outcomes([rated(voted)])
    assert table.models == ("a", "c")
    assert table.answer.tolist() == [["x", "x"]]
    assert np.nan_to_num(table.confidence, nan=-1).tolist() == [[0.5, -1]]
    assert np.nan_to_num(table.checked, nan=-1).tolist() == [[-1, 1]]
    picked = decision("m", Asked(model="a", key="x", share=1.0), Asked(model="b", key="x"))
    assert scores(rated(picked)) == {"a": 1.0, "b": 1.0}


def test_what_several_wrote_is_nobodys() -> None:
    fused = decision("m", Asked(model="a", key="x", share=0.5), Asked(model="b", share=0.5))
    blind = decision("m", Asked(model="a", share=0.5), Asked(model="b", share=0.5))
    for one in (fused, blind):
        with pytest.raises(ConfigError, match="no rating of an answer that one member gave"):
            outcomes([rated(one)])


def test_a_mind_inside_and_its_member_both_gave_it() -> None:
    outer = decision("m", Asked(model="in", key="x", share=1.0), Asked(model="other", key="y"))
    inner = decision("in", Asked(model="a", share=1.0))
    unheard = decision("other", Asked(model="b", share=1.0))
    assert scores(rated(outer, inner, unheard)) == {"in": 1.0, "a": 1.0}


def test_members_of_different_answers_share_a_table() -> None:
    first = rated(decision("m", Asked(model="a", share=1.0)), score=0.0)
    second = rated(decision("m", Asked(model="b", share=1.0)))
    table = outcomes([first, replace(second, id="req_2")])
    assert table.prompts == table.ids == ("req_1", "req_2")  # no question was kept
    assert np.nan_to_num(table.score, nan=-1).tolist() == [[0, -1], [-1, 1]]


def test_nothing_rated_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="bicameral feedback"):
        outcomes([])
