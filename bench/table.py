"""The README's table of figures, from the JSON of step.py and episode.py: ``python bench/table.py``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
COLUMNS = {"reference": "reference", "compiled": "`torch.compile`", "matmul": "eager, products", "lstm": "`nn.LSTM`"}
NAMES = {"step": "step alone", "episode": "training step"}


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
    return "\n".join([head, "|---" * head.count(" | ") + "|---|", *rows("step"), *rows("episode")])


if __name__ == "__main__":
    print(table())
