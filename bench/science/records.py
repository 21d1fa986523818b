"""The results of the plan as they are on the disk, and what is computed from those of several seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mannkern.experiments.one_shot.config import INSTANCES
from mannkern.training.errors import CommandError
from mannkern.training.statistics import NORMAL_95

FIELDS: dict[str, type | tuple[type, ...]] = {  # of every result; what else is read is checked when it is read
    "row": str,
    "seed": int,
    "finished": bool,
    "settings": dict,
    "curve": list,
    "evaluation": (dict, type(None)),
}
NEED = "need the JSON that bench.science wrote; move the file away or restore it"
SMOOTHED = 5  # validations, all of the same 500 episodes, over which a mean is taken
STUDENT_95 = (  # quantiles of Student's t by degrees of freedom; beyond 30 that of the normal distribution
    math.nan, 12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11,
    2.10, 2.09, 2.09, 2.08, 2.07, 2.07, 2.06, 2.06, 2.06, 2.05, 2.05, 2.05, 2.04,
)  # fmt: skip
Record = dict[str, Any]


class _Checked(dict[str, Any]):
    """An object of a result, which names the file where a field is missing that somebody reads."""

    file: Path

    def __missing__(self, name: str) -> Any:
        raise CommandError(f"{self.file}: {name}: got none, {NEED}")


def read_record(file: Path) -> Record:
    """The result in ``file``. Raises ``CommandError``, naming the file, where it is none.

    It also does so where a field is read that is missing, in the record or in an object of it.
    """

    def checked(values: dict[str, Any]) -> _Checked:
        read = _Checked(values)
        read.file = file
        return read

    try:
        record = json.loads(file.read_text(), object_hook=checked)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{file}: got damaged content ({error}), {NEED}") from None
    if not isinstance(record, dict):
        raise CommandError(f"{file}: got {type(record).__name__}, {NEED}")
    for name, kind in FIELDS.items():
        if not isinstance(record[name], kind):
            raise CommandError(f"{file}: {name}: got {record[name]!r:.80}, {NEED}")
    if record["finished"] and record["evaluation"] is None:
        raise CommandError(f"{file}: evaluation: got none of a finished run, {NEED}")
    return record


def read_records(results: Path, study: str) -> dict[str, list[Record]]:
    """The records of a study by row, the seeds in order; rows in the order of their first file."""
    rows: dict[str, list[Record]] = {}
    for file in sorted((results / study).glob("*.json")):
        record = read_record(file)
        rows.setdefault(record["row"], []).append(record)
    return {row: sorted(records, key=lambda record: record["seed"]) for row, records in rows.items()}


def finished(records: Sequence[Record]) -> list[Record]:
    """Those that have reached their end."""
    return [record for record in records if record["finished"]]


def percents(scores: Record) -> list[float]:
    """Accuracy in percent at the instances of Table 1."""
    return [100 * scores["accuracy_by_instance"][str(k)] for k in INSTANCES]


def scores_by_test(record: Record) -> dict[str, Record]:
    """The scores on unseen classes by the form of the episodes, "" for ten unaltered drawings of each class.

    The paper's test has augmented drawings, and of each class as many as come. Runs are also measured in the form that
    they were not trained in.
    """
    scores, equal = record["evaluation"], record["settings"].get("balanced", True)
    names = ("unseen", "unseen_augmented") if equal else ("unseen_equal", "unseen_augmented_equal")
    names += ("unseen_unequal", "unseen_augmented_unequal") if equal else ("unseen", "unseen_augmented")
    forms = ("", "augmented", "unequal numbers", "the paper's test")
    return {form: scores[name] for form, name in zip(forms, names, strict=True) if name in scores}


def over_seeds(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half its 95% interval over seeds by Student's t; NaN for one seed."""
    mean, count = sum(values) / len(values), len(values)
    if count == 1:
        return mean, math.nan
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    quantile = STUDENT_95[count - 1] if count <= len(STUDENT_95) else NORMAL_95
    return mean, quantile * deviation / math.sqrt(count)


def episodes_to_pass(record: Record, row: Sequence[float]) -> int | None:
    """Episodes of training from which on five validations in a row are in the mean at least ``row`` at every instance.

    A run may be above for a while by luck: so no later five may fall below. row: in percent
    """
    means = [
        [sum(values) / SMOOTHED for values in zip(*map(percents, record["curve"][i : i + SMOOTHED]), strict=True)]
        for i in range(len(record["curve"]) - SMOOTHED + 1)
    ]
    passed = [all(ours >= theirs for ours, theirs in zip(mean, row, strict=True)) for mean in means]
    if not passed or not passed[-1]:
        return None
    first = max((i + 1 for i, above in enumerate(passed) if not above), default=0)
    return int(record["curve"][first + SMOOTHED - 1]["episodes"])
