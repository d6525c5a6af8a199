"""How sure a small local model sounds on plain questions, and whether it was right.

`python bench/confidence.py [NAME]` asks thirty questions at temperature 0 and prints a table for
docs/measurements.md. Right means that a reference word stands in the answer, by itself.
"""

from __future__ import annotations

import asyncio
import re
import sys

from bicameral import Brain, Config, Request, collect
from bicameral.left.score import confidence
from bicameral.types import Sampling

QUESTIONS = """
What is 2+2? | 4|four
What is the capital of Italy? | Rome
What is the capital of Japan? | Tokyo
What is the capital of France? | Paris
What is the capital of Spain? | Madrid
Who was the first president of the United States? | Washington
What is the opposite of hot? | cold
How many days are in a week? | 7|seven
What is the chemical symbol for water? | H2O
What is the chemical symbol for gold? | Au
What planet do we live on? | Earth
Which animal says meow? | cat
What language is spoken in Brazil? | Portuguese
Who painted the Mona Lisa? | Leonardo
What is the boiling point of water in Celsius? | 100|100.0
In which continent is Egypt? | Africa
Name the largest ocean. | Pacific
What do bees make? | honey
What is the currency of Japan? | yen
Which is bigger, the sun or the moon? | sun is
How many minutes are in an hour? | 60|sixty
Where is the Eiffel Tower? | Paris
How many legs does a spider have? | 8|eight
What is the largest planet? | Jupiter
Who wrote Hamlet? | Shakespeare
What color is the sky? | blue
What is 10 minus 3? | 7|seven
What is the first month of the year? | January
How many continents are there? | 7|seven
Translate 'good morning' into French. | bonjour
"""


async def main(name: str) -> None:
    config = Config(models={name: {"engine": "llama_cpp", "weights": name}})
    sampling = Sampling(temperature=0, max_tokens=64, logprobs=True)
    rows = []
    async with Brain.open(config) as brain:
        for line in QUESTIONS.strip().splitlines():
            question, _, words = line.partition(" | ")
            answer = await collect(brain.model(name), Request.ask(question, sampling=sampling))
            right = any(
                re.search(rf"\b{re.escape(word)}\b", answer.text, re.IGNORECASE)
                for word in words.split("|")
            )
            rows.append((confidence(answer) or 0.0, answer.reason == "stop", right))
    print(f"{name}: {sum(right for *_, right in rows)} of {len(rows)} right\n")
    print("| threshold | stops at | right among them |\n|---|---|---|")
    for threshold in (0.6, 0.65, 0.7, 0.75, 0.8, 0.85):
        sure = [right for score, whole, right in rows if whole and score >= threshold]
        print(f"| {threshold} | {len(sure)} of {len(rows)} | {sum(sure)} of {len(sure)} |")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "smollm2-135m"))
