"""Lines of the tables of docs/results.md."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bench.science.records import Record, finished, over_seeds, percents
from mannkern.experiments.one_shot.report import ordinal
from mannkern.experiments.one_shot.scores import INSTANCES


def line(*cells: str) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def heads(*names: str) -> list[str]:
    """The first two lines of a table."""
    return [line(*names), "|" + "---|" * len(names)]


def instance_heads(*first: str) -> list[str]:
    """The same, where the columns after the ``first`` are those of Table 1."""
    return heads(*first, *(ordinal(k) for k in INSTANCES))


def cell(values: Sequence[float], digits: int = 1) -> str:
    """The mean over seeds, with half its interval where there are several."""
    mean, half = over_seeds(values)
    return f"{mean:.{digits}f}" if math.isnan(half) else f"{mean:.{digits}f} ± {half:.{digits}f}"


def italic(name: str, row: Sequence[float], *between: str) -> str:
    """A line with figures of a paper."""
    return line(f"*{name}*", *between, *(f"*{value}*" for value in row))


def by_instance(
    rows: Mapping[str, Sequence[Record]], theirs: Mapping[str, Sequence[float]], of: str = "unseen"
) -> list[str]:
    """Accuracy by instance: a line for each row, means over seeds; the paper's rows; and the runs not at their end."""
    lines, running = instance_heads("", "seeds", "episodes"), []
    for row, records in rows.items():
        if done := finished(records):
            scores = zip(*(percents(record["evaluation"][of]) for record in done), strict=True)
            lines.append(line(row, str(len(done)), f"{done[0]['examples']:,}", *map(cell, scores)))
        running += [not_finished(record) for record in records if not record["finished"] and record["curve"]]
    lines += [italic(f"the paper's {name}", row, "", "") for name, row in theirs.items()]
    return [*lines, "", *([NOT_FINISHED, "", *running, ""] if running else [])]


NOT_FINISHED = "Not at their end yet, with their last validation:"


def not_finished(record: Record) -> str:
    """An item of a list: a run that is not at its end, with its last validation."""
    last = record["curve"][-1]
    cells = " / ".join(f"{value:.1f}" for value in percents(last))
    return f"- {record['row']}, seed {record['seed']}, {last['episodes']:,} episodes: {cells}"
