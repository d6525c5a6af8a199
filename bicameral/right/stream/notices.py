"""What a watch tells while it runs: JSON lines, server-sent events and the terminal show these.

Times named `at`, `start` and `end` are seconds of the source's own clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from bicameral.right.stream.edge import EdgeCount

Kind = Literal["video", "pictures", "sound", "events"]
Trouble = Literal[
    "stalled", "lost", "missing", "backwards", "frozen", "black", "changed", "unreadable"
]
Reason = Literal["quiet", "settling", "ongoing", "cooldown", "budget"]
Phase = Literal["start", "update", "digest"]


class Opened(Struct, frozen=True, kw_only=True, tag_field="event", tag="opened"):
    """The source gave its first frame."""

    source: str
    kind: Kind
    gate: str
    live: bool


class Gap(Struct, frozen=True, kw_only=True, tag_field="event", tag="gap"):
    """What the source did not show, or showed wrongly. `end` None: it goes on.

    `count` is how often it came since it was told last.
    """

    trouble: Trouble
    start: float
    end: float | None = None
    detail: str = ""
    count: int = 1


class Suppressed(Struct, frozen=True, kw_only=True, tag_field="event", tag="suppressed"):
    """Frames between `start` and `end` that were scored and woke nobody, for one reason."""

    reason: Reason
    start: float
    end: float
    frames: int
    peak: float
    peak_at: float


class Digest(Struct, frozen=True, kw_only=True, tag_field="event", tag="digest"):
    """A storm: that many events began between `start` and `end` and were not asked about singly."""

    start: float
    end: float
    events: int
    peak: float
    peak_at: float


class Woke(Struct, frozen=True, kw_only=True, tag_field="event", tag="wake"):
    """Reasoning is to be asked about event `id`; of a digest, about the height of a storm."""

    id: str
    phase: Phase
    at: float
    score: float


class Alarm(Struct, frozen=True, kw_only=True, tag_field="event", tag="alarm"):
    """Yes, it is true. `delay`: seconds from the frame's arrival here until this was known.

    `late`: it had to wait for the model longer than is fresh. `picture` is a data URL, `clip` a
    file, where they were asked for; `why` there is no clip though it was.
    """

    id: str
    phase: Phase
    at: float
    delay: float
    late: bool = False
    picture: str | None = None
    clip: str | None = None
    why: str = ""


class Described(Struct, frozen=True, kw_only=True, tag_field="event", tag="described"):
    """What was seen in event `id`, in the model's words; `why` it said nothing, if so."""

    id: str
    text: str
    why: str = ""


class Dismissed(Struct, frozen=True, kw_only=True, tag_field="event", tag="dismissed"):
    """No, it is not true; `unclear`: the model said neither yes nor no."""

    id: str
    phase: Phase
    at: float
    answer: Literal["no", "unclear"]
    delay: float
    late: bool = False


class Undescribed(Struct, frozen=True, kw_only=True, tag_field="event", tag="undescribed"):
    """Nobody could be asked about event `id`; `why` says what stood in the way."""

    id: str
    phase: Phase
    at: float
    why: str


class Ended(Struct, frozen=True, kw_only=True, tag_field="event", tag="ended"):
    """Event `id` is over; `peak` is the highest score in it, `asked` whether it ever woke."""

    id: str
    start: float
    end: float
    peak: float
    asked: bool


class Down(Struct, frozen=True, kw_only=True, tag_field="event", tag="down"):
    """The model does not answer (`up` false), or answers again; events wait for it meanwhile."""

    up: bool
    waiting: int
    why: str = ""


class Stats(Struct, frozen=True, kw_only=True, tag_field="event", tag="stats"):
    """The account at the end.

    `frames` = `woken` + the sum of `suppressed` + the sum of `dropped`, and `woken` = `yes` + `no`
    + `unclear` + `undescribed`. `late` counts those of them that came late. `calls` is
    how often the model was asked, details and repeats included.
    """

    frames: int
    woken: int
    suppressed: Mapping[str, int]
    dropped: Mapping[str, int]
    gaps: Mapping[str, int]
    calls: int
    yes: int
    no: int
    unclear: int
    undescribed: int
    late: int
    seconds: float
    edges: Mapping[str, EdgeCount]


Notice = (
    Opened
    | Gap
    | Suppressed
    | Digest
    | Woke
    | Alarm
    | Described
    | Dismissed
    | Undescribed
    | Ended
    | Down
    | Stats
)
