"""Recorded answers of real models as outcome tables: one function for each data set.

The folder is named by BICAMERAL_DATA, by default ../shared/data beside the repository. Nothing of
it is copied: rows are read, renamed and priced in memory.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import left_calls
import numpy as np
import polars as pl

from bicameral.left.outcomes import Outcomes

FEW_SHOT = 40  # tokens of instructions that the recorded prompt length leaves out
GPT4O, GEMINI = "gpt-4o-2024-05-13", "gemini-3.1-pro"
CHINESE = ("deepseek-v2-chat", "DeepSeek-Coder-V2", "Qwen1.5-110B", "Qwen1.5-72B-Chat", "Yi-34B")


class Missing(Exception):
    """A data set is not there; the message says where it was looked for."""


def folder(name: str) -> Path:
    """Where the data set lies."""
    root = os.environ.get("BICAMERAL_DATA")
    base = Path(root) if root else Path(__file__).parents[2] / "shared" / "data"
    if not (base / name).is_dir():
        raise Missing(f"skipped: no {name} in {base} (BICAMERAL_DATA names the folder)")
    return base / name


def table(
    prompts: pl.DataFrame,
    rows: pl.DataFrame,
    models: Sequence[str] | None = None,
    *,
    complete: bool = False,
) -> Outcomes:
    """`prompts`: prompt_id, prompt, gold, category, split. `rows`: prompt_id, model, score, ...

    `complete`: only the prompts that every model has an outcome for.
    """
    models = sorted(set(rows["model"])) if models is None else models
    rows = rows.filter(pl.col("model").is_in(list(models)))
    if complete:
        full = rows.filter(pl.col("score").is_not_null()).group_by("prompt_id").len()
        keep = full.filter(pl.col("len") == len(models)).select("prompt_id")
        prompts = prompts.join(keep, on="prompt_id", how="semi")
    prompts = prompts.sort("prompt_id")
    ids = prompts["prompt_id"].to_list()
    place = {id: i for i, id in enumerate(ids)}
    column = {model: i for i, model in enumerate(models)}
    rows = rows.filter(pl.col("prompt_id").is_in(ids))
    where = (
        np.array([place[id] for id in rows["prompt_id"]], dtype=np.intp),
        np.array([column[model] for model in rows["model"]], dtype=np.intp),
    )
    shape = (len(ids), len(models))
    grids = {name: _grid(rows, name, where, shape) for name in _NUMBERS}
    answer = np.full(shape, None, dtype=object)
    if "answer" in rows.columns:
        answer[where] = np.array(rows["answer"].to_list(), dtype=object)
    return Outcomes(
        ids=tuple(map(str, ids)),
        models=tuple(models),
        answer=answer,
        prompts=tuple(prompts["prompt"]),
        gold=_texts(prompts, "gold"),
        categories=_texts(prompts, "category"),
        splits=_texts(prompts, "split"),
        **grids,
    )


_NUMBERS = ("score", "cost", "seconds", "tokens_in", "tokens_out", "confidence", "checked")


def _grid(rows: pl.DataFrame, name: str, where: Any, shape: tuple[int, int]) -> Any:
    grid = np.full(shape, np.nan)
    if name in rows.columns:
        grid[where] = rows[name].cast(pl.Float64).fill_null(math.nan).to_numpy()
    return grid


def _texts(prompts: pl.DataFrame, name: str) -> tuple[str | None, ...]:
    return tuple(prompts[name]) if name in prompts.columns else (None,) * prompts.height


def mmlupro(pool: str = "A", *, again: bool = False) -> Outcomes:
    """MMLU-Pro. Pools: A without gemini-3.1-pro, B all, C five Chinese ones, D also no GPT-4o.

    `again`: letters are read anew from the response texts, where there are any.

    The prompt shows the options; `question` gives the wording that the folds go by.
    """
    path = folder("mmlupro_matrix")
    prices = pl.read_csv(path / "prices.csv")
    prompts = pl.read_parquet(path / "prompts.parquet").with_columns(
        prompt_id=pl.col("question_id"), gold=pl.col("answer")
    )
    size = prompts.select("question_id", "tok_prompt")
    rows = pl.read_parquet(path / "outcomes.parquet")
    if again:
        import left_answers  # which imports this module

        rows = left_answers.reread(rows)
    rates = prices.select("model", "usd_per_m_in", "usd_per_m_out")
    rows = rows.join(size, on="question_id").join(rates, on="model")
    rows = rows.with_columns(
        prompt_id=pl.col("question_id"),
        score=pl.col("correct").cast(pl.Float64),
        answer=pl.col("pred"),
        tokens_in=pl.col("tok_prompt") + FEW_SHOT,
        tokens_out=pl.col("tok_out"),
        cost=(
            (pl.col("tok_prompt") + FEW_SHOT) * pl.col("usd_per_m_in")
            + pl.col("tok_out") * pl.col("usd_per_m_out")
        )
        / 1e6,
    )
    every = prices["model"].to_list()
    pools = {
        "A": [m for m in every if m != GEMINI],
        "B": every,
        "C": list(CHINESE),
        "D": [m for m in every if m not in (GPT4O, GEMINI)],
    }
    return table(prompts, rows, pools[pool], complete=True)


def mmlupro_reread(pool: str = "A") -> Outcomes:
    """`mmlupro` with letters read from the texts by the product, where a text is recorded."""
    return mmlupro(pool, again=True)


def question(prompt: str) -> str:
    """The wording of an MMLU-Pro prompt without its options, which the folds go by."""
    return prompt.rpartition("\nOptions:\n")[0] or prompt


def zeroeval(task: str = "math-l5", *, o1: bool = False, least: float = 0.99) -> Outcomes:
    """ZeroEval: gsm, crux or math-l5; members that answered more than `least` of the prompts."""
    path = folder("zeroeval_gsm_crux_mathl5")
    prompts = pl.read_parquet(path / "prompts.parquet").filter(pl.col("task") == task)
    prompts = prompts.with_columns(
        prompt=pl.col("question") if task != "crux" else pl.col("full_prompt")
    )
    rows = pl.read_parquet(path / "outcomes.parquet").filter(pl.col("task") == task)
    counts = rows.group_by("model").len().filter(pl.col("len") > least * prompts.height)
    models = sorted(m for m in counts["model"] if o1 or not m.startswith("o1-"))
    rows = rows.join(prompts.select("prompt_id", "tok_prompt"), on="prompt_id").with_columns(
        score=pl.col("correct").cast(pl.Float64),
        tokens_in=pl.col("tok_prompt"),
        tokens_out=pl.col("tok_out"),
    )
    if task != "crux":  # where an empty string may be what a program prints
        rows = rows.with_columns(pl.col("answer").replace("", None))
    return table(prompts.drop("gold"), rows, models)


def zeroeval_texts(outcomes: Outcomes) -> Any:
    """P x M response texts of the rows that `zeroeval` gave."""
    path = folder("zeroeval_gsm_crux_mathl5")
    rows = pl.read_parquet(path / "responses.parquet")
    rows = rows.filter(
        pl.col("prompt_id").is_in(list(outcomes.ids)), pl.col("model").is_in(list(outcomes.models))
    )
    place = {id: i for i, id in enumerate(outcomes.ids)}
    column = {model: i for i, model in enumerate(outcomes.models)}
    texts = np.full(outcomes.score.shape, None, dtype=object)
    for id, model, text in rows.select("prompt_id", "model", "response").iter_rows():
        texts[place[id], column[model]] = text
    return texts


def swebench() -> Outcomes:
    """SWE-bench Verified, bash only: real cost per issue, no answers to compare."""
    path = folder("swebench_verified_bash_only")
    prompts = pl.read_parquet(path / "prompts.parquet").with_columns(
        prompt_id=pl.col("instance_id"), prompt=pl.col("problem_statement"), category=pl.col("repo")
    )
    rows = pl.read_parquet(path / "outcomes.parquet").with_columns(
        prompt_id=pl.col("instance_id"),
        score=pl.col("resolved").cast(pl.Float64),
        cost=pl.col("cost_usd"),
    )
    return table(prompts, rows)


def routerbench() -> Outcomes:
    """RouterBench's three tasks; letters as answers, but none for code."""
    path = folder("routerbench_arc_mbpp_winogrande")
    prompts = pl.read_parquet(path / "prompts.parquet").with_columns(
        prompt_id=pl.col("row"), category=pl.col("eval_name")
    )
    rows = pl.read_parquet(path / "outcomes.parquet").join(
        prompts.select("row", "eval_name"), on="row"
    )
    letters = [
        None if task == "mbpp" else letter(text)
        for task, text in rows.select("eval_name", "response").iter_rows()
    ]
    rows = rows.with_columns(
        prompt_id=pl.col("row"), cost=pl.col("cost_usd"), answer=pl.Series(letters, dtype=pl.String)
    )
    return table(prompts, rows)


def letter(text: str | None) -> str | None:
    """The choice that a short response opens with."""
    found = re.match(r"\W*([A-E])\b", text or "")
    return found and found[1]


def bfcl(*, priced: bool = True) -> Outcomes:
    """BFCL: answers are calls by value; cost at list prices; members with tokens unless `priced`.

    The 173 prompts without a text are left out.
    """
    path = folder("bfcl_2024_08_11")
    prompts = pl.read_parquet(path / "prompts.parquet").with_columns(
        prompt=pl.col("question"), split=pl.lit(None, dtype=pl.String)
    )
    rows = pl.read_parquet(path / "outcomes.parquet").filter(
        pl.col("prompt_id").is_in(prompts["prompt_id"].to_list())
    )
    schemas = dict(prompts.select("prompt_id", "functions").iter_rows())
    schemas = {id: left_calls.schema(json.loads(text)) for id, text in schemas.items()}
    said = [
        left_calls.key(result, schemas[id])
        for id, result in rows.select("prompt_id", "result").iter_rows()
    ]
    prices = [left_calls.price(model) for model in rows["model"]]
    rows = rows.with_columns(
        score=pl.col("correct").cast(pl.Float64),
        answer=pl.Series(said, dtype=pl.String),
        tokens_in=pl.col("tok_in"),
        tokens_out=pl.col("tok_out"),
        seconds=pl.col("latency_s"),
        cost=(
            pl.col("tok_in") * pl.Series([p[0] if p else None for p in prices], dtype=pl.Float64)
            + pl.col("tok_out") * pl.Series([p[1] if p else None for p in prices], dtype=pl.Float64)
        )
        / 1e6,
    )
    typical = pl.col("cost").mean().over("model")  # a single call has no tokens
    rows = rows.with_columns(cost=pl.col("cost").fill_null(typical))
    models = sorted(set(rows["model"]))
    if priced:
        models = [model for model in models if left_calls.price(model)]
    return table(prompts, rows, models)


def report(sets: Iterable[tuple[str, Any]]) -> None:
    """One line for each: shape, best single, random, oracle."""
    for name, load in sets:
        try:
            data = load()
        except Missing as error:
            print(error)
            continue
        mean = np.nanmean(data.score, axis=0)
        best = int(np.nanargmax(mean))
        cost = 1e3 * data.cost[:, best].mean()
        oracle = 100 * np.nanmax(data.score, axis=1).mean()
        print(
            f"{name}: {len(data.ids)} x {len(data.models)}, best {data.models[best]} "
            f"{100 * mean[best]:.2f} (${cost:.3f}/1k), "
            f"random {100 * mean.mean():.2f}, oracle {oracle:.2f}"
        )


if __name__ == "__main__":
    report(
        [
            *((f"mmlupro {pool}", lambda pool=pool: mmlupro(pool)) for pool in "ABCD"),
            *((f"zeroeval {t}", lambda t=t: zeroeval(t)) for t in ("gsm", "crux", "math-l5")),
            ("swebench", swebench),
            ("routerbench", routerbench),
            ("bfcl", bfcl),
        ]
    )
