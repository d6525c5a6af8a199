"""What was learned from outcomes, as one file, and the policies and estimates it makes."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bicameral.errors import ConfigError
from bicameral.left.ahead import Ahead
from bicameral.left.auto import Auto
from bicameral.left.ballot import Ballot, Heard
from bicameral.left.cascade import Cascade
from bicameral.left.policy import Case, Estimate, Policy
from bicameral.left.route import Route
from bicameral.left.score import usual_cost
from bicameral.left.scores import Scores
from bicameral.left.tally import Weights
from bicameral.left.vote import Vote
from bicameral.left.worth import Worth
from bicameral.types import Card, Request

Floats = NDArray[np.float64]

_FORMAT = 1
_NANO = 1e9


class Arm(Struct, frozen=True, kw_only=True):
    """A panel of members that vote, and what it reached on prompts it was not fitted on.

    `gain` is its quality less that of the best single member, `low` and `high` the bounds of its
    95 % interval. `cost` is dollars a prompt, `seconds` if they ask one another in turn.
    `admitted`: it beats, beyond doubt, every member that costs no more.
    """

    name: str
    order: tuple[str, ...]
    bars: tuple[float, ...]
    quality: float
    cost: float | None
    seconds: float | None
    calls: float
    gain: float
    low: float
    high: float
    admitted: bool


class Member(Struct, frozen=True, kw_only=True):
    """A member in the outcomes: its mean score, cost (dollars) and seconds."""

    name: str
    quality: float
    cost: float | None
    seconds: float | None
    outcomes: int


@dataclass(frozen=True)
class Learned:
    """Scores of members and arms, the ballot and its weights, the arms.

    `tells` is how far an answer shows, once it is there, whether it is right: the share of the
    variance of being right that the ballot explains from one answer. `ahead` tells what the
    answers so far mean for the members left. `lean` is how far `auto` should follow the estimates
    for a single prompt rather than the means over all, 0 to 1.
    """

    scores: Scores
    ballot: Ballot
    weights: Weights
    members: tuple[Member, ...]
    arms: tuple[Arm, ...]
    tells: float
    ahead: Ahead
    lean: float
    prompts: int

    def policy(self, name: str, worth: Worth | None = None) -> Policy:
        """The policy called `name` with what was learned; ConfigError if it learns nothing."""
        worth = worth or Worth()
        match name:
            case "route":
                return Route(worth)
            case "cascade":
                return Cascade(worth=worth, **self.cascade)
            case "vote":
                return self.vote(worth)
            case "auto":
                return self.auto(worth)
        raise ConfigError(f"'{name}' learns nothing: use route, cascade, vote or auto")

    @property
    def cascade(self) -> dict[str, Any]:
        """What a Cascade takes of it."""
        return {"posthoc": self.posthoc, "ahead": self.left, "tells": self.tells}

    def vote(self, worth: Worth, at_once: int | None = None) -> Vote:
        """The panel that `worth` prefers on the whole; all members where no panel was found."""
        arm = self._preferred(worth)
        return self._panel(arm, at_once) if arm else Vote(self.ballot, at_once=at_once)

    def auto(self, worth: Worth) -> Auto:
        """Auto over the members and the arms that were admitted."""
        arms = [arm for arm in self.arms if arm.admitted]
        means = {m.name: m.quality for m in self.members} | {a.name: a.quality for a in arms}
        panels = {arm.name: (self._panel(arm), frozenset(arm.order)) for arm in arms}
        return Auto(panels, worth, means, self.lean)

    def posthoc(self, case: Case) -> Sequence[float]:
        """The probability that each answer of the case is right."""
        return self.ballot.posterior(case).of

    def left(self, case: Case) -> Mapping[str, float]:
        """How likely each member not asked yet is right where the leader is wrong."""
        return self.ahead(self.ballot, case)

    def estimator(self, declared: Mapping[str, float] | None = None) -> Learnt:
        """Estimates from these scores; `declared` qualities for members without outcomes."""
        return Learnt(self, declared or {})

    def _panel(self, arm: Arm, at_once: int | None = None) -> Vote:
        return Vote(self.ballot, arm.order, arm.bars, at_once or 1)

    def _preferred(self, worth: Worth) -> Arm | None:
        """The arm that `worth` prefers on the whole."""
        if not self.arms:
            return None
        means = {
            arm.name: Estimate(quality=arm.quality, cost=_nano(arm.cost), seconds=arm.seconds)
            for arm in self.arms
        }
        name = worth.pick(means).name
        return next(arm for arm in self.arms if arm.name == name)

    @cached_property
    def digest(self) -> str:
        """Names this state: 12 hex digits over all its numbers."""
        total = sha256()
        for key, value in sorted(self._packed().items()):
            total.update(key.encode())
            array = isinstance(value, np.ndarray)
            total.update(value.tobytes() if array else json.dumps(value).encode())
        return total.hexdigest()[:12]

    def _packed(self) -> dict[str, Any]:
        parts = {f"scores.{k}": v for k, v in self.scores.pack().items()}
        parts |= {f"weights.{k}": v for k, v in self.weights.pack().items()}
        heard = {name: vars(h) for name, h in self.ballot.heard.items()}
        ballot: dict[str, Any] = {
            "heard": heard,
            "none": self.ballot.none,
            "agree": self.ballot.agree,
        }
        ballot["exclusive"] = self.ballot.exclusive
        return parts | {
            "ballot": ballot,
            "members": msgspec.to_builtins(self.members),
            "arms": msgspec.to_builtins(self.arms),
            "tells": self.tells,
            "ahead": list(self.ahead.weights),
            "lean": self.lean,
            "prompts": self.prompts,
            "format": _FORMAT,
        }

    def save(self, path: str | Path) -> None:
        """Write the file: arrays and JSON in an npz archive, nothing that runs when it is read."""
        packed = self._packed()
        arrays: dict[str, Any] = {k: v for k, v in packed.items() if isinstance(v, np.ndarray)}
        plain = {k: v for k, v in packed.items() if k not in arrays}
        path = Path(path)
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            np.savez_compressed(file, json=np.array(json.dumps(plain)), **arrays)
        part.replace(path)

    @classmethod
    def load(cls, path: str | Path) -> Learned:
        """Read a file that `save` wrote; ConfigError if it is not one."""
        try:
            with Path(path).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                parts: dict[str, Any] = {k: file[k] for k in file.files}
            parts |= json.loads(str(parts.pop("json")))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise ConfigError(
                f"{path}: is no file that `bicameral learn` wrote ({error})"
            ) from error
        if parts.pop("format") != _FORMAT:
            raise ConfigError(f"{path}: was written by another version; run `bicameral learn`")
        ballot = parts["ballot"]
        heard = {name: Heard(**signs) for name, signs in ballot["heard"].items()}
        return cls(
            scores=Scores.unpack(_under("scores.", parts)),
            ballot=Ballot(
                heard,
                tuple(ballot["none"]),
                tuple(map(tuple, ballot["agree"])),
                ballot["exclusive"],
            ),
            weights=Weights.unpack(_under("weights.", parts)),
            members=msgspec.convert(parts["members"], tuple[Member, ...]),
            arms=msgspec.convert(parts["arms"], tuple[Arm, ...]),
            tells=parts["tells"],
            ahead=msgspec.convert({"weights": parts["ahead"]}, Ahead),
            lean=parts["lean"],
            prompts=parts["prompts"],
        )


class Learnt:
    """The Estimator of learned scores. Arms are estimated too, under their own names.

    A member without outcomes has its declared quality, or 0.5, and the price of a usual answer.
    """

    def __init__(self, learned: Learned, declared: Mapping[str, float]) -> None:
        self.digest = learned.digest
        self._scores = learned.scores
        self._weights = learned.weights
        self._declared = declared
        self._place = {name: i for i, name in enumerate(learned.scores.models)}
        self._voters = [self._place[name] for name in learned.weights.members]
        self._arms = [arm.name for arm in learned.arms if arm.admitted]

    def estimate(self, request: Request, cards: Sequence[Card]) -> Mapping[str, Estimate]:
        """By name: what is expected of each member on the request's last question."""
        guess = self._scores(request.question)
        quality = guess.quality[self._voters][None, :]
        votes = self._weights(quality, guess.topics[None, :])[0]
        weights = dict(zip(self._weights.members, votes.tolist(), strict=True))
        known: dict[str, Estimate] = {}
        for name in (*(card.name for card in cards), *self._arms):
            i = self._place.get(name)
            if i is not None:
                known[name] = Estimate(
                    quality=float(guess.quality[i]),
                    cost=_nano(float(guess.cost[i])),
                    seconds=_known(float(guess.seconds[i])),
                    weight=weights.get(name),
                    known=guess.known,
                )
        return known | {card.name: self._new(request, card, known) for card in cards}

    def _new(self, request: Request, card: Card, known: Mapping[str, Estimate]) -> Estimate:
        """A member's estimate, priced by its card where no cost was recorded."""
        estimate = known.get(card.name)
        if estimate is None:
            quality = self._declared.get(card.name, 0.5)
            return Estimate(quality=quality, cost=usual_cost(card, request))
        if estimate.cost is None and card.price is not None:
            return msgspec.structs.replace(estimate, cost=usual_cost(card, request))
        return estimate


def _under(prefix: str, parts: Mapping[str, Any]) -> dict[str, Any]:
    return {k[len(prefix) :]: v for k, v in parts.items() if k.startswith(prefix)}


def _nano(dollars: float | None) -> int | None:
    return None if dollars is None or np.isnan(dollars) else round(dollars * _NANO)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
