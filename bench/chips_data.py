"""Published serving measurements as rows for the planner, with the tables' known defects mended.

The folder is named by BICAMERAL_DATA; nothing of it is copied.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from chips_models import CONFIGS, network
from left_data import folder

from bicameral.chips.catalogue import shipped
from bicameral.chips.chip import Chip
from bicameral.chips.network import Network
from bicameral.chips.roofline import Layout, Load, Precision

PLANNER_MODELS = ("Llama-3.1-8B", "Llama-3.1-70B", "Qwen3-32B", "gpt-oss-120b")
PLANNER_CHIPS = ("h100-sxm", "h200-sxm", "b200-sxm")
_NODE = 8  # chips that one replica of an aggregated run can have had


@dataclass(frozen=True)
class Row:
    """One measured point. `token` and `first` in seconds."""

    id: str
    model: str
    chip: str
    engine: str
    stated: str
    layout: Layout
    load: Load
    token: float
    first: float
    mended: bool

    @property
    def network(self) -> Network:
        return network(self.model)

    @property
    def chip_(self) -> Chip:
        return shipped().chips[self.chip]

    @property
    def precision(self) -> Precision:
        return precision(self.model, self.stated)

    @property
    def planner(self) -> bool:
        return self.model in PLANNER_MODELS and self.chip in PLANNER_CHIPS


def precision(model: str, stated: str) -> Precision:
    """Formats of the weights: 4-bit checkpoints of experts leave the rest in 16 bits."""
    experts = "fp4" if model.startswith("gpt-oss") else stated
    four = experts in ("fp4", "int4") and network(model).experts > 0
    return Precision(weights="bf16" if four else stated, experts=experts)


def silicon(*, mend: bool = True) -> tuple[list[Row], Counter[str]]:
    """The aggregated runs of the silicon sample, and what was done to how many rows.

    Without `mend` only exact repeats go, and layouts are as they are labelled.
    """
    table = pl.read_csv(folder("chips") / "aic_silicon_sample.csv.gz", infer_schema_length=10_000)
    told = [c for c in table.columns if c not in ("id", "silicon_data_source")]
    found = table.filter(pl.col("mode") == "agg")
    done = Counter(read=len(found))
    found = found.unique(told, keep="first", maintain_order=True)
    done["repeats, exact"] = done["read"] - len(found)
    rows, seen = [], set()
    for record in found.iter_rows(named=True):
        row = _silicon(record, mend)
        if not mend:
            rows.append(row)
        elif row.layout.chips > _NODE:
            done["more chips than a node has: whole pools"] += 1
        elif _measured(row) in seen:
            done["repeats, of one measurement under two layouts or rounded"] += 1
        else:
            seen.add(_measured(row))
            rows.append(row)
    done["layout mended"] = sum(r.mended for r in rows)
    return rows, done


def _measured(row: Row) -> tuple[object, ...]:
    """What two records of one measurement share."""
    where = (row.model, row.chip, row.engine, row.stated, row.layout, row.load)
    return *where, round(row.token, 5), round(row.first, 3)


def _silicon(record: dict[str, Any], mend: bool) -> Row:
    layout, concurrency, mended = _layout(record, mend)
    return Row(
        id=record["id"],
        model=next(m for m in CONFIGS if m in record["model_path"]),
        chip=record["system"].replace("_", "-"),
        engine=record["backend"],
        stated=record["precision"] or "bf16",
        layout=layout,
        load=Load(concurrency=concurrency, read=record["isl"], written=record["osl"]),
        token=record["silicon_tpot_ms"] / 1e3,
        first=record["silicon_ttft_ms"] / 1e3,
        mended=mended,
    )


def _layout(record: dict[str, Any], mend: bool) -> tuple[Layout, float, bool]:
    """Chips, requests in flight in the replica, and whether the record had to be mended.

    Records from InferenceX multiply the two sizes of a replica that has both tensor and expert
    parallelism: 64 = 8 x 8 is one node of 8. The same measurement is there under both readings.
    """
    tensor = record["tp_size"]
    data = record["attention_dp_size"] or 1
    inner, experts = record["moe_tp_size"] or 1, record["moe_ep_size"] or 1
    batch = record["batch_size"]
    product = tensor * data
    foreign = mend and re.search(r"source_file=2026|db-dump", record["silicon_data_source"])
    if foreign and inner == experts > 1 and product == inner * experts:
        if data > 1:
            return Layout(data=experts, experts=experts), batch * data, True
        return Layout(tensor=experts, experts=experts), batch, True
    if foreign and tensor == data > 1:
        return Layout(data=data, experts=data), batch * data, True
    if mend and record["attention_dp_size"] is None and inner * experts > tensor:
        return Layout(tensor=tensor, data=inner * experts // tensor, experts=experts), batch, True
    return Layout(tensor=tensor, data=data, experts=experts), batch * data, False


def apart() -> list[Row]:
    """Decoding workers of disaggregated runs, where their batch is stated; exact repeats gone."""
    table = pl.read_csv(folder("chips") / "aic_silicon_sample.csv.gz", infer_schema_length=10_000)
    told = [c for c in table.columns if c not in ("id", "silicon_data_source")]
    stated = pl.col("decode_batch_size").is_not_null() & pl.col("decode_num_workers").is_not_null()
    found = table.filter((pl.col("mode") == "disagg") & stated)
    return [_decoding(r) for r in found.unique(told, maintain_order=True).iter_rows(named=True)]


def _decoding(record: dict[str, Any]) -> Row:
    names = ("batch_size", "tp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")
    return _silicon(record | {name: record[f"decode_{name}"] for name in names}, False)


# GPUStack's lab: what its pages' folders are, and what is known to be wrong there.
_PAGES = {
    "deepseek-r1": ("DeepSeek", "fp8"),
    "deepseek-v3.2": ("DeepSeek", "fp8"),
    "glm-4.5-air": ("GLM-4.5-Air", "bf16"),
    "glm-4.x": ("GLM-4.6", "fp8"),
    "gpt-oss-120b": ("gpt-oss-120b", "fp4"),
    "gpt-oss-20b": ("gpt-oss-20b", "fp4"),
    "qwen3-14b": ("Qwen3-14B", "bf16"),
    "qwen3-235b-a22b": ("Qwen3-235B", "bf16"),
    "qwen3-30b-a3b": ("Qwen3-30B-A3B", "bf16"),
    "qwen3-32b": ("Qwen3-32B", "bf16"),
    "qwen3-8b": ("Qwen3-8B", "bf16"),
}
_BATCHED = 1024  # sequences that engines take at once on such chips unless told otherwise


@dataclass(frozen=True)
class Lab:
    """One row of GPUStack's lab; `rate` output tokens a second, `token` seconds."""

    row: Row
    rate: float
    saturated: bool


def lab() -> Iterator[Lab]:
    table = pl.read_csv(folder("chips") / "gpustack_perf_lab.csv", infer_schema_length=10_000)
    seen = set()
    for n, record in enumerate(table.iter_rows(named=True)):
        told = (record["file"], record["out_tps"], record["tpot"])
        if told not in seen and not _wrong(record):
            seen.add(told)
            yield _lab(n, record)


def _wrong(record: dict[str, Any]) -> bool:
    """Copies under the wrong page, and pages that disagree with each other."""
    page, rate = record["file"], record["out_tps"]
    command = (record["serve"] or "").lower()
    if page.startswith("glm-4.5-air") and rate in (20.02, 24.58):
        return True
    if page == "qwen3-8b/910b.md" and record["tin"] > 3e6 and "mindie" in command:
        return True
    sized = re.search(r"qwen3-(\d+b)", command)
    return bool(sized and not page.startswith(f"qwen3-{sized[1]}"))


def _lab(n: int, record: dict[str, Any]) -> Lab:
    page, file = record["file"].split("/")
    model, stated = _PAGES[page]
    command = record["serve"] or ""
    stated = next((q for q in ("fp8", "int8") if _says(command, q)), stated)
    at_once = record["conc"] or record["n"]
    row = Row(
        id=f"{record['file']} row {n}",
        model=model,
        chip={"a100": "a100-sxm-80", "910b": "ascend-910b"}.get(
            file.split(".")[0].split("-")[0], f"{file.split('.')[0].split('-')[0]}-sxm"
        ),
        engine=_engine(command),
        stated=stated,
        layout=_parallel(command, record["hardware"]),
        load=Load(
            concurrency=min(float(at_once), _BATCHED),
            read=record["tin"] / record["n"],
            written=record["tout"] / record["n"],
        ),
        token=record["tpot"] / 1e3,
        first=record["ttft"] / 1e3,
        mended=False,
    )
    return Lab(row, record["out_tps"], at_once >= record["n"])


def _says(command: str, dtype: str) -> bool:
    words = {"fp8": ("fp8",), "int8": ("w8a8", "int8")}[dtype]
    return any(word in command.lower() for word in words)


def _engine(command: str) -> str:
    known = {"sglang": "sglang", "trtllm": "trtllm", "vllm": "vllm"}
    return next((name for word, name in known.items() if word in command), "mindie")


def _parallel(command: str, hardware: str) -> Layout:
    """Tensor and data parallelism as the command says; one chip where it is silent."""
    tensor = re.search(r"(?:-tp|--tp-size|--tp_size|--tensor-parallel-size|--tp)[ =](\d+)", command)
    data = re.search(r"(?:--dp-size|--dp|--data-parallel-size|-dp)[ =](\d+)", command)
    ways, groups = int(tensor[1]) if tensor else 1, int(data[1]) if data else 1
    if "enable-dp-attention" in command:
        ways = max(1, ways // groups)
    expert = "--ep" in command or "--enable-expert-parallel" in command
    return Layout(tensor=ways, data=groups, experts=ways * groups if expert else 1)


# MLPerf: mean tokens read and written by its data sets (remembered, not in the table), and the
# limits of the Server scenario: seconds to the first token, and for each one after it.
_WORKLOADS = {
    "llama2-70b-99": ("Llama-2-70B", 294, 295),
    "llama2-70b-99.9": ("Llama-2-70B", 294, 295),
    "llama3.1-405b": ("Llama-3.1-405B", 9428, 684),
    "llama3.1-8b": ("Llama-3.1-8B", 778, 128),
    "mixtral-8x7b": ("Mixtral-8x7B", 430, 145),
    "deepseek-r1": ("DeepSeek", 800, 3880),
}
_FORMATS = {"fp4": "fp4", "mxfp4": "fp4", "fp8": "fp8", "INT8": "int8", "INT4": "int4"} | {
    "UINT4": "int4"
}


@dataclass(frozen=True)
class Published:
    """One result of a whole system; `rate` tokens a second for each accelerator."""

    id: str
    model: str
    workload: str
    chips: tuple[str, ...]
    dtype: str | None
    scenario: str
    rate: float
    read: int
    written: int


def mlperf() -> tuple[list[Published], Counter[str]]:
    """Each distinct Offline and Server result in tokens; what is left out is counted."""
    table = pl.read_csv(folder("chips") / "mlperf_v5.1_llm.csv", infer_schema_length=10_000)
    found: dict[object, Published] = {}
    done = Counter(read=len(table))
    for record in table.iter_rows(named=True):
        why = _left_out(record)
        key = (record["id"], record["model"].removesuffix(".9"), record["scenario"])
        if why or key in found:
            done[why or "the same run at two accuracies"] += 1
        else:
            found[key] = _published(record)
    return list(found.values()), done


def _left_out(record: dict[str, Any]) -> str:
    if record["model"] == "whisper":
        return "whisper: no decoder-only language model"
    if record["scenario"] == "Interactive":
        return "Interactive: its latency limits are not in the table"
    if record["dtype"] == "UNSET":
        return "no number format stated"
    return "two kinds of chip in one result" if "), " in record["accel"] else ""


def _published(record: dict[str, Any]) -> Published:
    workload, read, written = _WORKLOADS[record["model"]]
    boards = 2 if "B60 Dual" in record["accel"] else 1
    count = (record["n_accel"] or 1) * record["nodes"] * boards
    return Published(
        id=record["id"],
        model=workload,
        workload=record["model"].removesuffix(".9"),
        chips=(_accelerator(record["accel"]),),
        dtype=_FORMATS.get(record["dtype"]),
        scenario=record["scenario"],
        rate=record["result"] / count,
        read=read,
        written=written,
    )


def _accelerator(name: str) -> str:
    if "B60" in name:
        return "arc-pro-b60"
    return shipped().chip(name).id


def there() -> Path:
    return folder("chips")
