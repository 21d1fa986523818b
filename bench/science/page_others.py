"""The sections of docs/results.md besides Table 1: strings, and the paper's other experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.science.pictures import draw_by_classes, draw_curves, draw_functions, draw_places
from bench.science.records import Record, finished
from bench.science.tables import by_instance, cell, heads, instance_heads, line
from mannkern.experiments.autoencoder.experiment import SHAPES
from mannkern.experiments.autoencoder.report import PAPER_ROW
from mannkern.experiments.one_shot import paper

Rows = Mapping[str, Sequence[Record]]
STUDIES = ("strings-5", "strings-15", "autoencoder", "curriculum", "persistent", "gaussian-processes")
STRINGS = """## Table 2: strings as labels

An answer is a string of five letters, right if all are. With 15 classes, 100 of their 300 drawings come at random.
The feed-forward network has no memory, but sees the previous drawing's label beside the drawing. It learned to repeat
that label, which is right as often as two drawings in a row have one class: a fifth of the time with 5 classes.
"""
CURRICULUM = """## The curriculum

MANN on strings, from 15 classes to 100, ten drawings of each, measured with each number of classes. One class more
comes each 10,000 episodes as in the paper, or each 1,000 where a row says so.
"""
PERSISTENT = """## A memory that is not wiped

Ten classes in 75 steps, as in figure 3 of the paper. A memory that is not wiped is measured on streams of 20
episodes, and on the same episodes when it is wiped before each. **The paper's result was reproduced**: after
400,000 episodes the network knows such episodes without wiping as well as with it, from a stream's first episode to
its twentieth. A run of 160,000, whose learning rate falls as much sooner, stays far below.
"""
FUNCTIONS = """## Regression on Gaussian processes

Log-likelihood of a value in nats, its mean over all points of fresh functions, beside that of the exact posterior,
which knows the process; functions of 1 variable are seen at 50 points, those of 2 and 3 at 100. The rate of the row
with Adam stays at 1e-3, that of the others falls from Muon's 2e-2 to 0.
"""


def sections(rows: Mapping[str, Rows], pictures: Path) -> list[str]:
    """The text of each study that has results, by the study's name; its pictures are drawn into ``pictures``."""
    parts = []
    strings = [classes for classes in (5, 15) if rows.get(f"strings-{classes}")]
    if strings:
        parts.append(STRINGS)
        parts += [_strings(rows, classes, pictures) for classes in strings]
    if curriculum := rows.get("curriculum"):
        parts.append(CURRICULUM + "\n" + _curriculum(curriculum, pictures))
    if persistent := rows.get("persistent"):
        parts.append(PERSISTENT + "\n" + _persistent(persistent, pictures))
    if functions := rows.get("gaussian-processes"):
        parts.append(FUNCTIONS + "\n" + _functions(functions, pictures))
    return parts


def any_study(study: str, rows: Rows) -> str:
    """A section of a study that no other section has: a line for each seed."""
    lines = [f"## {study}", "", *heads("", "seed", "examples", "accuracy")]
    for row, records in rows.items():
        for record in finished(records):
            accuracy = record["evaluation"].get("unseen", record["evaluation"]).get("accuracy")
            shown = "" if accuracy is None else f"{100 * accuracy:.1f}"
            lines.append(line(row, str(record["seed"]), f"{record['examples']:,}", shown))
    return "\n".join([*lines, ""])


def _picture(about: str, path: Path) -> str:
    return f"![{about}]({path.parent.name}/{path.name})\n"


def _strings(rows: Mapping[str, Rows], classes: int, pictures: Path) -> str:
    runs = dict(rows[f"strings-{classes}"])
    codes = [
        record
        | {"evaluation": {"unseen": record["evaluation"]["unseen_by_classes"][str(classes)]}, "curve": []}
        | {"settings": {"balanced": SHAPES[classes][1]}}
        for record in finished(rows.get("autoencoder", {}).get(PAPER_ROW, ()))
    ]
    if codes:
        runs[PAPER_ROW] = [record | {"examples": 0} for record in codes]
    theirs = paper.ROWS["strings", classes]
    lines = [f"### {classes} classes", "", *by_instance(runs, theirs)]
    if any(record["curve"] for records in runs.values() for record in records):
        path = pictures / f"strings-{classes}.png"
        draw_curves(runs, path, f"Strings, {classes} classes, unseen", theirs["MANN"])
        lines.append(_picture("Accuracy against episodes of training", path))
    return "\n".join(lines)


def _curriculum(rows: Rows, pictures: Path) -> str:
    lines = []
    for row, records in rows.items():
        for record in finished(records):
            lines += [f"{row}: {record['examples']:,} episodes in all.", "", *instance_heads("classes in an episode")]
            by_classes = record["evaluation"]["unseen_by_classes"]
            for classes, scores in by_classes.items():
                by_number = scores["accuracy_by_instance"]
                lines.append(line(classes, *(f"{100 * by_number[k]:.1f}" for k in ("1", "2", "3", "4", "5", "10"))))
            path = pictures / f"curriculum-{record['examples']}.png"
            draw_by_classes(by_classes, path)
            lines += ["", _picture("Accuracy against the number of classes in an episode", path)]
    return "\n".join(lines or by_instance(rows, {}))


def _persistent(rows: Rows, pictures: Path) -> str:
    lines = by_instance(rows, {})
    streams = {row: finished(records) for row, records in rows.items()}
    kept = {row: [r for r in records if "unseen_wiped" in r["evaluation"]] for row, records in streams.items()}
    kept = {f"{row}, wiped for the test, unequal numbers": records for row, records in kept.items() if records}
    if kept:
        lines += by_instance(kept, {}, of="unseen_wiped")
        path = pictures / "persistent.png"
        draw_places([record for records in kept.values() for record in records], path)
        lines.append(_picture("Accuracy against an episode's place in its stream", path))
    if any(record["curve"] for records in rows.values() for record in records):
        path = pictures / "persistent-training.png"
        draw_curves(rows, path, "Ten classes in 75 steps, unseen", None)
        lines.append(_picture("Accuracy against episodes of training", path))
    return "\n".join(lines)


def _functions(rows: Rows, pictures: Path) -> str:
    lines, done = heads("", "seeds", "functions", "log-likelihood", "exact posterior"), {}
    for row, records in rows.items():
        if ends := finished(records):
            done[row] = ends
            means = ("mean_log_likelihood", "exact_mean_log_likelihood")
            cells = [cell([record["evaluation"][name] for record in ends], 2) for name in means]
            lines.append(line(row, str(len(ends)), f"{ends[0]['examples']:,}", *cells))
    lines.append("")
    if done:
        path = pictures / "gaussian-processes.png"
        draw_functions(done, path)
        lines.append(_picture("Log-likelihood against the number of points seen", path))
    return "\n".join(lines)
