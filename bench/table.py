"""The README's tables of figures, from the JSON of the benchmarks beside: ``python bench/table.py``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
COLUMNS = {"reference": "reference", "compiled": "`torch.compile`", "matmul": "eager, products", "lstm": "`nn.LSTM`"}
NAMES = {"step": "step alone", "episode": "training step", "copy": "training step, NTM"}


def rows(benchmark: str) -> list[str]:
    """One line for each batch and thread count: time an episode, and each contestant's time as a multiple of it."""
    report: dict[str, Any] = json.loads((RESULTS / f"cpu-{benchmark}.json").read_text())
    measured: dict[tuple[int, int], dict[str, dict[str, Any]]] = {}
    for row in report["rows"]:
        measured.setdefault((row["B"], row["threads"]), {})[row["name"]] = row
    lines = []
    for (B, threads), named in measured.items():
        fused = 1e6 / named["cpp"]["episodes_per_second"]
        ratios = [f"{named[name]['ratio_to']['cpp']:.2f}" if name in named else "" for name in COLUMNS]
        lines.append(f"| {NAMES[benchmark]} | {B} | {threads} | {fused:,.0f} us | " + " | ".join(ratios) + " |")
    return lines


def table() -> str:
    """The whole table in Markdown."""
    head = f"| forward + backward | B | threads | mannkern, per episode | {' | '.join(COLUMNS.values())} |"
    lines = [line for benchmark in NAMES for line in rows(benchmark)]
    return "\n".join([head, "|---" * head.count(" | ") + "|---|", *lines])


def gpu_table(report: dict[str, Any]) -> str:
    """What one GPU measured: mannkern's time, its share of the bound, and others' time as multiples of it."""
    ours = ("triton", "triton, graph", "scan", "scan, graph")
    measured: dict[tuple[str, int], dict[str, dict[str, Any]]] = {}
    for row in report["rows"]:
        measured.setdefault((row["what"], row["B"]), {})[row["name"]] = row
    others = list(dict.fromkeys(row["name"] for row in report["rows"] if row["name"] not in ours))
    head = f"| {report['gpu']} | B | mannkern | of the bound | {' | '.join(others)} |"
    lines = [head, "|---" * head.count(" | ") + "|---|"]
    for (what, B), named in measured.items():
        best = min((named[name] for name in ours if name in named), key=lambda row: row["seconds"], default=None)
        if best is None:
            continue
        ratios = [f"{named[name]['seconds'] / best['seconds']:.2f}" if name in named else "" for name in others]
        figures = f"{1e6 * best['seconds']:,.0f} us | {100 * best['of_bound']:.0f}%"
        lines.append(f"| {what} | {B} | {figures} | {' | '.join(ratios)} |")
    return "\n".join(lines)


def gpu_tables() -> list[str]:
    """Of every GPU whose results are here."""
    reports = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))]
    return [gpu_table(report) for report in reports if report.get("benchmark") == "gpu" and "rows" in report]


if __name__ == "__main__":
    print("\n\n".join([table(), *gpu_tables()]))
