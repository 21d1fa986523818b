"""The short runs of ``--quick``, compared with the spread that ours had over seeds."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from bench.science.records import Record, finished, read_record, read_records
from bench.science.runner import commits_file
from mannkern.benchmark.machine import surroundings
from mannkern.training.tables import side_by_side


def figures(record: Record) -> dict[str, float]:
    """The figures of a run by their names: accuracy in percent, or bits wrong per sequence of each size."""
    evaluation = record["evaluation"]
    if "sizes" in evaluation:
        return {f"bits wrong at {'x'.join(map(str, size['size']))}": size["wrong_bits"] for size in evaluation["sizes"]}
    accuracies = evaluation["unseen"]["accuracy_by_instance"]
    return {f"{k} instance, %": 100 * accuracies[k[:-2]] for k in ("1st", "2nd", "10th")}


def compare(here: Path, ours: Path) -> str:
    """A table of the finished runs under ``here``: each figure, beside the least and the largest of ``ours``."""
    columns: list[list[str]] = [["run"], ["figure"], ["here"], ["ours, over seeds"]]
    expected = read_records(ours, "quick")
    for row, records in read_records(here, "quick").items():
        spread = [figures(record) for record in finished(expected.get(row, []))]
        done = finished(records)
        for name, value in figures(done[0]).items() if done else ():
            seeds = [seed[name] for seed in spread]
            ours_text = f"{min(seeds):.1f} to {max(seeds):.1f}" if seeds else "not measured yet"
            for column, cell in zip(columns, (row, name, f"{value:.1f}", ours_text), strict=True):
                column.append(cell)
    return "\n".join(side_by_side(columns))


def is_of_another_commit(file: Path) -> bool:
    """Whether ``file`` is the result of other code than this. False where no git says which commit this is."""
    commit = surroundings()["commit"]
    return commit != "unknown" and file.exists() and bool(read_record(file)["commit"] != commit)


def set_aside(file: Path, run: Path) -> None:
    """Give a result and the folder of its run names that end in a number, so that the run begins anew."""
    paths = (commits_file(run), run, file)  # the result last: after a kill it says that the rest has to be done
    number = next(n for n in count(1) if not any(path.with_name(f"{path.name}.{n}").exists() for path in paths))
    for path in paths:
        if path.exists():
            path.rename(path.with_name(f"{path.name}.{number}"))
