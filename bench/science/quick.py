"""The short runs of ``--quick``, compared with the spread that ours had over seeds."""

from __future__ import annotations

from pathlib import Path

from bench.science.records import Record, finished, read_records
from mannkern.training.tables import side_by_side


def figures(record: Record) -> dict[str, float]:
    """The figures of a run by their names: accuracy in percent, or bits wrong per sequence of each size."""
    evaluation = record["evaluation"]
    if "sizes" in evaluation:
        return {f"bits wrong at {'x'.join(map(str, size['size']))}": size["wrong_bits"] for size in evaluation["sizes"]}
    accuracies = evaluation["unseen"]["accuracy_by_instance"]
    return {f"{k} instance, %": 100 * accuracies[k[:-2]] for k in ("1st", "2nd", "10th")}


def compare(here: Path, ours: Path) -> str:
    """A table of the runs under ``here``: each figure, and the least and the largest of the seeds under ``ours``."""
    columns: list[list[str]] = [["run"], ["figure"], ["here"], ["ours, over seeds"]]
    expected = read_records(ours, "quick")
    for row, records in read_records(here, "quick").items():
        spread = [figures(record) for record in finished(expected.get(row, []))]
        for name, value in figures(records[0]).items():
            seeds = [seed[name] for seed in spread]
            ours_text = f"{min(seeds):.1f} to {max(seeds):.1f}" if seeds else "not measured yet"
            for column, cell in zip(columns, (row, name, f"{value:.1f}", ours_text), strict=True):
                column.append(cell)
    return "\n".join(side_by_side(columns))
