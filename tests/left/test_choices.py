"""Which option an answer commits to: letters, words, hedges, denials, run-ons."""

from __future__ import annotations

import pytest

from bicameral.left.choices import chosen, options

TEN = "Which?\n" + "\n".join(f"{c}. thing {i}" for i, c in enumerate("ABCDEFGHIJ"))
LAND = "Whose is it?\nOptions:\nA. The tenant's\nB. The owner's\nC. The owner's heirs\nD. Nobody's"
WORK = "It follows from the table that every other case is ruled out by the second condition. "


def label(prompt: str, text: str) -> str | None:
    found = chosen(options(prompt), text)
    return found.label if found else None


@pytest.mark.parametrize(
    ("prompt", "listed"),
    [
        ("Pick\nA. one\nB. two", {"A": "one", "B": "two"}),
        ("Pick\n(A) one\n(B) two\n", {"A": "one", "B": "two"}),
        ("Pick\n- **A)** one\n- **B)** two", {"A": "one", "B": "two"}),
        ("Pick: a) one, b) two, c) three", {"a": "one", "b": "two", "c": "three"}),
        ("Pick\nA: one\nB: two\nAnswer with a letter.", {"A": "one", "B": "two"}),
        ("Is it so? Answer yes or no.", {"yes": "yes", "no": "no"}),
        ("True or False: 2 is prime", {"true": "true", "false": "false"}),
        (
            "A. x\nB. y\n\nNow this\nA. one\nB. two\nC. three",
            {"A": "one", "B": "two", "C": "three"},
        ),
        ("选择 (A)一 (B)二", {"A": "一", "B": "二"}),
        ("Score 20 true/false questions", {}),
        ("Simplify (a - b)(a - c) + (b - a)(b - c)", {}),
        ("Plan A. is better than nothing", {}),
        ("1. first\n2. second", {}),
        ("", {}),
    ],
)
def test_options_are_those_listed_last(prompt, listed):
    assert options(prompt) == listed


@pytest.mark.parametrize(
    "text",
    [
        "C",
        "(C)",
        "**C**",
        "C. thing 2",
        "The answer is (C).",
        "The correct answer is:\n\nC. thing 2",
        "the answer is **(C)** thing 2",
        r"Thus the answer is \(\boxed{C}\).",
        r"\[ \boxed{\text{C}} \]",
        "Answer: C",
        "The closest available option is: C. thing 2",
        "It is not listed, but it is closest to (C).",
        "This corresponds to option C.",
        "Therefore (C) is the correct answer.",
        "The answer is not (A). The answer is (C).",
        "the answer is (c)",
        "It must be thing 2.",
        "The answer is thing 2.",
        "Option A is wrong and B is incorrect. So the correct choice is (C)",
        f"The answer is (A). Wait, that is wrong. {WORK}\nThe answer is (C).",
    ],
)
def test_a_commitment_is_read(text):
    assert label(TEN, text) == "C"


@pytest.mark.parametrize(
    "text",
    [
        "The answer is not (A).",
        "None of the options is right.",
        "A good question. I think about it often.",
        "Let A be the matrix and I the identity, so that A = 3.",
        "It is between B and D.",
        "The answer is unclear to me",
        "thing 1 or thing 2",
        "At 500 °F the pressure is high and 3 C flows",
    ],
)
def test_what_commits_to_nothing_is_none(text):
    assert label(TEN, text) is None


def test_words_choose_the_longer_of_two_options_that_contain_each_other():
    assert label(LAND, "The answer is the owner's heirs.") == "C"
    assert label(LAND, "The answer is the owner's.") == "B"


def test_a_list_of_letters_after_the_answer_does_not_take_it_back():
    ramble = f"{WORK}The answer is (B).\n\nNow, all answers:\nThe answer is (F)."
    assert label(TEN, ramble) == "B"
    assert label(TEN, "The answer is (B).\n\nThe answer is (H).\n\nThe answer is (D).") == "D"
    again = f"{WORK}The answer is (B).\n\nQuestion: what next?\n{WORK}\nThe answer is (E)."
    assert label(TEN, again) == "B"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Yes, because it is.", "yes"),
        ("**No**", "no"),
        ("It has no divisors. The answer is yes.", "yes"),
        ("There is no doubt that yes would be odd", None),
        ("Perhaps.", None),
    ],
)
def test_yes_or_no(text, word):
    assert label("Is 7 prime? yes or no", text) == word
