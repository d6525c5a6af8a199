"""Where to put hearing and speaking, in pools of unlike chips, at their MLPerf v5.1 rates."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
from left_data import folder

from bicameral.chips.place import Placement, Pool, Stage, place

# Submissions whose Offline results are taken: (kind, of Whisper, of Llama-3.1-8B).
_RUNS = {
    "B200": ("5.1-0069", "5.1-0062"),
    "H200": ("5.1-0049", "5.1-0049"),
    "L40S": ("5.1-0022", "5.1-0082"),
    "2x6980P": ("5.1-0084", "5.1-0055"),
}
_REQUEST = (Stage("whisper", 100), Stage("llama", 300))
_POOLS = (
    {"B200": 1, "2x6980P": 3},
    {"H200": 1, "2x6980P": 2},
    {"H200": 1, "2x6980P": 1},
    {"B200": 1, "L40S": 5},
    {"B200": 1, "H200": 1},
    {"H200": 1, "L40S": 3},
    {"B200": 8, "2x6980P": 1},
    {"B200": 4},
)


def placements() -> Iterator[str]:
    """Requests of 100 tokens heard and 300 said; the optimum of scipy's solver beside ours."""
    rates = {kind: _rates(kind) for kind in _RUNS}
    yield "\nplacing Whisper and Llama-3.1-8B: requests/s of replicas, whole chips, shared; scipy"
    yield f"  tokens/s: {', '.join(f'{k} {a:.0f} and {b:.0f}' for k, (a, b) in rates.items())}"
    for counts in _POOLS:
        pools = [Pool(kind, n, rates[kind]) for kind, n in counts.items()]
        found = place(_REQUEST, pools)
        name = " + ".join(f"{n} {kind}" for kind, n in counts.items())
        yield f"  {name:20} {_numbers(found)} {_other(pools):7.1f}  {found.best.name}: {found.why}"


def _numbers(found: Placement) -> str:
    whole = f"{found.whole.rate:7.1f}" if found.whole else "      -"
    gain = f"{found.gain:5.2f}x" if found.gain else "     -"
    return f"{found.replicas.rate:7.1f} {whole} {found.shared.rate:7.1f} {gain}"


def _rates(kind: str) -> tuple[float, float]:
    heard, said = _RUNS[kind]
    return _rate(heard, "whisper", kind), _rate(said, "llama3.1-8b", kind)


def _rate(id: str, model: str, kind: str) -> float:
    """Tokens a second of one accelerator, or of a node of CPUs; the best of the submission."""
    table = pl.read_csv(folder("chips") / "mlperf_v5.1_llm.csv", infer_schema_length=10_000)
    rows = table.filter(
        (pl.col("id") == id)
        & (pl.col("model") == model)
        & (pl.col("scenario") == "Offline")
        & pl.col("accel").str.contains(kind.removeprefix("2x"))
    )
    each = rows["result"] / (rows["n_accel"].fill_null(1) * rows["nodes"])
    return float(each.max())  # type: ignore[arg-type]


def _other(pools: list[Pool]) -> float:
    """The same linear programme, by another solver."""
    from scipy.optimize import linprog

    width = len(pools) * 2
    rows, limits = [], []
    for i, pool in enumerate(pools):
        rows.append([0.0] + [float(cell // 2 == i) for cell in range(width)])
        limits.append(float(pool.count))
    for j, stage in enumerate(_REQUEST):
        work = [-pools[cell // 2].rates[j] * (cell % 2 == j) for cell in range(width)]
        rows.append([stage.amount, *work])
        limits.append(0.0)
    return float(-linprog([-1.0] + [0.0] * width, A_ub=rows, b_ub=limits).fun)
