"""How well answers are read: our keys beside the letters and verdicts that came with the data.

`python bench/left_answers.py` prints two tables on the half of the questions that the rules were
not written on. The folder of the data is named by BICAMERAL_DATA, as in left_data.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from hashlib import sha256

import polars as pl
from left_data import Missing, folder

from bicameral.left import answers

# What the evaluation that came with the data looked for; where it is absent a letter is a guess.
_PHRASE = re.compile(r"answer is \(?[A-J]")


def reported(question: str) -> bool:
    """Whether a question is in the half that figures are reported on."""
    return bool(sha256(question.encode()).digest()[0] & 1)


def reread(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of mmlupro_matrix/outcomes with `pred` as we read it, where there is a text.

    `correct` follows: our letter against the row's own `answer_key`. Rows without a text, and
    their order, stay as they are.
    """
    ours = pl.DataFrame(
        [(row["question_id"], row["model"], row["ours"]) for row in _mmlupro()],
        schema={"question_id": pl.Int64, "model": pl.String, "ours": pl.String},
        orient="row",
    ).with_columns(read=pl.lit(value=True))
    joined = rows.join(ours, on=["question_id", "model"], how="left", maintain_order="left")
    right = (pl.col("ours") == pl.col("answer_key")).fill_null(value=False)
    return joined.with_columns(
        pred=pl.when(pl.col("read")).then("ours").otherwise("pred"),
        correct=pl.when(pl.col("read"))
        .then(right.cast(rows.schema["correct"]))
        .otherwise("correct"),
    ).select(rows.columns)


def _mmlupro() -> Iterator[dict[str, str]]:
    """Rows that have a text, with `ours`: the letter we read."""
    texts = pl.read_parquet(folder("mmlupro_responses") / "responses.parquet")
    path = folder("mmlupro_matrix")
    prompts = pl.read_parquet(
        path / "prompts.parquet", columns=["question_id", "question", "prompt"]
    )
    rows = pl.read_parquet(path / "outcomes.parquet").join(texts, on=["question_id", "model"])
    for row in rows.join(prompts, on="question_id").iter_rows(named=True):
        yield {**row, "ours": answers.key("choice", row["prompt"], row["response"])}


def letters() -> None:
    """MMLU-Pro: our letters beside the recorded ones, by model."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in _mmlupro():
        if reported(row["question"]):
            counts[row["model"]].update(_facts(row))
            counts["all"].update(_facts(row))
    print("\n### Reading answers again: letters of MMLU-Pro\n")
    print("| model | answers | same letter | same, phrase given | only theirs (right) |", end="")
    print(" neither | only ours (right) | accuracy theirs | ours |")
    print("|---" * 9 + "|")
    for model in sorted(counts, key=lambda name: (name == "all", name)):
        print(_line(model, counts[model]))


def _facts(row: dict[str, str]) -> Iterable[str]:
    ours, theirs, gold = row["ours"], row["pred"], row["answer_key"]
    yield "n"
    yield from ["theirs right"] * bool(row["correct"]) + ["ours right"] * (ours == gold)
    if theirs is None:
        yield "none" if ours is None else "only ours"
        yield from ["only ours right"] * (ours == gold)
        return
    phrase = bool(_PHRASE.search(row["response"]))
    yield from ["theirs"] + ["same"] * (ours == theirs) + ["phrase"] * phrase
    yield from ["same phrase"] * (phrase and ours == theirs)
    if ours is None:
        yield from ["only theirs"] + ["only theirs right"] * (theirs == gold)


def _line(model: str, c: Counter[str]) -> str:
    return (
        f"| {model} | {c['n']} | {_share(c['same'], c['theirs'])} "
        f"| {_share(c['same phrase'], c['phrase'])} "
        f"| {c['only theirs']} ({_share(c['only theirs right'], c['only theirs'])}) | {c['none']} "
        f"| {c['only ours']} ({_share(c['only ours right'], c['only ours'])}) "
        f"| {_share(c['theirs right'], c['n'])} | {_share(c['ours right'], c['n'])} |"
    )


def verdicts() -> None:
    """ZeroEval: whether our key equals the gold's key just when the answer was judged correct."""
    path = folder("zeroeval_gsm_crux_mathl5")
    prompts = pl.read_parquet(path / "prompts.parquet").drop("task")
    rows = pl.read_parquet(path / "outcomes.parquet").join(prompts, on="prompt_id")
    rows = rows.join(pl.read_parquet(path / "responses.parquet"), on=["prompt_id", "model"])
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in rows.iter_rows(named=True):
        if reported(row["question"]):
            for kind in _KINDS[row["task"]]:
                ours = answers.key(kind, row["question"], row["response"])
                right = ours == answers.key(kind, row["question"], row["gold"])
                fact = "none" if ours is None else f"{right} {row['correct']}"
                counts[row["task"], kind].update(["n", fact] + ["same"] * (right == row["correct"]))
    print("\n### Reading answers again: ZeroEval's verdicts\n")
    print("| task | read as | answers | same verdict | ours only | theirs only | no key |")
    print("|---" * 7 + "|")
    for (task, kind), c in counts.items():
        print(
            f"| {task} | {kind} | {c['n']} | {_share(c['same'], c['n'])} | {c['True False']} "
            f"| {c['False True']} | {c['none']} |"
        )


_KINDS: dict[str, tuple[answers.Kind, ...]] = {
    "gsm": ("number", "exact"),
    "math-l5": ("number", "exact"),
    "crux": ("exact",),
}


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


if __name__ == "__main__":
    try:
        letters()
        verdicts()
    except Missing as missing:
        print(missing)
