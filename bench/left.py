"""The left hemisphere on recorded answers of real models: every data set, into the docs.

    make bench-left                        # all parts, hours on two cores
    .venv/bin/python bench/left.py A bfcl  # these; the others keep what they last said

Each part is a script of its own that prints Markdown; what it prints is kept in .bench/left, and
docs/measurements.md is brought up to date from that. The data is in the folder that BICAMERAL_DATA
names, by default ../shared/data; a part without its data says so and is left out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
KEPT = HERE.parent / ".bench" / "left"
PAGE = HERE.parent / "docs" / "measurements.md"
BEGIN, END = "<!-- make bench-left -->", "<!-- end of make bench-left -->"
PARTS: dict[str, list[str]] = {
    **{pool: ["left_mmlu.py", pool] for pool in "ABCD"},
    "cascade": ["left_mmlu.py", "A-cascade"],
    "again-A": ["left_mmlu.py", "A", "--again"],
    "again-C": ["left_mmlu.py", "C", "--again"],
    **{name: ["left_more.py", name] for name in ("zeroeval", "bfcl", "swebench")},
    "routing": ["left_routing.py"],
    "answers": ["left_answers.py"],
    "sure": ["left_sure.py"],
}


def run(name: str) -> None:
    """Run a part and keep what it prints; a part that fails says so and keeps nothing."""
    print(f"{name} …", flush=True)
    command = [sys.executable, str(HERE / PARTS[name][0]), *PARTS[name][1:]]
    single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **single}, check=False
    )
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        raise SystemExit(f"{name} failed")
    print(done.stdout)
    if "|" in done.stdout:
        (KEPT / f"{name}.md").write_text(done.stdout.strip() + "\n", encoding="utf-8")


def compose() -> None:
    """The part of the page between the marks, from what the parts last printed."""
    texts = []
    for name, argv in PARTS.items():
        kept = KEPT / f"{name}.md"
        if kept.exists() and (text := kept.read_text(encoding="utf-8").strip()):
            texts.append(f"<!-- python bench/{' '.join(argv)} -->\n\n{text}\n")
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(f"{head}{BEGIN}\n\n" + "\n".join(texts) + f"\n{END}{tail}", encoding="utf-8")


def main() -> None:
    """The parts that are named, by default all, then the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; by default all")
    asked = parser.parse_args().parts
    for name in asked:
        if name not in PARTS:
            parser.error(f"there is no part '{name}': {', '.join(PARTS)}")
    KEPT.mkdir(parents=True, exist_ok=True)
    for name in asked or PARTS:
        run(name)
    compose()


if __name__ == "__main__":
    main()
