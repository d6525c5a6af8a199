"""Results that others published, to stand beside ours and never among them.

Read from a folder that holds any of `mlperf_v5.1_llm.csv` (MLPerf's results, one row each),
`gpustack_perf_lab.csv` (GPUStack's performance lab) and `aic_silicon_sample.csv.gz` (the silicon
sample of aiconfigurator, part of it from InferenceX). What is known to be wrong in them is left out
and counted. No number here was verified by us.
"""

from __future__ import annotations

import csv
import gzip
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct

from bicameral.errors import ConfigError

FOLDER = "BICAMERAL_DATA"
"""The environment variable that names the folder, or the one above it."""

Class = Literal["measured", "published", "modelled"]
_Row = Mapping[str, str]


class Claim(Struct, frozen=True, kw_only=True):
    """One number that somebody else stands for: `value` in `unit`, for each `per`."""

    source: str
    chip: str
    model: str
    setting: str
    value: float
    unit: str
    per: str
    kind: Class = "published"


def folder(given: Path | None = None) -> Path:
    """Where the tables are; ConfigError if there are none."""
    named = os.environ.get(FOLDER)
    if given is None and not named:
        raise ConfigError(f"published results: name their folder, or set {FOLDER}")
    root = given or Path(named or "")
    for path in (root, root / "chips"):
        if any((path / name).is_file() for name in _READERS):
            return path
    raise ConfigError(f"{root}: holds none of {', '.join(_READERS)}")


def claims(path: Path) -> tuple[tuple[Claim, ...], Counter[str]]:
    """Every claim of the tables in the folder, and how many rows were left out for what reason."""
    found: list[Claim] = []
    left: Counter[str] = Counter()
    for name, read in _READERS.items():
        if (path / name).is_file():
            found += read(_table(path / name), left)
    return tuple(found), left


def matching(
    found: Iterable[Claim], models: Iterable[str] = (), chips: Iterable[str] = ()
) -> Iterator[Claim]:
    """The claims whose model holds one of `models` and whose chip one of `chips`; none: any."""
    wanted = [word.lower() for word in models], [word.lower() for word in chips]
    for claim in found:
        named = claim.model.lower(), claim.chip.lower()
        if all(
            not words or any(w in name for w in words)
            for words, name in zip(wanted, named, strict=True)
        ):
            yield claim


def _table(path: Path) -> list[_Row]:
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: cannot be read as a table ({error})") from error


def _number(row: _Row, key: str) -> float:
    try:
        return float(row[key])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"a published row has no number '{key}': {dict(row)!r:.200}") from error


def _mlperf(rows: Iterable[_Row], left: Counter[str]) -> Iterator[Claim]:
    """Per accelerator, or for a whole node of CPUs."""
    seen = set()
    for row in rows:
        key = (row["id"], row["model"].removesuffix(".9"), row["scenario"], row["accel"])
        if ")," in row["accel"]:
            left["MLPerf: two kinds of chip in one result"] += 1
        elif row["units"] == "Queries/s":
            left["MLPerf: queries, not tokens"] += 1
        elif key in seen:
            left["MLPerf: one run at two accuracies"] += 1
        else:
            seen.add(key)
            yield _result(row)


def _result(row: _Row) -> Claim:
    cards = float(row["n_accel"] or 1) * float(row["nodes"] or 1)
    node = not row["n_accel"]
    board = "B60 Dual" in row["accel"]
    formats = row["dtype"] if row["dtype"] not in ("", "UNSET") else "format not stated"
    return Claim(
        source=f"MLPerf Inference v5.1, {row['category']}, {row['id']}",
        chip=row["accel"] or row["system"],
        model=row["model"].removesuffix(".9"),
        setting=f"{row['scenario']}, {formats}",
        value=_number(row, "result") / cards,
        unit="tokens/s",  # Whisper's rows say samples, and are tokens
        per="node" if node else "board of two" if board else "accelerator",
    )


def _lab(rows: Iterable[_Row], left: Counter[str]) -> Iterator[Claim]:
    """Output tokens of the whole system."""
    seen = set()
    for row in rows:
        key = (row["file"], row["out_tps"], row["tpot"])
        if key in seen:
            left["GPUStack: printed twice"] += 1
        elif _wrong(row):
            left["GPUStack: copied from another page"] += 1
        else:
            seen.add(key)
            yield _served(row)


def _wrong(row: _Row) -> bool:
    page, command = row["file"], (row["serve"] or "").lower()
    if page.startswith("glm-4.5-air") and row["out_tps"] in ("20.02", "24.58"):
        return True
    if page == "qwen3-8b/910b.md" and _number(row, "tin") > 3e6 and "mindie" in command:
        return True
    sized = re.search(r"qwen3-(\d+b)", command)
    return bool(sized and not page.startswith(f"qwen3-{sized[1]}"))


def _served(row: _Row) -> Claim:
    asked = _number(row, "n") or 1.0
    lengths = f"{_number(row, 'tin') / asked:.0f} in, {_number(row, 'tout') / asked:.0f} out"
    engine = next((e for e in ("vllm", "sglang", "trtllm") if e in row["serve"].lower()), "mindie")
    return Claim(
        source=f"GPUStack performance lab, {row['file']}",
        chip=row["hardware"],
        model=row["file"].split("/")[0],
        setting=f"{engine}, {lengths}, {asked:.0f} requests",
        value=_number(row, "out_tps"),
        unit="output tokens/s",
        per="system",
    )


def _silicon(rows: Iterable[_Row], left: Counter[str]) -> Iterator[Claim]:
    """Milliseconds of a token after the first; what prefills elsewhere is left out."""
    seen = set()
    for row in rows:
        key = tuple(v for k, v in row.items() if k not in ("id", "silicon_data_source"))
        if key in seen:
            left["silicon sample: repeats another row"] += 1
        elif row["mode"] != "agg":
            left["silicon sample: prefill and decoding apart"] += 1
        else:
            seen.add(key)
            yield _token(row)


def _token(row: _Row) -> Claim:
    other = "db-dump" in row["silicon_data_source"]
    where = "InferenceX, in aiconfigurator's sample" if other else "aiconfigurator's sample"
    lengths = f"{row['isl']} in, {row['osl']} out"
    setting = f"{row['backend']}, {row['precision'] or 'format not stated'}, tp {row['tp_size']}"
    return Claim(
        source=f"{where}, {row['id']}",
        chip=row["system"],
        model=row["model_path"],
        setting=f"{setting}, batch {row['batch_size']}, {lengths}",
        value=_number(row, "silicon_tpot_ms"),
        unit="ms a token",
        per="replica",
    )


_READERS = {
    "mlperf_v5.1_llm.csv": _mlperf,
    "gpustack_perf_lab.csv": _lab,
    "aic_silicon_sample.csv.gz": _silicon,
}
