"""The members of the live benchmark: local networks, one of them at two efforts.

A member is a network and an effort. The effort is set by its chat template, which puts worked
examples before every request, so that the same weights are two members that any mind can weigh
against each other. The examples stay in the prompt cache and cost nothing after the first question.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from bicameral import Config, Request
from bicameral.types import Sampling

# Question, how to get there, answer: one of each kind asked, none of them made by a generator.
EXAMPLES = (
    (
        "State the final answer to the following arithmetic problem: 12 + 30 - 5 =",
        "12+30=42; 42-5=37",
        "37",
    ),
    (
        "State the final answer to the following arithmetic problem: 7 - 9 + 4 - 1 =",
        "7-9=-2; -2+4=2; 2-1=1",
        "1",
    ),
    (
        "Find the Greatest Common Divisor (GCD) of these numbers: 8, 12. "
        "Give only the GCD as your final answer.",
        "8=4*2; 12=4*3",
        "4",
    ),
    ("Find the Least Common Multiple (LCM) of these numbers: 4, 6", "6 no; 12=4*3", "12"),
    ("Solve for x: 4*x + 3 = 23", "4*x=23-3=20; x=20/4", "5"),
    ("Find the value of y in the equation: 9 - 2*y = 3", "2*y=9-3=6; y=6/2", "3"),
    ("2, 5, 8, 11, ?", "+3 +3 +3; 11+3", "14"),
    ("3, 6, 12, 24, ?", "*2 *2 *2; 24*2", "48"),
    (
        "Your task is to count how many legs there are in total when given a list of animals.\n\n"
        "Now, how many legs are there in total if you have 2 dogs, 3 ants?",
        "2*4=8; 3*6=18; 8+18=26",
        "26",
    ),
    (
        'How many times does the letter "e" appear in the text: "we see the"?',
        "we 1; see 2; the 1",
        "4",
    ),
    (
        'How many times does the letter "t" appear in the text: "his hat"?',
        "his 0; hat 1",
        "1",
    ),
    (
        "Ann loves tea. Bob hates rain. \nWho hates rain? Reply only with a name.",
        "Bob hates rain",
        "Bob",
    ),
)

_QUICK = "Reply with 'Answer:' and the answer only."
_STEPS = "Work it out in a few short steps, then write 'Answer:' and the answer."
_SAMPLING = Sampling(temperature=0, max_tokens=48, stop=("\n",), logprobs=True)


def request(prompt: str, id: str = "") -> Request:
    """What every member is asked, whoever it is."""
    return Request.ask(prompt, sampling=_SAMPLING, id=id)


def members() -> dict[str, dict[str, Any]]:
    """Name to [models.NAME] table."""
    quick = [(question, f"Answer: {answer}") for question, _, answer in EXAMPLES]
    steps = [(question, f"{way}. Answer: {answer}") for question, way, answer in EXAMPLES]
    return {
        "smollm2-quick": _table("smollm2-135m", _template(_QUICK, quick, "Answer:")),
        "qwen-quick": _table("qwen2.5-coder-1.5b", _template(_QUICK, quick, "Answer:")),
        "qwen-steps": _table("qwen2.5-coder-1.5b", _template(_STEPS, steps, "")),
    }


def choir() -> dict[str, tuple[dict[str, Any], float]]:
    """Who writes an answer together by the token, with its table and its weight; the first leads.

    The base model is too weak to answer alone; its tokens are cut unlike the others'.
    """
    shown = "".join(f"Question: {asked}\nAnswer: {answer}\n\n" for asked, _, answer in EXAMPLES)
    loop = "{% for message in messages %}Question: {{ message['content'] }}\n{% endfor %}Answer:"
    gemma = _table("gemma-3-270m", shown + loop)
    recorded = members()
    return {
        "qwen-quick": (recorded["qwen-quick"], 0.6),
        "smollm2-quick": (recorded["smollm2-quick"], 0.2),
        "gemma-quick": (gemma, 0.2),
    }


def config(tables: Mapping[str, Mapping[str, Any]], threads: int) -> Config:
    """A config of these members, each on so many threads."""
    models = {name: {**table, "threads": threads} for name, table in tables.items()}
    return Config(models=models, source="bench/live.py")


def digest(*more: Any) -> str:
    """Changes with whatever changes an answer: the members, the sampling, and `more`."""
    return hashlib.sha256(msgspec.json.encode((members(), _SAMPLING, more))).hexdigest()[:12]


def _table(weights: str, template: str) -> dict[str, Any]:
    return {"engine": "llama_cpp", "weights": weights, "context": 2048, "chat_template": template}


def _template(system: str, turns: list[tuple[str, str]], begun: str) -> str:
    """ChatML, which both networks speak; `begun` is written before the model goes on."""
    shown = _turn("system", system)
    shown += "".join(_turn("user", question) + _turn("assistant", said) for question, said in turns)
    asked = _turn("{{ message['role'] }}", "{{ message['content'] }}")
    loop = "{% for message in messages %}" + asked + "{% endfor %}"
    return shown + loop + "<|im_start|>assistant{{ '\\n' }}" + begun


def _turn(role: str, text: str) -> str:
    return f"<|im_start|>{role}\n{text}<|im_end|>\n"
