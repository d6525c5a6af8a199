"""Teaches the mind that answers without a config file, and writes bicameral/left/embedded.npz.

`python bench/embedded.py` asks the two small models of the catalogue plain questions at
temperature 0, notes who was right, how sure, after how many seconds of processor time, and learns
from that. Right means that a reference word stands in the answer, by itself.
"""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import polars as pl
from confidence import QUESTIONS

from bicameral import Brain, Config, Request, collect
from bicameral.left.evidence import Evidence
from bicameral.left.learn import learn
from bicameral.left.table import tabulate
from bicameral.types import Sampling

MEMBERS = ("smollm2-135m", "qwen2.5-coder-1.5b")
FILE = Path(__file__).parents[1] / "bicameral" / "left" / "embedded.npz"
# What plain questions leave out: sums, Chinese, code, choices, short reasoning.
MORE = """
What is 17 + 5 - 8? | 14
What is 12 times 12? | 144
What is 81 divided by 9? | 9|nine
What is 45 + 38? | 83
What is 100 - 37? | 63
What is 7 times 8? | 56
What is half of 250? | 125
What is 15 % of 200? | 30
Tom has 3 boxes with 4 pens each. How many pens does he have? | 12|twelve
A train leaves at 9:00 and arrives at 11:30. How many minutes does it take? | 150
What comes next: 2, 4, 8, 16, ? | 32
Is 17 a prime number? Answer yes or no. | yes
Which is larger, 0.9 or 0.11? | 0.9
How many vowels are in the word "banana"? | 3|three
法国的首都是哪里？ | 巴黎
中国的首都是哪里？ | 北京
3 加 5 等于多少？ | 8|八
一周有几天？ | 7|七
水的化学式是什么？ | H2O|H₂O
"谢谢"用英语怎么说？ | thank you|thanks
太阳从哪边升起？ | 东|东边|东方
In Python, which function gives the length of a list? | len
In Python, what does 7 // 2 give? | 3
Which keyword defines a function in Python? | def
Which SQL keyword retrieves rows from a table? | SELECT
In Python, what is the result of "ab" * 2? | abab
Which Git command records changes in the repository? | commit
Which HTTP status code means not found? | 404
Which is a fruit? A. carrot B. apple C. potato. Answer with the letter. | B
Which is not a color? A. red B. table C. green. Answer with the letter. | B
If all cats are animals and Tom is a cat, is Tom an animal? Answer yes or no. | yes
Spell the word "cat" backwards. | tac
What is the plural of "child"? | children
What is the past tense of "go"? | went
"""


async def record() -> list[dict[str, Any]]:
    """Every question to both members, with what each answer shows."""
    config = Config(models={m: {"engine": "llama_cpp", "weights": m} for m in MEMBERS})
    sampling = Sampling(temperature=0, max_tokens=64, logprobs=True)
    rows = []
    async with Brain.open(config) as brain:
        for number, line in enumerate((QUESTIONS.strip() + "\n" + MORE.strip()).splitlines()):
            question, _, words = line.partition(" | ")
            request = Request.ask(question, sampling=sampling)
            for name in MEMBERS:
                worked = time.process_time()
                answer = await collect(brain.model(name), request)
                seen = await Evidence().read(request, answer)
                right = any(_stands(word, answer.text) for word in words.split("|"))
                rows.append(
                    {
                        "prompt_id": str(number),
                        "prompt": question,
                        "model": name,
                        "score": float(right),
                        "seconds": time.process_time() - worked,
                        "tokens_out": answer.usage.completion_tokens,
                        "confidence": seen.confidence,
                        "answer": seen.key,
                    }
                )
    return rows


def _stands(word: str, text: str) -> bool:
    edge = r"\b" if word.isascii() else ""
    return bool(re.search(rf"{edge}{re.escape(word)}{edge}", text, re.IGNORECASE))


def main() -> None:
    """Record, learn, write; print what was found."""
    outcomes = tabulate(pl.DataFrame(asyncio.run(record())), source="the questions")
    learned = learn(outcomes)
    learned.save(FILE)
    for member in learned.members:
        print(f"{member.name}: {member.quality:.2f} right, {member.seconds:.1f} s of processor")
    for arm in learned.arms:
        print(f"{arm.name}: {arm}")
    print(f"{len(outcomes.ids)} questions, {FILE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
