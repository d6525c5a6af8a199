"""A mind's table to its policy, its reader and its estimator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bicameral.config import CheckOptions, Config, MindOptions, nano
from bicameral.errors import ConfigError
from bicameral.left.auto import Auto
from bicameral.left.cascade import Cascade, sounding
from bicameral.left.check import Checker, Pattern, Schema
from bicameral.left.command import Command
from bicameral.left.evidence import Evidence
from bicameral.left.fuse import Fuse
from bicameral.left.policy import Estimator, Policy
from bicameral.left.route import Route
from bicameral.left.samples import Samples
from bicameral.left.score import Priors
from bicameral.left.select import Select
from bicameral.left.verify import Verify
from bicameral.left.vote import Vote
from bicameral.left.worth import Worth
from bicameral.model import Model

if TYPE_CHECKING:
    from bicameral.left.learned import Learned


def policy(config: Config, name: str, judge: Model | None, taught: Learned | None) -> Policy:
    """The policy of the mind `name`; ConfigError names its table."""
    options = config.minds[name]
    try:
        made = _choosing(options, taught) or _joining(options, judge, taught)
    except (ConfigError, ValueError) as error:
        raise ConfigError(f"{config.source}: [minds.{name}] {error}") from error
    if made is None:
        raise ConfigError(f"{config.source}: [minds.{name}] {options.policy} decides by the token")
    return made


def learned(config: Config, name: str) -> Learned | None:
    """What the mind's file says was learned, None if it names none.

    The path is meant from the folder that the config is in.
    """
    path = config.minds[name].learned
    if path is None:
        return None
    from bicameral.left.learned import Learned

    try:
        return Learned.load(Path(config.source).parent / path)
    except ConfigError as error:
        raise ConfigError(f"{config.source}: [minds.{name}] learned: {error}") from error


def estimator(config: Config, name: str, taught: Learned | None) -> Estimator:
    """What is expected of the members: as learned, else as their tables declare."""
    tables = {m: config.models[m] for m in config.minds[name].members if m in config.models}
    declared = {m: table["quality"] for m, table in tables.items() if "quality" in table}
    return taught.estimator(declared) if taught else Priors(declared)


def reader(options: MindOptions) -> Evidence:
    """How the mind reads answers."""
    return Evidence(options.answers, checker=_checker(options.check))


def _checker(check: CheckOptions | None) -> Checker | None:
    if check is None:
        return None
    if check.pattern is not None:
        return Pattern(check.pattern)
    return Schema() if check.json else Command(check.command, seconds=check.seconds)


def _choosing(options: MindOptions, taught: Learned | None) -> Policy | None:
    """Policies that weigh what an answer is worth."""
    worth = _worth(options)
    match options.policy:
        case "route":
            return Route(worth)
        case "cascade":
            threshold = 0.8 if options.threshold is None else options.threshold
            told = taught.cascade if taught else {}
            return Cascade(threshold, options.try_tokens, worth=worth, **told)
        case "vote":
            return taught.vote(worth, options.at_once) if taught else Vote(at_once=options.at_once)
        case "auto":
            return taught.auto(worth) if taught else Auto(worth=worth)
    return None


def _joining(options: MindOptions, judge: Model | None, taught: Learned | None) -> Policy | None:
    """Policies that ask somebody what to make of answers."""
    match options.policy:
        case "fuse":
            return Fuse(judge, samples=options.samples or 1, analysis=bool(options.analysis))
        case "select":
            return Select(judge, posthoc=taught.posthoc if taught else sounding)
        case "verify":
            return Verify(judge)
        case "samples":
            return Samples(options.samples or 5)
    return None


def _worth(options: MindOptions) -> Worth:
    def money(text: str | None) -> int | None:
        return None if text is None else nano(text)

    return Worth(
        worth=money(options.worth),
        second=money(options.second) or 0,
        least=options.least,
        most=money(options.most),
    )
