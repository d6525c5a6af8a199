"""`bicameral explain` and `bicameral feedback`: what was decided, and how good it was."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from bicameral import account, build, policies, terminal
from bicameral.brain import found_config, load_config
from bicameral.config import Config, JournalOptions, load
from bicameral.decision import Decision
from bicameral.errors import JournalError, NotFound, RequestError
from bicameral.journal.store import Entry, Failure, Store, home
from bicameral.left.again import again, differences

AnswerId = Annotated[
    str, typer.Argument(metavar="[ID]", help="The answer's or its request's id; else the last.")
]
ConfigPath = Annotated[
    Path | None, typer.Option("--config", "-c", help="The config file that names the journal.")
]


def explain(
    answer_id: AnswerId = "",
    json: Annotated[bool, typer.Option("--json", help="The record, one line of JSON.")] = False,
    replay: Annotated[
        bool, typer.Option("--replay", help="Decide again from the record; exit 1 if otherwise.")
    ] = False,
    config: ConfigPath = None,
) -> None:
    """Tell how an answer of a mind came about: who was considered, asked and believed, and why."""
    with journal(config) as store:
        entry = store.find(answer_id)
    if entry is None:
        raise NotFound(f"no answer of a mind is known by the id '{account.plain(answer_id)}'")
    if json:
        sys.stdout.write(msgspec.json.encode(entry).decode() + "\n")
    else:
        account.show(terminal.out, entry)
    if replay and not _replayed(entry, load_config(config)):
        sys.exit(1)


def feedback(
    answer_id: Annotated[str, typer.Argument(help="The answer's or its request's id.")],
    score: Annotated[float, typer.Argument(help="How good it was: 0 wrong … 1 right.")],
    config: ConfigPath = None,
) -> None:
    """Rate an answer of a mind; the last score counts, and `learn` learns from it."""
    if not 0 <= score <= 1:
        raise RequestError(f"{score:g} is no score: it lies between 0 and 1")
    with journal(config) as store:
        if not store.rate(answer_id, score, None):
            raise NotFound(f"no answer of a mind is known by the id '{account.plain(answer_id)}'")


@contextmanager
def journal(config: Path | None) -> Iterator[Store]:
    """The journal that the config names, if it was ever written."""
    path = home(_options(config))
    try:
        store = Store(path, create=False)
        try:
            yield store
        finally:
            store.close()
    except Failure as error:
        raise JournalError(f"the journal {path} cannot be used: {error}") from error


def _options(config: Path | None) -> JournalOptions:
    """Without a config file there may be no model either, and yet a journal."""
    path = found_config(config)
    return JournalOptions() if path is None else load(path).journal


def _replayed(entry: Entry, config: Config) -> bool:
    """Say of each decision whether the config's mind would take it again."""
    same = True
    for decision in entry.decisions:
        odd = list(_otherwise(decision, config))
        same = same and not odd
        told = "decided again: the same" if not odd else "decided again, it is different"
        terminal.err.print(f"{decision.mind}: {told}", markup=False)
        for line in odd:
            terminal.err.print(f"  {account.plain(line)}", markup=False)
    return same


def _otherwise(decision: Decision, config: Config) -> Iterator[str]:
    if decision.mind not in config.minds:
        yield f"{config.source} has no mind called '{decision.mind}'"
        return
    policy = build.policy(config, decision.mind)
    taught = policies.learned(config, decision.mind)
    if decision.learned != (taught.digest if taught else ""):
        yield f"{config.minds[decision.mind].learned} has been learned anew since"
    now = again(decision, policy)
    if _plain(now.settings) != _plain(decision.settings) or policy.name != decision.policy:
        yield (
            f"it was decided by {decision.policy} with {_plain(decision.settings)}, "
            f"the config has {policy.name} with {_plain(now.settings)}"
        )
    yield from differences(decision, now)


def _plain(settings: object) -> str:
    return msgspec.json.encode(settings, order="sorted").decode()
