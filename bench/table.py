"""The README's tables of figures, from the JSON of the benchmarks beside: ``python bench/table.py`` prints them.

``--write`` puts the CPU's in the README, in the place of what is between the marks there.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
README = RESULTS.parents[1] / "README.md"
MARKS = "<!-- tables of bench/table.py -->", "<!-- end of the tables -->"
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


def memory_table() -> str:
    """Peak memory of a call, in MiB."""
    report: dict[str, Any] = json.loads((RESULTS / "cpu-memory.json").read_text())
    names = {
        "cpp": "training step, mannkern",
        "cpp, no gradient": "the same without gradients",
        "reference": "training step, reference",
        "lstm": "training step, `nn.LSTM`",
        "scan": "`lrua_scan` with its gradient",
        "scan, reference": "the same, reference",
    }
    head = "| peak memory over the start | T | B | MiB |"
    lines = [
        f"| {names[row['name']]} | {row['T']} | {row['B']} | {row['bytes'] / 2**20:,.0f} |" for row in report["rows"]
    ]
    return "\n".join([head, "|---" * head.count(" | ") + "|---|", *lines])


def write() -> None:
    """The README with the tables that the JSON gives."""
    text = README.read_text()
    begin, end = (text.index(mark) for mark in MARKS)
    new = f"{text[:begin]}{MARKS[0]}\n\n{table()}\n\n{memory_table()}\n\n{text[end:]}"
    beside = README.with_name(f".{README.name}.{os.getpid()}")
    beside.write_text(new)
    beside.replace(README)


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
    if sys.argv[1:] == ["--write"]:
        write()
    else:
        print("\n\n".join([table(), memory_table(), *gpu_tables()]))
