"""A small workload, and changes of it."""

from __future__ import annotations

from bicameral.chips.workload import Workload
from bicameral.chips.workload_file import parse

LLAMA = """network = { num_hidden_layers = 32, hidden_size = 4096, num_attention_heads = 32, \
num_key_value_heads = 8, intermediate_size = 14336, vocab_size = 128256 }"""
LOAD = "[load]\nrequests_per_hour = 20000\ninput = 1024\noutput = 256"
GOAL = "[goal]\nfirst_token_s = 2.0\ntoken_s = 0.05"
H200 = '[[chips]]\nchip = "h200-sxm"\ncount = 8\nprice_per_hour = "3.50"'
H100 = '[[chips]]\nchip = "h100-sxm"\ncount = 8\nprice_per_hour = "2.00"'
CPU = '[[chips]]\nchip = "cpu"\ncount = 4\nper_node = 1\nprice_per_hour = "0.20"'
MODEL = f'[[models]]\nname = "small"\nprecisions = ["fp8"]\n{LLAMA}'
ENCODER = '[[models]]\nname = "eye"\nreads = "pictures"\nmoves = 1e6'


def row(model: str, chip: str, **values: object) -> str:
    known = {"date": "2026-11-01", "source": '"our lab"'} | values
    lines = "\n".join(f"{key} = {value}" for key, value in known.items())
    return f'[[measured]]\nmodel = "{model}"\nchip = "{chip}"\n{lines}'


def work(*parts: str, load: str = LOAD, goal: str = GOAL, model: str = MODEL) -> Workload:
    return parse("\n".join((load, goal, model, *parts)), "w.toml")
