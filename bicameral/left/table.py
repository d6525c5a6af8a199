"""Reads and writes tables of outcomes, and refuses what could not be learned from, by its row.

Rows are counted from 1 as the file has them, without a CSV's header. The columns are those of
`bicameral.left.outcomes`; others are passed over, unless they look like one of these misspelt.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bicameral.config import nearest
from bicameral.errors import ConfigError
from bicameral.left.outcomes import Outcomes

if TYPE_CHECKING:
    from types import ModuleType

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

NEEDED = ("prompt_id", "prompt", "model", "score")
_UNIT = ("score", "confidence", "checked")
_NUMBERS = (*_UNIT, "cost", "seconds", "tokens_in", "tokens_out")
# What belongs to the prompt, so that every row of the prompt must say the same.
_SHARED = {"prompt": "prompts", "gold": "gold", "category": "categories", "split": "splits"}
_TEXTS = ("prompt_id", "model", "answer", *_SHARED)
COLUMNS = (*NEEDED, *(c for c in (*_NUMBERS, *_TEXTS) if c not in NEEDED))
_FEWEST = 50
# More of the scores than this may not contradict the comparison of answer and gold.
_CONTRADICTING = 0.1


def load(path: Path | str, members: Sequence[str] | None = None) -> Outcomes:
    """Read a .parquet, .csv, .jsonl or .ndjson table; ConfigError says what is wrong and where.

    `members`: the names that `model` may have; without it, any.
    """
    path = Path(path)
    readers = {".parquet": _parquet, ".csv": _csv, ".jsonl": _lines, ".ndjson": _lines}
    if path.suffix.lower() not in readers:
        raise ConfigError(f"{path}: a table of outcomes ends in {', '.join(readers)}")
    try:
        frame = readers[path.suffix.lower()](path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    return tabulate(frame, members, source=str(path))


def save(outcomes: Outcomes, path: Path | str) -> None:
    """Write the table as the path's ending says; what is recorded of nobody gets no column."""
    import numpy as np

    path = Path(path)
    rows, columns = np.nonzero(~np.isnan(outcomes.score))
    table: dict[str, Any] = {
        "prompt_id": [outcomes.ids[i] for i in rows],
        "model": [outcomes.models[j] for j in columns],
        "answer": outcomes.answer[rows, columns].tolist(),
    }
    for name, field in _SHARED.items():
        values = getattr(outcomes, field)
        table[name] = [values[i] for i in rows]
    for name in _NUMBERS:
        table[name] = getattr(outcomes, name)[rows, columns]
    schema = {name: _polars().String for name in _TEXTS}
    frame = _polars().DataFrame(table, schema_overrides=schema, nan_to_null=True)
    kept = [name for name in COLUMNS if name in NEEDED or frame[name].count()]
    try:
        _write(frame.select(kept), path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror or error})") from error


def _write(frame: pl.DataFrame, path: Path) -> None:
    match path.suffix.lower():
        case ".parquet":
            frame.write_parquet(path)
        case ".csv":
            frame.write_csv(path)
        case ".jsonl" | ".ndjson":
            frame.write_ndjson(path)
        case _:
            raise ConfigError(f"{path}: a table of outcomes ends in .parquet, .csv or .jsonl")


def tabulate(
    frame: pl.DataFrame, members: Sequence[str] | None = None, *, source: str = "the table"
) -> Outcomes:
    """The outcomes that a frame with the documented columns holds, checked."""
    _check_columns(frame.columns, source)
    if not frame.height:
        raise ConfigError(f"{source}: has no rows")
    frame = _typed(frame.select([c for c in COLUMNS if c in frame.columns]), source)
    _check_values(frame, source)
    if members is not None:
        _check_members(frame, members, source)
    _check_repeats(frame, source)
    _check_shared(frame, source)
    outcomes = _grid(frame)
    _check_gold(outcomes, source)
    return outcomes


def check_learnable(outcomes: Outcomes, fewest: int = _FEWEST) -> None:
    """ConfigError if nothing can be learned from these outcomes, whoever learns."""
    import numpy as np

    found = len(set(outcomes.prompts))
    if found < fewest:
        raise ConfigError(
            f"{found} different prompts are too few to learn from: record the outcomes of at "
            f"least {fewest - found} more"
        )
    scores = outcomes.score[~np.isnan(outcomes.score)]
    for only, word in ((scores >= 0.5, "right"), (scores < 0.5, "wrong")):
        if only.all():
            raise ConfigError(
                f"every recorded answer is {word}, so nothing tells members or prompts apart: "
                "add prompts that some members get right and others wrong"
            )


# --- files -------------------------------------------------------------------------------------


def _polars() -> ModuleType:
    try:
        import polars
    except ImportError as error:
        raise ConfigError(
            "tables of outcomes need polars: pip install 'bicameral[learn]'"
        ) from error
    return polars


def _read(read: Callable[[], pl.DataFrame], path: Path) -> pl.DataFrame:
    try:
        return read()
    except _polars().exceptions.NoDataError as error:
        raise ConfigError(f"{path}: is empty") from error
    except _polars().exceptions.PolarsError as error:
        first = str(error).strip().splitlines()[0]
        raise ConfigError(f"{path}: is no table that can be read ({first})") from error


def _parquet(path: Path) -> pl.DataFrame:
    return _read(lambda: _polars().read_parquet(path, use_statistics=False), path)


def _csv(path: Path) -> pl.DataFrame:
    # As text: an answer of 007 must not become 7.
    return _read(lambda: _polars().read_csv(path, infer_schema=False), path)


def _lines(path: Path) -> pl.DataFrame:
    """JSON objects, one a line; blank lines are passed over and not counted."""
    import msgspec

    decode = msgspec.json.Decoder(dict[str, Any]).decode
    rows = []
    for line in filter(bytes.strip, path.read_bytes().splitlines()):
        try:
            rows.append(decode(line))
        except msgspec.DecodeError as error:
            raise ConfigError(f"{path}: row {len(rows) + 1} is no JSON object ({error})") from error
    if not rows:
        raise ConfigError(f"{path}: is empty")
    names = list(dict.fromkeys(key for row in rows for key in row))
    texts = {name: [_text(row.get(name)) for row in rows] for name in names}
    frame: pl.DataFrame = _polars().DataFrame(texts, schema=dict.fromkeys(names, _polars().String))
    return frame


def _text(value: Any) -> str | None:
    import msgspec

    if value is None or isinstance(value, str):
        return value
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if plain else msgspec.json.encode(value).decode()


# --- checks ------------------------------------------------------------------------------------


def _check_columns(found: Sequence[str], source: str) -> None:
    missing = [name for name in NEEDED if name not in found]
    if missing:
        near = difflib.get_close_matches(missing[0], found, n=1, cutoff=0.5)
        hint = f"; is it '{near[0]}'? then rename that" if near else ""
        raise ConfigError(
            f"{source}: has no column {', '.join(missing)}{hint} "
            f"(needed: {', '.join(NEEDED)}; found: {', '.join(found)})"
        )
    for name in found:
        near = difflib.get_close_matches(name, COLUMNS, n=1, cutoff=0.8)
        if name not in COLUMNS and near and near[0] not in found:
            raise ConfigError(f"{source}: there is no column '{name}': {nearest(name, COLUMNS)}")


def _typed(frame: pl.DataFrame, source: str) -> pl.DataFrame:
    """Texts as text, numbers as numbers; what cannot become one is named."""
    pl = _polars()
    for name in frame.columns:
        if frame[name].dtype.is_nested() or frame[name].dtype == pl.Binary:
            raise ConfigError(f"{source}: the column {name} holds {frame[name].dtype}, no value")
        column = frame[name].cast(pl.String) if name in _TEXTS else _numbers(frame[name], source)
        frame = frame.with_columns(column)
    return frame


def _numbers(given: pl.Series, source: str) -> pl.Series:
    pl = _polars()
    words = {"true": "1", "True": "1", "false": "0", "False": "0"}
    plain = given.replace(words) if given.dtype == pl.String else given
    numbers = plain.cast(pl.Float64, strict=False)
    bad = (given.is_not_null() & numbers.is_null()).arg_true()
    if len(bad):
        value = given[bad[0]]
        raise ConfigError(f"{source}: row {bad[0] + 1}: {given.name} is no number but {value!r}")
    return numbers.fill_nan(None)


def _check_values(frame: pl.DataFrame, source: str) -> None:
    for name in ("prompt_id", "prompt", "model"):
        empty = frame[name].is_null() | (frame[name].str.strip_chars() == "")
        _refuse(frame, empty, f"{name} is empty: give it a value or leave the row out", source)
    lost = frame["score"].is_null()
    _refuse(frame, lost, "has no score: grade the answer 0 to 1 or leave the row out", source)
    for name in [name for name in frame.columns if name in _NUMBERS]:
        column = frame[name]
        if name in _UNIT:
            wrong = ~column.is_between(0, 1)
            advice = f"{name} must lie between 0 and 1: divide percentages by 100"
        else:
            wrong = (column < 0) | column.is_infinite()
            advice = f"{name} cannot be negative or infinite: leave it empty if it is unknown"
        found = wrong.fill_null(value=False)
        if found.any():
            value = column.filter(found)[0]
            _refuse(frame, found, f"{name} is {value:g}; {advice}", source)


def _refuse(frame: pl.DataFrame, wrong: pl.Series, why: str, source: str) -> None:
    rows = wrong.arg_true()
    if not len(rows):
        return
    more = f" (and {len(rows) - 1} more rows)" if len(rows) > 1 else ""
    raise ConfigError(f"{source}: {_place(frame, rows[0])}: {why}{more}")


def _place(frame: pl.DataFrame, row: int) -> str:
    names = [str(frame[name][row]) for name in ("prompt_id", "model") if frame[name][row]]
    return f"row {row + 1} ({', '.join(names)})"


def _check_members(frame: pl.DataFrame, members: Sequence[str], source: str) -> None:
    unknown = (~frame["model"].is_in(list(members))).arg_true()
    if len(unknown):
        name = frame["model"][unknown[0]]
        raise ConfigError(
            f"{source}: {_place(frame, unknown[0])}: there is no member '{name}': "
            f"{nearest(name, tuple(members))}; rename it in the table, or leave its rows out"
        )


def _check_repeats(frame: pl.DataFrame, source: str) -> None:
    pl = _polars()
    numbered = frame.select("prompt_id", "model").with_row_index("row")
    first_of = pl.col("row").first().over("prompt_id", "model")
    again = numbered.with_columns(first_of.alias("first")).filter(pl.col("row") > pl.col("first"))
    if not again.height:
        return
    first, second = int(again["first"][0]), int(again["row"][0])
    if frame.row(first) == frame.row(second):
        why = "are the same: leave one out"
    else:
        differing = [c for c in frame.columns if frame[c][first] != frame[c][second]]
        why = (
            f"contradict each other in {', '.join(differing)}: keep the right one, or, if they "
            "are samples of the same member, one row with their mean score"
        )
    raise ConfigError(
        f"{source}: rows {first + 1} and {second + 1} ({_names(frame, second)}) {why}"
    )


def _names(frame: pl.DataFrame, row: int) -> str:
    return f"{frame['prompt_id'][row]}, {frame['model'][row]}"


def _check_shared(frame: pl.DataFrame, source: str) -> None:
    """Every row of a prompt says the same of it, or nothing."""
    pl = _polars()
    for name in [name for name in _SHARED if name in frame.columns]:
        given = frame.with_row_index("row").filter(pl.col(name).is_not_null())
        first = given.with_columns(
            pl.col(name).first().over("prompt_id").alias("first"),
            pl.col("row").first().over("prompt_id").alias("first_row"),
        ).filter(pl.col(name) != pl.col("first"))
        if first.height:
            row, other, prompt = (first[c][0] for c in ("row", "first_row", "prompt_id"))
            raise ConfigError(
                f"{source}: rows {other + 1} and {row + 1} give prompt_id {prompt} a different "
                f"{name}: each prompt needs an id of its own and one {name}"
            )


def _check_gold(outcomes: Outcomes, source: str) -> None:
    """Gold that grades unlike the scores is written unlike the answers."""
    import numpy as np

    gold = np.array(outcomes.gold, dtype=object)[:, None]
    pairs = zip(outcomes.answer.flat, np.broadcast_to(gold, outcomes.score.shape).flat, strict=True)
    both = np.array([a is not None and g is not None for a, g in pairs])
    both = both.reshape(outcomes.score.shape)
    if not both.any():
        return
    right = (outcomes.answer == gold)[both]
    share = float(np.mean(right != (outcomes.score[both] >= 0.5)))
    if share > _CONTRADICTING:
        raise ConfigError(
            f"{source}: answer equals gold where score says otherwise in {share:.0%} of the rows: "
            "write both in the same form (only the letter, only the number), or leave gold out"
        )


# --- the grid ----------------------------------------------------------------------------------


def _grid(frame: pl.DataFrame) -> Outcomes:
    """Prompts and members in the order in which they first appear."""
    import numpy as np

    ids, rows = _codes(frame["prompt_id"])
    models, columns = _codes(frame["model"])
    shape = (len(ids), len(models))
    grids: dict[str, Any] = {name: np.full(shape, np.nan) for name in _NUMBERS}
    grids["answer"] = np.full(shape, None, dtype=object)
    for name in [name for name in grids if name in frame.columns]:
        values = frame[name].to_list() if name == "answer" else frame[name].to_numpy()
        grids[name][rows, columns] = values
    for name, field in _SHARED.items():
        grids[field] = _per_prompt(frame, name, rows, len(ids))
    return Outcomes(ids=ids, models=models, **grids)


def _codes(column: pl.Series) -> tuple[tuple[str, ...], NDArray[np.intp]]:
    names = column.unique(maintain_order=True)
    codes = column.cast(_polars().Enum(names)).to_physical().to_numpy()
    return tuple(names), codes.astype("intp")


def _per_prompt(
    frame: pl.DataFrame, name: str, rows: NDArray[np.intp], count: int
) -> tuple[str | None, ...]:
    values: list[str | None] = [None] * count
    if name in frame.columns:
        for row, value in zip(rows.tolist(), frame[name].to_list(), strict=True):
            if value is not None:
                values[row] = value
    return tuple(values)
