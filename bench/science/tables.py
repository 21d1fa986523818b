"""Lines of the tables of docs/results.md."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bench.science.records import Record, finished, over_seeds, percents, scores_by_test
from mannkern.experiments.one_shot.config import INSTANCES
from mannkern.experiments.one_shot.report import ordinal


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
    """The figure of one seed, those of two, and of more the mean with half its interval.

    The interval of two seeds is 13 times as wide as their standard error, and says nothing.
    """
    if len(values) == 2:
        return " and ".join(f"{value:.{digits}f}" for value in values)
    mean, half = over_seeds(values)
    return f"{mean:.{digits}f}" if math.isnan(half) else f"{mean:.{digits}f} ± {half:.{digits}f}"


def by_test(done: Sequence[Record]) -> dict[str, list[str]]:
    """The cells of each test that all of these records have."""
    found = [scores_by_test(record) for record in done]
    return {
        test: [cell(values) for values in zip(*(percents(tests[test]) for tests in found), strict=True)]
        for test in found[0]
        if all(test in tests for tests in found)
    }


def italic(name: str, row: Sequence[float], *between: str) -> str:
    """A line with figures of a paper."""
    return line(f"*{name}*", *between, *(f"*{value}*" for value in row))


def by_instance(rows: Mapping[str, Sequence[Record]], theirs: Mapping[str, Sequence[float]], of: str = "") -> list[str]:
    """Accuracy by instance: lines for each row, means over seeds; the paper's rows; and the runs not at their end.

    of: the one score that is shown, by default those of every test
    """
    lines, running = instance_heads("", "seeds", "episodes"), []
    for row, records in rows.items():
        if done := finished(records):
            first = [str(len(done)), f"{done[0]['examples']:,}"]
            if of:
                scores = zip(*(percents(record["evaluation"][of]) for record in done), strict=True)
                lines.append(line(row, *first, *map(cell, scores)))
                continue
            for test, cells in by_test(done).items():
                lines.append(line(f"{row}, {test}" if test else row, *first, *cells))
                first = ["", ""]
        running += [not_finished(record) for record in records if not record["finished"] and record["curve"]]
    lines += [italic(f"the paper's {name}", row, "", "") for name, row in theirs.items()]
    return [*lines, "", *([NOT_FINISHED, "", *running, ""] if running else [])]


NOT_FINISHED = "Not at their end yet, with their last validation:"


def not_finished(record: Record) -> str:
    """An item of a list: a run that is not at its end, with its last validation."""
    last = record["curve"][-1]
    cells = " / ".join(f"{value:.1f}" for value in percents(last))
    return f"- {record['row']}, seed {record['seed']}, {last['episodes']:,} episodes: {cells}"
