"""Minds of local members against their best member, on questions that nobody could have seen.

    python bench/live.py [--threads 1] [--live N] [--report]

Asks every member every question of reasoning-gym that has no answer yet: some hours of one core; it
can be stopped and goes on where it was. Then it learns from the fit questions, replays every
policy on the test questions and lets minds answer the first N of each kind live. Prints the tables
for docs/measurements.md; `--report` prints them of what is there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

import live_lived
import live_record
from live_lived import Lived
from live_minds import replayed, split, taught
from live_report import Line, best, bounds, by_kind, members, overall

from bicameral.left.outcomes import Outcomes

# The minds that live; what they ask differs, or no recording can stand for them.
LIVE = ("route", "cascade", "vote", "auto", "auto, right is worth 30 s", "select", "fuse", "tokens")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--live", type=int, default=10, metavar="N")
    parser.add_argument("--report", action="store_true")
    args = parser.parse_args()
    if not args.report:
        live_record.record(args.threads)
    outcomes = live_record.outcomes()
    learned, test = taught(outcomes), split(outcomes, "test")
    if args.live and not args.report:
        live_lived.live(learned, LIVE, args.live, args.threads)

    lines, minds = members(test), list(replayed(learned, test))
    print(f"Test: {len(test.ids)} questions; seconds are of one core\n")
    show(overall([*lines, *bounds(test), *minds], best(lines)))
    show(
        by_kind(
            [*lines, *(mind for mind in minds if mind.name in ("route", "auto"))], test.categories
        )
    )
    show_live(test, [*lines, *minds], live_lived.rows(learned))


def show_live(test: Outcomes, recorded: Sequence[Line], rows: Sequence[Lived]) -> None:
    """Replayed and live side by side, on the questions that were asked live."""
    lived = {row.prompt_id for row in rows}
    at = [i for i, id in enumerate(test.ids) if id in lived]
    if not at:
        return
    there = [Line(line.name, line.scores[at], line.seconds[at]) for line in recorded]
    live = live_lived.lines(rows, [test.ids[i] for i in at])
    single = best([line for line in there if line.name in test.models])
    print(f"Live: {len(at)} of the test questions\n")
    pairs = [line for line in there if line.name in live or line is single]
    show(overall([*pairs, *live.values()], single))


def show(lines: Iterator[str]) -> None:
    print(*lines, sep="\n", end="\n\n")


if __name__ == "__main__":
    main()
