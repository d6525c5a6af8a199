"""Drawing a token, held against transformers' own processors and against the probabilities."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from bicameral.engines.hf.draw import Draw, Wish, told, wish
from bicameral.errors import RequestError
from bicameral.types import Request, Sampling

torch = pytest.importorskip("torch", reason="needs `make torch`: see the Makefile")
transformers = pytest.importorskip("transformers", reason="needs `make torch`: see the Makefile")


SCORES = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -3.0])


def shares(wished: Wish, *, prompt: tuple[int, ...] = (), draws: int = 2000) -> list[float]:
    """How often each token is drawn as the first of an answer."""
    counts: Counter[int] = Counter()
    for seed in range(draws):
        counts[Draw(torch, replaced(wished, seed=seed), prompt)(SCORES)] += 1
    return [counts[token] / draws for token in range(len(SCORES))]


def replaced(wished: Wish, **fields: Any) -> Wish:
    return Wish(**{**{key: getattr(wished, key) for key in wished.__struct_fields__}, **fields})


P = transformers
CASES = {
    "temperature": (Wish(temperature=0.7), [P.TemperatureLogitsWarper(0.7)]),
    "top_k": (Wish(temperature=1.0, top_k=2), [P.TopKLogitsWarper(2)]),
    "top_p": (Wish(temperature=1.0, top_p=0.8), [P.TopPLogitsWarper(0.8)]),
    "min_p": (Wish(temperature=1.0, min_p=0.2), [P.MinPLogitsWarper(0.2)]),
    "repeat": (
        Wish(temperature=1.0, repeat=1.6),
        [P.RepetitionPenaltyLogitsProcessor(1.6)],
    ),
    "all": (
        Wish(temperature=1.4, top_k=4, top_p=0.9, min_p=0.1, repeat=1.2),
        [
            P.RepetitionPenaltyLogitsProcessor(1.2),
            P.TemperatureLogitsWarper(1.4),
            P.TopKLogitsWarper(4),
            P.TopPLogitsWarper(0.9),
            P.MinPLogitsWarper(0.1),
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_tokens_come_as_often_as_transformers_says(case: str) -> None:
    wished, processors = CASES[case]
    prompt = torch.tensor([[0, 4]])
    scores = SCORES[None]
    for processor in processors:
        scores = processor(prompt, scores)
    wanted = scores.softmax(-1)[0].tolist()
    found = shares(wished, prompt=(0, 4))
    for share, p in zip(found, wanted, strict=True):
        assert p or not share
        assert share == pytest.approx(p, abs=4 * (p * (1 - p) / 2000) ** 0.5 + 1e-9)


def test_top_p_of_nothing_leaves_the_likeliest() -> None:
    assert shares(Wish(temperature=1.0, top_p=0.0), draws=50)[0] == 1


def test_penalties_and_bias_add_up() -> None:
    wished = Wish(frequency=0.4, presence=0.2, bias={1: 0.5})
    draw = Draw(torch, wished, prompt=(0,))
    # 0 at 2.0, then 1.4 below 1.5 of 1, then 1 falls to 0.9 and 0 is on top again, ...
    assert [draw(SCORES) for _ in range(4)] == [0, 1, 0, 0]


def test_the_scores_themselves_stay_as_they_are() -> None:
    before = SCORES.clone()
    Draw(torch, Wish(temperature=1.0, repeat=2.0, bias={0: -100.0}), (0, 1))(SCORES)
    assert torch.equal(before, SCORES)


def test_what_is_told_comes_before_any_wish() -> None:
    log, rivals = told(SCORES, 3, 2)
    wanted = SCORES.log_softmax(-1)
    assert log == pytest.approx(float(wanted[3]))
    assert rivals == [(0, pytest.approx(float(wanted[0]))), (1, pytest.approx(float(wanted[1])))]
    impossible = torch.tensor([0.0, float("-inf")])
    assert told(impossible, 1, 0) == (-9999.0, [])


@pytest.mark.parametrize(
    ("sampling", "habits", "temperature"),
    [
        (Sampling(), {}, 0.0),
        (Sampling(), {"temperature": 0.6}, 0.0),
        (Sampling(), {"do_sample": True}, 1.0),
        (Sampling(), {"do_sample": True, "temperature": 0.6}, 0.6),
        (Sampling(temperature=0), {"do_sample": True, "temperature": 0.6}, 0.0),
        (Sampling(temperature=0.3), {}, 0.3),
    ],
)
def test_the_request_goes_before_the_habits(
    sampling: Sampling, habits: dict[str, Any], temperature: float
) -> None:
    assert wish(Request.ask("x", sampling=sampling), habits, 10).temperature == temperature


def test_a_token_that_is_none_is_refused() -> None:
    request = Request.ask("x", sampling=Sampling(logit_bias={"9": 1.0, "10": 1.0}))
    with pytest.raises(RequestError, match="no token 10") as caught:
        wish(request, {}, 10)
    assert caught.value.param == "logit_bias"
