"""Prometheus' text format, version 0.0.4: heads, labels and histograms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def head(name: str, kind: str, what: str) -> tuple[str, str]:
    """The two lines before a metric's series."""
    return f"# HELP {name} {what}", f"# TYPE {name} {kind}"


def series(name: str, value: int | str, **labels: str) -> str:
    """One line."""
    pairs = ",".join(f'{label}="{_escape(text)}"' for label, text in labels.items())
    return f"{name}{{{pairs}}} {value}" if pairs else f"{name} {value}"


def histogram(
    name: str, bounds: Sequence[float], counts: Sequence[int], total: int | str, **labels: str
) -> Iterator[str]:
    """A histogram's lines: `counts` are those of each bucket alone, one more than `bounds`."""
    up_to = 0
    for bound, count in zip((*bounds, "+Inf"), counts, strict=True):
        up_to += count
        yield series(f"{name}_bucket", up_to, **labels, le=str(bound))
    yield series(f"{name}_sum", total, **labels)
    yield series(f"{name}_count", up_to, **labels)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
