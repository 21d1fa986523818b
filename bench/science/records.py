"""The results of the plan as they are on the disk, and what is computed from those of several seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mannkern.experiments.one_shot.scores import INSTANCES

STUDENT_95 = (math.nan, 12.71, 4.30, 3.18, 2.78)  # quantiles of Student's t by degrees of freedom
Record = dict[str, Any]


def read_records(results: Path, study: str) -> dict[str, list[Record]]:
    """The records of a study by row, the seeds in order; rows in the order of their first file."""
    rows: dict[str, list[Record]] = {}
    for file in sorted((results / study).glob("*.json")):
        record = json.loads(file.read_text())
        rows.setdefault(record["row"], []).append(record)
    return {row: sorted(records, key=lambda record: record["seed"]) for row, records in rows.items()}


def finished(records: Sequence[Record]) -> list[Record]:
    """Those that have reached their end."""
    return [record for record in records if record["finished"]]


def percents(scores: Record) -> list[float]:
    """Accuracy in percent at the instances of Table 1."""
    return [100 * scores["accuracy_by_instance"][str(k)] for k in INSTANCES]


def over_seeds(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half its 95% interval over seeds by Student's t; NaN for one seed."""
    mean, count = sum(values) / len(values), len(values)
    if count == 1:
        return mean, math.nan
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    return mean, STUDENT_95[count - 1] * deviation / math.sqrt(count)


def episodes_to_pass(record: Record, row: Sequence[float]) -> int | None:
    """Episodes of training at the first of two validations in a row that are at least ``row`` at every instance.

    One alone could pass by luck, because a validation has few episodes. The evaluation at the end, which has four
    times as many, suffices. row: in percent
    """
    passed = [all(ours >= theirs for ours, theirs in zip(percents(line), row, strict=True)) for line in record["curve"]]
    for line, now, then in zip(record["curve"], passed, passed[1:]):
        if now and then:
            return int(line["episodes"])
    if record["finished"] and all(a >= b for a, b in zip(percents(record["evaluation"]["unseen"]), row, strict=True)):
        return int(record["examples"])
    return None
