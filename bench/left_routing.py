"""Who will be right, from the prompt alone: routing quality, calibration and speed of the scores.

The scores are the product's own, with its one setting. Best single, random and oracle stand
beside each figure; baselines are computed on the same prompts.

    python bench/left_routing.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import left_data
import numpy as np
import polars as pl

from bicameral.evals.metrics import gap
from bicameral.left import calibrate
from bicameral.left.fit import calibration, fit_scores
from bicameral.left.outcomes import Outcomes
from bicameral.left.place import place, probes
from bicameral.left.scores import Scores

LABELS, SEEDS = 1500, range(5)
RESAMPLES = 1000
ID = ("mmlu_test", "gsm8k-test", "cmmlu_test", "arc_challenge_test", "humaneval_test")
OOD = ("MATH_prealgebra", "mbpp", "ceval")
Row = tuple[str, ...]


def routellm(benchmark: str = "mmlu") -> Outcomes:
    """GPT-4 (strong) and Mixtral (weak); prompts that the authors call contaminated are dropped."""
    rows = pl.read_parquet(left_data.folder("routellm_pair") / "outcomes.parquet")
    rows = rows.filter((pl.col("benchmark") == benchmark) & ~pl.col("contaminated"))
    rows = rows.with_row_index("prompt_id")
    prompts = rows.select("prompt_id", "prompt", category="task")
    scores = [
        rows.select("prompt_id", model=pl.lit(name), score=pl.col(f"score_{name}"))
        for name in ("strong", "weak")
    ]
    return left_data.table(prompts, pl.concat(scores), ["strong", "weak"])


def routerdc() -> Outcomes:
    """Seven models of 7 to 8 billion parameters; the file a prompt is from is its category."""
    wide = pl.read_parquet(left_data.folder("routerdc_7models") / "outcomes_wide.parquet")
    wide = wide.with_row_index("prompt_id")
    names = [name for name in wide.columns if name.startswith("correct:")]
    rows = wide.unpivot(names, index="prompt_id", variable_name="model", value_name="score")
    prompts = wide.select("prompt_id", prompt="question", category="file")
    return left_data.table(prompts, rows, names)


def pair_mmlu() -> Iterator[Row]:
    """APGR with few labels, drawn with five seeds, tested on all other prompts."""
    whole = routellm("mmlu")
    rng = [np.random.default_rng(seed).permutation(len(whole.ids)) for seed in SEEDS]
    splits = [(whole.rows(order[:LABELS]), whole.rows(order[LABELS:])) for order in rng]
    yield from _pair_rows(f"RouteLLM MMLU, {LABELS} labels", splits)


def pair_gsm8k() -> Iterator[Row]:
    """APGR on GSM8K, five folds; each fold's scores are put in one list."""
    whole = routellm("gsm8k")
    folds = whole.folds()
    held = np.zeros(len(folds))
    for k in range(5):
        held[folds == k] = _lead(whole.rows(folds != k), whole.rows(folds == k))
    yield _pair_row("RouteLLM GSM8K, 5 folds", "Bicameral", [(whole, held)])
    yield _pair_row("", "oracle", [(whole, whole.score[:, 0] - whole.score[:, 1])])


def _pair_rows(title: str, splits: Sequence[tuple[Outcomes, Outcomes]]) -> Iterator[Row]:
    rules: dict[str, Callable[[Outcomes, Outcomes], np.ndarray]] = {
        "Bicameral": _lead,
        "subject table, subject known": _table_lead,
        "TF-IDF ridge": _tfidf_lead,
        "oracle": lambda train, test: test.score[:, 0] - test.score[:, 1],
    }
    for name, rule in rules.items():
        yield _pair_row(title, name, [(test, rule(train, test)) for train, test in splits])
        title = ""


def _pair_row(title: str, name: str, runs: Sequence[tuple[Outcomes, np.ndarray]]) -> Row:
    gaps = [gap(test.score[:, 0], test.score[:, 1], lead) for test, lead in runs]
    rng = np.random.default_rng(0)
    drawn = [[_again(test, lead, rng) for test, lead in runs] for _ in range(RESAMPLES)]
    low, high = np.percentile(np.mean(drawn, axis=1), [2.5, 97.5])
    apgr = float(np.mean([g.apgr for g in gaps]))
    cpt = [f"{np.mean([g.cpt(x) for g in gaps]):.1f}" for x in (50, 80)]
    return title, name, f"{apgr:.3f} [{low:.3f}, {high:.3f}]", " / ".join(cpt)


def _again(test: Outcomes, lead: np.ndarray, rng: np.random.Generator) -> float:
    drawn = rng.integers(0, len(lead), len(lead))
    return gap(test.score[drawn, 0], test.score[drawn, 1], lead[drawn]).apgr


def _lead(train: Outcomes, test: Outcomes) -> np.ndarray:
    """How much likelier the strong model is to be right, by the product's scores."""
    scores = fit_scores(train)
    quality = scores.predict(scores.look(test.prompts))[0]
    return quality[:, 0] - quality[:, 1]


def _table_lead(train: Outcomes, test: Outcomes) -> np.ndarray:
    lead = train.score[:, 0] - train.score[:, 1]
    kinds = np.array(train.categories)
    means = {kind: lead[kinds == kind].mean() for kind in set(train.categories)}
    return np.array([means.get(kind, lead.mean()) for kind in test.categories])


def _tfidf_lead(train: Outcomes, test: Outcomes) -> np.ndarray:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import RidgeCV

    look = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    x = look.fit_transform(train.prompts)
    model = RidgeCV(alphas=[1, 3, 10, 30]).fit(x.toarray(), train.score[:, 0] - train.score[:, 1])
    return np.asarray(model.predict(look.transform(test.prompts).toarray()))


def seven() -> Iterator[Row]:
    """RouterDC: mean accuracy over test files, in and out of distribution."""
    whole = routerdc()
    files = np.array(whole.categories)
    tests = {_plain(p) for p, f in zip(whole.prompts, files, strict=True) if f in (*ID, *OOD)}
    keep = [f.endswith("train") and _plain(p) not in tests for p, f in _pairs(whole, files)]
    train = whole.rows(np.array(keep))
    scores = fit_scores(train)
    x = scores.look(whole.prompts)
    best, count = int(train.score.mean(axis=0).argmax()), len(whole.ids)
    table = np.array([train.score[files[keep] == name].mean(axis=0) for name in scores.names])
    picks = {
        "Bicameral": scores.predict(x)[0].argmax(axis=1),
        "its topic, then the topic's best": table.argmax(axis=1)[scores.topics(x).argmax(axis=1)],
        "best single of the training files": np.full(count, best),
        "oracle": whole.score.argmax(axis=1),
    }
    got = {name: whole.score[np.arange(count), pick] for name, pick in picks.items()}
    got["random"] = whole.score.mean(axis=1)
    known = np.array([whole.score[files == f].mean(axis=0).argmax() for f in files])
    got["best of each test file, known"] = whole.score[np.arange(count), known]
    title = f"RouterDC, 7 models, {len(train.ids)} training prompts"
    for name, quality in got.items():
        yield title, name, *(_means(quality, whole, files, group) for group in (ID, OOD))
        title = ""


def _pairs(whole: Outcomes, files: np.ndarray) -> Iterator[tuple[str, str]]:
    return zip(whole.prompts, files, strict=True)


def _plain(prompt: str) -> str:
    return " ".join(prompt.lower().split())


def _means(quality: np.ndarray, whole: Outcomes, files: np.ndarray, group: Row) -> str:
    """Mean over files in %, its interval (prompts resampled inside each file), within-task gain."""
    rng, drawn, means, gains = np.random.default_rng(0), [], [], []
    for name in group:
        here = quality[files == name]
        means.append(here.mean())
        gains.append(here.mean() - whole.score[files == name].mean(axis=0).max())
        drawn.append(here[rng.integers(0, len(here), (RESAMPLES, len(here)))].mean(axis=1))
    low, high = np.percentile(np.mean(drawn, axis=0), [2.5, 97.5])
    span = f"{100 * np.mean(means):.2f} [{100 * low:.2f}, {100 * high:.2f}]"
    return f"{span}, within task {100 * np.mean(gains):+.2f}"


def calibrated() -> Iterator[Row]:
    """Brier score, calibration error and AUC on held-out folds, mean over members."""
    sets = [("MMLU-Pro", left_data.mmlupro()), ("RouteLLM MMLU", routellm("mmlu"))]
    for name, whole in sets:
        rows = calibration(whole)
        means = [
            np.nanmean([getattr(r, f) for r in rows]) for f in ("brier", "plain", "ece", "auc")
        ]
        worst = max(row.ece for row in rows)
        brier, plain, ece, auc = (f"{mean:.4f}" for mean in means)
        yield name, f"{brier} (base rate {plain})", f"{ece}, worst {worst:.4f}", auc


def placed(count: int = 200) -> Iterator[Row]:
    """Members left out of the fit and placed by probes, judged on a fold nobody has seen."""
    whole = left_data.mmlupro()
    folds, new = whole.folds(), whole.models[::5]
    train, test = whole.rows(folds != 0), whole.rows(folds == 0)
    scores = fit_scores(train.only([m for m in whole.models if m not in new]))
    every = fit_scores(train)
    asked = train.rows([train.ids.index(id) for id in probes(train, count)])
    found: dict[str, list[tuple[float, float]]] = {}
    for name in new:
        y, given = test.only([name]).score[:, 0], asked.only([name]).score[:, 0]
        wider = place(scores, name, asked.prompts, given)
        guesses = {
            "base rate of the probes": np.full(len(y), given.mean()),
            f"placed by {count} probes": _of(wider, name, test),
            "fitted on all outcomes": _of(every, name, test),
        }
        for how, guess in guesses.items():
            pair = calibrate.brier(guess, y), calibrate.auc(guess, y)
            found.setdefault(how, []).append(pair)
    for how, pairs in found.items():
        brier, auc = np.mean(pairs, axis=0)
        yield how, f"{brier:.4f}", f"{auc:.4f}"


def _of(scores: Scores, name: str, test: Outcomes) -> np.ndarray:
    quality = scores.predict(scores.look(test.prompts))[0]
    return quality[:, scores.models.index(name)]


def speed(members: int = 50) -> Iterator[Row]:
    """One decision's estimates for one prompt, and a fit of 10,000 x 30; on one core."""
    whole = left_data.mmlupro("A")
    big = _sized(whole, 10_000, 30)
    began, cpu = time.perf_counter(), time.process_time()
    fit_scores(big)
    took, used = time.perf_counter() - began, time.process_time() - cpu
    yield "fit 10,000 x 30", f"{took:.1f} s, {used:.1f} s of processor"
    scores = fit_scores(_sized(whole, 2000, members))
    times = []
    for prompt in whole.prompts[2000:3000]:
        cpu = time.perf_counter()
        scores(prompt)
        times.append((time.perf_counter() - cpu) * 1000)
    median, high = statistics.median(times), float(np.percentile(times, 95))
    length = statistics.median(len(prompt) for prompt in whole.prompts[2000:3000])
    what = f"estimates for {members} members, prompts of {length:.0f} characters"
    yield what, f"{median:.2f} ms median, {high:.2f} ms 95th percentile"


def _sized(whole: Outcomes, rows: int, members: int) -> Outcomes:
    """The table at another size: prompts and members repeat under other names."""
    many = whole.rows([i % len(whole.ids) for i in range(rows)])
    prompts = tuple(f"{p}\n{i // len(whole.ids)}" for i, p in enumerate(many.prompts))
    names = [whole.models[i % len(whole.models)] for i in range(members)]
    wide = many.only(names)
    models = tuple(f"{name} {i}" for i, name in enumerate(names))
    return replace(wide, prompts=prompts, models=models)


SECTIONS: dict[str, tuple[Row, Callable[[], Iterator[Row]]]] = {
    "Routing between two models: the pair of RouteLLM": (
        ("data", "router", "APGR", "CPT 50 / 80"),
        pair_mmlu,
    ),
    "Routing between two models, arithmetic": (
        ("data", "router", "APGR", "CPT 50 / 80"),
        pair_gsm8k,
    ),
    "Routing between seven models: RouterDC": (
        ("data", "router", "in distribution", "out of distribution"),
        seven,
    ),
    "How far estimates can be trusted, on held-out folds": (
        ("data", "Brier", "ECE", "AUC"),
        calibrated,
    ),
    "A new member, placed by probes": (("estimates", "Brier", "AUC"), placed),
    "Speed of estimates": (("what", "time"), speed),
}


def main() -> None:
    for title, (header, rows) in SECTIONS.items():
        try:
            found = list(rows())
        except left_data.Missing as missing:
            print(f"{title}: {missing}")
            continue
        print(f"\n### {title}\n\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
        for row in found:
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
