"""Answers that say the same get the same key; what says nothing gets none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bicameral.left import answers
from bicameral.left.answers import Kind, key, kind, normalised, read
from bicameral.types import JsonFormat, Request

untimed = settings(deadline=None)
KINDS: tuple[Kind, ...] = ("choice", "number", "exact", "json", "code", "text")
CAPITAL = "What is the capital of France?\nA. Lyon\nB. Paris\nC. Nice\nD. Lille"


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (Request.ask("Give me a user", format=JsonFormat()), "json"),
        (Request.ask(CAPITAL), "choice"),
        (Request.ask("Is 7 prime? Answer yes or no."), "choice"),
        (Request.ask("Write a Python function that reverses a list"), "code"),
        (Request.ask("def f(x): return x + 1\nWhat does f(3) return?"), "exact"),
        (Request.ask("Tom has two cats. What's the total price if a cat costs $3?"), "number"),
        (Request.ask("How many legs do 3 cats have?"), "number"),
        (Request.ask("Compute 17 * 3"), "number"),
        (Request.ask(r"Solve $x^2 = y$ for $x$"), "exact"),
        (Request.ask("Tell me about the sea"), "text"),
    ],
)
def test_the_kind_is_guessed_from_the_request(request_, expected):
    assert kind(request_) == expected


@pytest.mark.parametrize(
    "said",
    [
        "42",
        "The answer is 42.",
        "**42**",
        "So 6 * 7 = 42 apples",
        r"Thus $x = \boxed{42}$.",
        "6 times 7\n#### 42",
        '```json\n{"reasoning": "6 * 7", "answer": "42"}\n```',
        "Answer: $42.00",
        "<think>The answer is 41? No.</think>The answer is 42",
    ],
)
def test_a_number_is_found_wherever_it_is_said(said):
    assert key("number", "How many?", said) == "42"


@pytest.mark.parametrize("same", ["1,000", "1000", "1e3", "$1000", "1000.0", "10^3", "2000/2"])
def test_numbers_are_equal_by_value(same):
    if same == "10^3":
        same = r"1 \times 10^3"
    assert key("number", "How much?", f"The answer is {same}") == "1000"


def test_a_percent_sign_is_a_unit_only_where_percent_is_asked():
    assert key("number", "What percentage?", "50%") == key("number", "What percentage?", "50")
    assert key("number", "What part?", "50%") == key("number", "What part?", "1/2") == "0.5"


@pytest.mark.parametrize(
    "same",
    [
        [r"\frac{1}{2}", "1/2", "0.50", r"\dfrac12", r"\left( \frac{1}{2} \right)"],
        [r"x=\frac{3\sqrt{5}}{2}", r"3\sqrt{5}/2", r"$\dfrac{3 \sqrt 5}{2}$"],
        [r"(3, \frac{\pi}{2})", r"\left(3, \pi/2\right)"],
        ["x^{2}+1", "x^2 + 1.0", "x² + 1"],
        ["The Eiffel Tower", "eiffel tower.", r"\text{the Eiffel tower}"],
        ["90^\\circ", "90 degrees", "90°", "90"],
        ["[(4, 1), (2, 3)]", "[(4,1),(2,3)]"],
    ],
)
def test_exact_answers_in_many_spellings(same):
    assert len({key("exact", "Find x", f"The answer is {s}") for s in same}) == 1


def test_different_results_stay_different():
    said = ["x+1", "x-1", "1/2", "2", "-2", "(1,2)", "(2,1)", "0.3", "1/3", "sqrt(2)", "2^10"]
    assert len({key("exact", "Find x", s) for s in said}) == len(said)


def test_json_is_equal_by_value_and_asides_do_not_count():
    one = key("json", "", '{"a": 1.0, "b": [2], "reasoning": "because"}')
    assert one == key("json", "", 'Sure:\n```json\n{"b":[2],"a":1,"reasoning":"so"}\n```')
    assert one != key("json", "", '{"a": 1, "b": [3]}')
    assert key("json", "", "no JSON at all") is None
    assert key("json", "", '{"a": NaN}') is None


def test_code_is_equal_but_for_layout_and_comments():
    one = key("code", "", "Here:\n```python\ndef f( x ):\n    # adds\n    return x+1\n```")
    assert one == key("code", "", "def f(x):\n  return x + 1\n")
    assert one != key("code", "", "def f(x):\n  return x + 2\n")
    assert key("code", "", "if a:\n  b()\n  c()") != key("code", "", "if a:\n  b()\nc()")
    assert key("code", "", "x = '# no comment'") != key("code", "", "x = '# other'")


@pytest.mark.parametrize(
    "nothing",
    [
        "",
        "   \n",
        "I don't know.",
        "I'm sorry, but I cannot answer that.",
        "The answer cannot be determined from the given information.",
        "The answer is not listed in the options.",
        "<think>the answer is B",
    ],
)
@pytest.mark.parametrize("of", ["choice", "number", "exact"])
def test_who_says_nothing_abstains(of, nothing):
    assert key(of, CAPITAL, nothing) is None


def test_text_is_equal_without_case_marks_and_articles():
    assert key("text", "", "The answer is Paris.") == key("text", "", "paris")
    assert key("text", "", "The sea is blue!") == key("text", "", "the SEA is blue")
    assert key("text", "", "I don't know") is None


def test_an_aside_in_a_long_text_is_not_what_it_says():
    essays = [
        f"The answer is simple. {topic} " + f"It {topic} so. " * 60 for topic in ("rains", "snows")
    ]
    assert len({key("text", "", essay) for essay in essays}) == 2


def test_answers_in_chinese():
    asked = "下列哪个是首都？\nA、上海\nB．北京\nC：广州"
    assert kind(Request.ask(asked)) == "choice"
    said = ["答案是B。", "因此，答案为：B", "故选（B）。", "B．北京", "A不对。所以选B。", "北京"]
    assert [key("choice", asked, text) for text in said] == ["B"] * len(said)
    assert key("choice", asked, "我不知道") is None
    assert key("number", "一共有多少个？", "3+4，所以答案是7个苹果。") == "7"
    assert key("number", "一共有多少个？", "一共7个") == "7"


def test_the_place_of_the_answer_is_known():
    text = "Let me see. The answer is (B), Paris."
    said = read("choice", CAPITAL, text)
    assert said is not None
    assert text[said.start : said.end] == "B"
    long = "x " * 100_000 + "\nThe answer is 17"
    said = read("number", "How many?", long)
    assert said is not None
    assert long[said.start : said.end] == "17"


@untimed
@given(st.integers(-(10**15), 10**15), st.sampled_from(["{}", "{}.0", "{:,}", "${:,}", " {} km"]))
def test_any_integer_keeps_its_value(number, form):
    assert key("number", "How many?", "The answer is " + form.format(number)) == str(number)


@untimed
@given(st.fractions(max_denominator=1000))
def test_a_fraction_equals_its_latex(number):
    a, b = number.numerator, number.denominator
    spelled = [f"{a}/{b}", rf"\frac{{{a}}}{{{b}}}", rf"$\dfrac{{{a}}}{{{b}}}$"]
    assert len({key("exact", "", text) for text in spelled}) == 1


# What results are made of, so that marks meet often.
COMMANDS = ("\\frac", "\\sqrt", "\\pi", "\\text", "\\left", "\\,", "\\circ", "\\%", "\\cdot")
WORDS = ("1", "0.50", "2,000", "e3", "cm", "million", "nan", "Paris", "true", "the ")
PIECES = st.sampled_from([*"+-/^{}()[],.=%$*x ²°π'\"\n", *WORDS, *COMMANDS])


@untimed
@given(
    st.sampled_from(["number", "exact", "json"]), st.lists(PIECES | st.characters(), max_size=12)
)
def test_the_key_of_a_key_is_the_key(of, pieces):
    once = key(of, "", "".join(pieces))
    if once is not None:
        assert key(of, "", once) == once


@untimed
@given(st.text(max_size=60))
def test_plain_words_stay_as_they_are(text):
    assert normalised(normalised(text)) == normalised(text)


@untimed
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_json_survives_its_own_spelling(value):
    assert key("json", "", json.dumps(value)) == key("json", "", json.dumps(value, indent=2))


HOSTILE = [
    "A " * 300_000,
    "(" * 600_000,
    "[" * 600_000,
    '{"a":' * 150_000,
    "\\frac{" * 150_000,
    "answer is " * 100_000,
    "answer" * 150_000,
    '"' * 600_000,
    "```\n" * 200_000,
    "<think>" * 100_000,
    "1" * 600_000,
    "1," * 300_000,
    "\n" * 600_000,
    " " * 600_000 + "x",
    "/*" * 300_000,
    "'''" * 200_000 + '"""',
    '\\"' * 300_000,
    "$" * 600_000,
    "\\boxed{" * 100_000,
    "A. \nB. \n" * 80_000,
    "1" + " " * 600_000 + "#",
    "The answer is (A)." + "\n" * 20_000 + "The answer is (B).",
    "\\(" * 300_000,
    "1,111" * 100_000,
]


@pytest.mark.parametrize("of", KINDS)
@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:8].strip() or "blank")
def test_hostile_text_is_read_to_its_end(of, text):
    assert isinstance(key(of, CAPITAL, text), str | None)
    assert isinstance(key(of, text, "The answer is B"), str | None)
    kind(Request.ask(text))


@untimed
@given(st.sampled_from(KINDS), st.text(max_size=200), st.text(max_size=200))
def test_any_text_is_read(of, prompt, text):
    assert isinstance(key(of, prompt, text), str | None)


def test_json_kept_whole_stays_normalised():
    assert normalised('{"b": 1, "a": [2]}') == normalised('{"a":[2],"b":1.0}')
    assert answers.normalised("[1] is a footnote") == "1 is footnote"
