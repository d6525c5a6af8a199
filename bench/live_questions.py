"""The questions of the live benchmark: reasoning-gym's generators, its checkers, fixed seeds.

`import reasoning_gym` would run every generator's file, one of which (induction/acre) says it is
adapted from code under GPL-3.0, and would load matplotlib. So only the files that are used are
imported, under empty packages of the same names.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Mapping
from typing import Any

from msgspec import Struct


class Generator(Struct, frozen=True):
    """A file of reasoning_gym, the name it registers, and how hard its questions shall be."""

    name: str
    file: str
    options: Mapping[str, Any]


# Small enough that a 1.5B model is right now and then; short, as it reads 30 tokens a second.
GENERATORS = (
    Generator(
        "chain_sum",
        "arithmetic.chain_sum",
        {"min_terms": 3, "max_terms": 4, "min_digits": 1, "max_digits": 2},
    ),
    Generator(
        "leg_counting",
        "arithmetic.leg_counting",
        {"min_animals": 2, "max_animals": 2, "max_instances": 6},
    ),
    Generator("simple_equations", "algebra.simple_equations", {"max_terms": 3, "max_value": 15}),
    Generator(
        "number_sequence",
        "cognition.number_sequences",
        {"min_value": -20, "max_value": 50, "max_complexity": 1},
    ),
    Generator("gcd", "arithmetic.gcd", {"min_value": 2, "max_value": 99}),
    Generator("lcm", "arithmetic.lcm", {"min_value": 2, "max_value": 20}),
    Generator("letter_counting", "algorithmic.letter_counting", {"min_words": 1, "max_words": 3}),
    Generator(
        "needle_haystack",
        "cognition.needle_haystack",
        {"min_num_statements": 2, "max_num_statements": 3},
    ),
)

# Questions of every generator in each split, and the first seed: question i has that seed + i.
EACH = {"fit": 20, "test": 100}
SEEDS = {"fit": 1_000_000, "test": 2_000_000}
_SPARE = 3  # easy settings repeat themselves: look at this many times the questions wanted
_RIGHT = 0.99  # reasoning-gym also gives parts of a point for a wrong answer that looks like it


class Question(Struct, frozen=True):
    """One question; `entry` is reasoning-gym's own record, which `checked` needs."""

    id: str
    split: str
    category: str
    prompt: str
    entry: Mapping[str, Any]


def questions(split: str) -> dict[str, list[Question]]:
    """The questions of every generator; none of them twice, none of fit again in test."""
    return {g.name: _fresh(g, split) for g in GENERATORS}


def _fresh(generator: Generator, split: str) -> list[Question]:
    each = EACH[split]
    seen = {q.prompt for q in _fresh(generator, "fit")} if split == "test" else set()
    found: list[Question] = []
    for number, entry in enumerate(_dataset(generator, SEEDS[split], _SPARE * each)):
        prompt = entry["question"].strip()
        if prompt in seen or len(found) == each:
            continue
        seen.add(prompt)
        name = f"{split}/{generator.name}/{number}"
        found.append(Question(name, split, generator.name, prompt, entry))
    if len(found) < each:
        raise SystemExit(f"{generator.name} has only {len(found)} different questions")
    return found


def checked(question: Question, said: str) -> bool:
    """Whether reasoning-gym's own checker takes the answer for right."""
    generator = next(g for g in GENERATORS if g.name == question.category)
    return bool(_dataset(generator, 0, 1).score_answer(said, dict(question.entry)) >= _RIGHT)


def said(text: str) -> str:
    """The final answer in a text: what follows the last 'Answer:', else its first line."""
    rest = text.rpartition("Answer:")[2].strip()
    line = rest.split("\n", 1)[0]
    return re.sub(r"^[\s`*\"']+|[\s`*\"'.]+$", "", line)


def _dataset(generator: Generator, seed: int, size: int) -> Any:
    _load(f"reasoning_gym.{generator.file}")
    factory = importlib.import_module("reasoning_gym.factory")
    return factory.create_dataset(generator.name, seed=seed, size=size, **generator.options)


def _load(path: str) -> None:
    """Import one file of a package without running the package's own __init__."""
    parts = path.split(".")
    for depth in range(1, len(parts)):
        name = ".".join(parts[:depth])
        if name in sys.modules:
            continue
        spec = importlib.util.find_spec(name)
        if spec is None:
            raise SystemExit("the live benchmark needs reasoning-gym: pip install reasoning-gym")
        sys.modules[name] = importlib.util.module_from_spec(spec)
    importlib.import_module(path)
