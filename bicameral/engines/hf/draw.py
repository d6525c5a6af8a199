"""From the scores of all tokens to one token: what a request may set, in transformers' order.

Scores are a row on the net's device, computed with in 32 bits. What decides is one number from a
generator of the run's own on the CPU, so a seed repeats an answer whatever else the chip does.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from bicameral.errors import RequestError
from bicameral.types import Request

_FLOOR = -9999.0  # the natural-log probability of what cannot come, as JSON has no infinity


class Wish(Struct, frozen=True, kw_only=True):
    """How to draw. `temperature` 0 takes the likeliest; `repeat` 1, `top_k` 0: not asked for."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repeat: float = 1.0
    frequency: float = 0.0
    presence: float = 0.0
    bias: Mapping[int, float] = {}
    seed: int | None = None
    rivals: int | None = None


def wish(request: Request, habits: Mapping[str, Any], vocabulary: int) -> Wish:
    """What `request` asks for; where it is silent, the model's generation_config.json counts.

    RequestError if it biases a token that the vocabulary of that size does not have.
    """
    s, extra = request.sampling, request.extra
    bias = {int(token): float(value) for token, value in (s.logit_bias or {}).items()}
    if bias and max(bias) >= vocabulary:
        raise RequestError(
            f"logit_bias: there is no token {max(bias)}; the model has {vocabulary}",
            param="logit_bias",
            code="invalid_value",
        )
    warm = _number(habits, "temperature", 1.0) if habits.get("do_sample") else 0.0
    return Wish(
        temperature=warm if s.temperature is None else s.temperature,
        top_k=int(extra.get("top_k", _number(habits, "top_k", 0))),
        top_p=_number(habits, "top_p", 1.0) if s.top_p is None else s.top_p,
        min_p=extra.get("min_p", _number(habits, "min_p", 0.0)),
        repeat=extra.get("repeat_penalty", _number(habits, "repetition_penalty", 1.0)),
        frequency=s.frequency_penalty or 0.0,
        presence=s.presence_penalty or 0.0,
        bias=bias,
        seed=s.seed,
        rivals=(s.top_logprobs or 0) if s.logprobs else None,
    )


def _number(habits: Mapping[str, Any], key: str, default: float) -> float:
    found = habits.get(key)
    return found if isinstance(found, int | float) else default


class Draw:
    """Draws the tokens of one answer after the tokens `prompt`."""

    def __init__(self, torch: Any, wished: Wish, prompt: Sequence[int]) -> None:
        self._torch = torch
        self._wish = wished
        self._prompt = set(prompt)
        self._said: Counter[int] = Counter()
        self._chance = torch.Generator()
        if wished.seed is None:
            self._chance.seed()
        else:
            self._chance.manual_seed(wished.seed % 2**63)

    def __call__(self, scores: Any) -> int:
        """The next token, given the score of each; ArithmeticError if they are no numbers."""
        scores = self._penalised(scores.float().clone())
        if math.isnan(float(scores.max())):
            raise ArithmeticError("the net's scores are no numbers; try another dtype")
        wished = self._wish
        if wished.temperature == 0:
            token = int(scores.argmax())
        else:
            token = self._drawn(scores / wished.temperature)
        self._said[token] += 1
        return token

    def _penalised(self, scores: Any) -> Any:
        """Repetition counts the prompt (Keskar et al. 2019, as transformers), the others do not."""
        wished, said = self._wish, self._said
        if wished.repeat != 1 and (seen := self._prompt | said.keys()):
            at = self._tensor(sorted(seen), scores, whole=True)
            old = scores[at]
            scores[at] = self._torch.where(old < 0, old * wished.repeat, old / wished.repeat)
        added = dict(wished.bias)
        if wished.frequency or wished.presence:
            for token, count in said.items():
                less = wished.frequency * count + wished.presence
                added[token] = added.get(token, 0.0) - less
        if added:
            at = self._tensor(list(added), scores, whole=True)
            scores[at] += self._tensor(list(added.values()), scores)
        return scores

    def _tensor(self, values: Sequence[float], like: Any, *, whole: bool = False) -> Any:
        dtype = self._torch.long if whole else like.dtype
        return self._torch.tensor(values, dtype=dtype, device=like.device)

    def _drawn(self, scores: Any) -> int:
        """Cut off the unlikely, then draw among the rest by their probabilities."""
        wished = self._wish
        scores, tokens = scores.sort(descending=True)
        if 0 < wished.top_k < len(scores):
            scores = scores[: wished.top_k]
        p = scores.softmax(-1)
        kept = p >= wished.min_p * p[0]
        if wished.top_p < 1:
            kept &= p.cumsum(-1) - p < wished.top_p
        kept[0] = True
        heap = (p * kept).cumsum(-1)
        mark = self._torch.rand(1, generator=self._chance).to(heap.device) * heap[-1]
        at = int(self._torch.searchsorted(heap, mark, right=True))
        return int(tokens[min(at, int(kept.sum()) - 1)])


def told(scores: Any, token: int, rivals: int) -> tuple[float, list[tuple[int, float]]]:
    """The natural-log probability of `token` and of the likeliest `rivals`, before any wish."""
    logs = scores.float().log_softmax(-1)
    best = logs.topk(min(rivals, len(logs)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return _finite(float(logs[token])), [(rival, _finite(log)) for rival, log in pairs]


def _finite(log: float) -> float:
    return log if math.isfinite(log) else _FLOOR
