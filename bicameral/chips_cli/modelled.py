"""What a forecast says of chips that are not here, beside a bake-off, and its band."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from bicameral.chips.bakeoff import Modelled, Workload
from bicameral.chips.catalogue import shipped
from bicameral.chips.forecast import Forecast, Spread, forecast
from bicameral.chips.network import Network, of_config
from bicameral.chips.roofline import Layout, Load, Precision
from bicameral.errors import ConfigError


def modelled(workload: Workload) -> Iterator[str]:
    """The table, a row for each [[modelled]]; one that cannot be forecast says why."""
    if not workload.modelled:
        return
    columns = ("model", "setting", "s a token", "first token s", "tokens/s")
    yield f"| *modelled*, nobody measured it | {' | '.join(columns)} |"
    yield "|---" * 6 + "|"
    for each in workload.modelled:
        told = f"{each.weights}, {each.tensor} chips, {each.at_once:g} at once"
        try:
            found = _forecast(each, workload)
        except ConfigError as error:
            why = " ".join(str(error).replace("|", "/").split())
            yield f"| {each.chip} | {each.config} | {told} | no forecast: {why} | | |"
            continue
        spreads = (found.token, found.first, found.throughput)
        bands = " | ".join(map(_band, spreads))
        yield f"| {each.chip} | {_named(each)} | {told} | {bands} |"


def _forecast(each: Modelled, workload: Workload) -> Forecast:
    """Of the workload's own mean prompt and longest answer."""
    load = workload.load
    whole = sum(prompt.share for prompt in load.prompts)
    read = sum(prompt.tokens * prompt.share for prompt in load.prompts) / whole
    return forecast(
        _network(each),
        shipped().chip(each.chip),
        Precision(weights=each.weights, experts=each.weights),
        Layout(tensor=each.tensor),
        Load(concurrency=each.at_once, read=read, written=load.max_tokens),
    )


def _network(each: Modelled) -> Network:
    try:
        table = json.loads(Path(each.config).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{each.config}: cannot be read as a config.json") from error
    if not isinstance(table, dict):
        raise ConfigError(f"{each.config}: is no config.json of a model")
    return of_config(_named(each), table)


def _named(each: Modelled) -> str:
    path = Path(each.config)
    return path.stem if path.stem != "config" else path.parent.name


def _band(spread: Spread) -> str:
    return f"{spread.value:.3g} [{spread.low:.3g}, {spread.high:.3g}]"
