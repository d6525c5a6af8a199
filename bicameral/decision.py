"""The record of a decision: whom a mind considered, asked and believed, and why.

It holds no text of the user's or of a model's: answers appear as keyed digests, so that equal
answers can be seen to be equal. Together with the learned file named by `learned` it is enough to
decide again (`bicameral.left.again`). Money is integer nano-dollars, time seconds, unknown is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct


class Considered(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was expected of a member before asking; `refused` says why it could not be asked.

    `weight` is what its vote counts for here, in log-odds. `known` is how much of `quality` rests
    on recorded outcomes of prompts like this one, 0 to 1; the rest is the member's base rate.
    `arm`: it is no member but a combination of some.
    """

    model: str
    arm: bool = False
    quality: float | None = None
    cost: int | None = None
    seconds: float | None = None
    weight: float | None = None
    known: float | None = None
    refused: str | None = None


class Turn(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step of the policy: whom it asked at once. `final`: that one's stream was the answer."""

    models: tuple[str, ...]
    final: bool = False
    why: str = ""


class Asked(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One member's answer, as evidence. `key` is equal for answers that say the same.

    `key` None: no answer could be read from it. `confidence` is how sure it sounded, 0 to 1;
    `error` names the kind of failure, never in a server's own words, which may quote the prompt;
    `checked` what a checker said; `cut`: the policy's own token limit ended it. `share` is its
    part in what the mind said, between 0 and 1; the shares of a decision sum to 1.
    """

    model: str
    key: str | None = None
    confidence: float | None = None
    tokens: int | None = None
    cut: bool = False
    checked: bool | None = None
    error: str | None = None
    cost: int | None = None
    seconds: float | None = None
    share: float = 0.0


class Decision(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one mind came to one answer. `settings` are the policy's own parameters.

    `quality` is the probability, as far as it was estimated, that what it said is right. `warm`
    is the member that answered the conversation before. `ended` says what cut it short: neither
    time nor money was left for the next step. `facts` are what the policy read of the
    request other than its text.
    """

    id: str
    mind: str
    policy: str
    settings: Mapping[str, Any] = {}
    facts: Mapping[str, Any] = {}
    learned: str = ""
    warm: str = ""
    considered: tuple[Considered, ...] = ()
    turns: tuple[Turn, ...] = ()
    ended: str = ""
    asked: tuple[Asked, ...] = ()
    by: str = ""
    why: str = ""
    quality: float | None = None
    cost: int | None = None
    seconds: float | None = None
