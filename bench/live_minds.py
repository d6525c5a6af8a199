"""Minds over the members, learned from the fit questions alone, on the test questions.

Replayed: the real policies over recorded answers. Live: the same minds over the open members, to
show that the replay tells the truth, and those whose answers no recording holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from live_members import choir, members
from live_report import Line

from bicameral import Brain
from bicameral.evals.replay import replay
from bicameral.left.fuse import Fuse
from bicameral.left.learn import learn
from bicameral.left.learned import Learned
from bicameral.left.mind import Mind
from bicameral.left.outcomes import Outcomes
from bicameral.left.policy import Policy
from bicameral.left.select import Select
from bicameral.left.tokens import Tokens
from bicameral.left.vote import Vote
from bicameral.left.worth import Worth
from bicameral.model import Model

_RIGHT = 10**9
# Seconds of waiting that a right answer is worth; None: all there are.
WORTHS = (None, 100, 30, 10)
_LEARNED = ("route", "cascade", "vote", "auto")


def split(outcomes: Outcomes, name: str) -> Outcomes:
    """The questions of one split."""
    return outcomes.rows([i for i, found in enumerate(outcomes.splits) if found == name])


def taught(outcomes: Outcomes) -> Learned:
    """What the fit questions teach."""
    return learn(split(outcomes, "fit"))


def replayed(learned: Learned, test: Outcomes) -> Iterator[Line]:
    """A line for each policy that recorded answers can stand for."""
    estimator = learned.estimator()
    for name, policy in _policies(learned).items():
        run = replay(test, policy, estimator)
        yield Line(name, run.quality, run.seconds)
    for name, policy in _gathering(learned).items():
        run = replay(test, policy, estimator)
        yield Line(name, run.quality, test.seconds.sum(1))  # on one core they wait for one another


def minds(brain: Brain, learned: Learned) -> Mapping[str, Model]:
    """Minds over the open members, by the names that their replay has."""
    open_: Sequence[Model] = [brain.model(name) for name in members()]
    policies = {**_policies(learned), **_gathering(learned), "fuse": Fuse()}
    found: dict[str, Model] = {
        name: Mind(name, policy, open_, estimator=learned.estimator())
        for name, policy in policies.items()
    }
    voices = {brain.model(name): weight for name, (_, weight) in choir().items()}
    return found | {"tokens": Tokens("tokens", list(voices), weights=list(voices.values()))}


def _policies(learned: Learned) -> dict[str, Policy]:
    """Those that ask one member at a time, for every worth of a right answer."""
    return {
        name if seconds is None else f"{name}, right is worth {seconds} s": learned.policy(
            name, _worth(seconds)
        )
        for name in _LEARNED
        for seconds in WORTHS
    }


def _gathering(learned: Learned) -> dict[str, Policy]:
    """Those that ask all members at once."""
    return {"select": Select(posthoc=learned.posthoc), "vote, nothing learned": Vote()}


def _worth(seconds: int | None) -> Worth:
    return Worth(worth=_RIGHT, second=0 if seconds is None else _RIGHT // seconds)
