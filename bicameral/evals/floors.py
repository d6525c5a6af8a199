"""Which minds of a study may be promised not to fall behind the best member, and what they lack."""

from __future__ import annotations

from msgspec import Struct

from bicameral.evals.baselines import single
from bicameral.evals.replay import Floats
from bicameral.evals.study import Study
from bicameral.left.floor import Promise, promise


class Floor(Struct, frozen=True, kw_only=True):
    """What holds for `mind` beside `member`, the one that it is hardest to promise against."""

    mind: str
    member: str
    loss: float
    """How much worse the mind is on average; below 0: it is better."""
    promise: Promise


def floors(done: Study, *, eps: float, sure: float) -> list[Floor]:
    """For each mind, whether it is on average at most `eps` worse than whichever member is best.

    It must be so against every member, each tested by itself (Berger 1982): who is best need not be
    known. All that is promised of the study's minds holds together with confidence `sure`
    (Bonferroni), as far as outcomes to come are like these. Each prompt was answered by a mind that
    had not seen it; minds of different folds share most of what they learned from, which the test
    takes no account of. Raises ValueError if `eps` or `sure` is not between 0 and 1.
    """
    delta = (1 - sure) / max(1, len(done.minds))
    members = {name: single(done.outcomes, name).quality for name in done.outcomes.models}
    return [_floor(done, mind, members, eps, delta) for mind in done.minds]


def told(floor: Floor, sure: float) -> str:
    """A floor in words."""
    held = floor.promise
    most = f"at most {100 * held.eps:g} points worse than the best member"
    most += f", at {100 * sure:g} % confidence"
    if held.plan is not None:
        return f"{floor.mind}: is {most} from {held.outcomes:,} prompts."
    if held.more is None:
        lacks = f"it is {100 * floor.loss:.1f} points worse than {floor.member}"
    else:
        lacks = f"beside {floor.member} it takes about {held.more:,} more prompts"
    return f"{floor.mind}: not promised to be {most}; {lacks}."


def _floor(done: Study, mind: str, members: dict[str, Floats], eps: float, delta: float) -> Floor:
    quality = done.runs[mind].quality
    found = []
    for name, theirs in members.items():
        losses = (theirs - quality).tolist()
        held = promise([losses], eps=eps, delta=delta)
        found.append(
            Floor(mind=mind, member=name, loss=float((theirs - quality).mean()), promise=held)
        )
    return max(found, key=_lack)


def _lack(floor: Floor) -> tuple[bool, bool, float]:
    """What stands in the way of a promise most: losing too much, then too few prompts."""
    held = floor.promise
    lost = held.plan is None and held.more is None
    return lost, held.plan is None, floor.loss if lost else float(held.more or held.tested[0])
