"""The sections of docs/results.md on the NTM's tasks and on few-shot classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.science.pictures import draw_queries
from bench.science.records import Record, finished
from bench.science.tables import cell, heads, line
from mannkern.experiments.few_shot.report import PAPER

Rows = Mapping[str, Sequence[Record]]
STUDIES = ("ntm", "few-shot")
NTM = """## The tasks of the NTM

The loss in bits per sequence, at the largest size of training and beyond it (`*`), and how many bits of an answer are
wrong after rounding, both means of 1,000 sequences of each size; a line for each seed. The papers' figures are curves.
Rows without an optimizer's name have the defaults: Muon for copy, repeat copy and associative recall, RMSProp for
n-grams and priority sort. The rate falls to 0, but is constant in the rows "constant lr" and "copy, RMSProp"; the
latter has batches of 4. Repeat copy, recall and the row "copy, equal slots" start
with 1e-6 in every slot, all others with uniform random numbers.
"""
FEW_SHOT = """## Few-shot Omniglot

Accuracy in % on 1,000 episodes of unseen classes, drawings of 28 x 28 pixels; of the meta-memory network 20 x 20. All
are trained with Muon at a rate that falls to 0. ± is half a 95% interval, over the episodes where there is one seed.

The figures are not quite comparable with the papers'. Matching Networks have a fixed strength of 10 here, and of 20
where no strength is named for 20-way 5-shot. Training drawings are shifted and turned a little, an episode of the test
has five queries of each class, and unseen classes are not turned by quarters. Muon's rate and the strengths were
chosen by a look at these classes.

"Tested 5-way" is the row above it on episodes of five unseen classes: a model of 20 classes can name five. It learns
more from an episode of 20 classes than from one of five, as Snell et al. (2017) found. The paper's figure beside it is
of a model that was trained on five.

"By descriptions": no drawing is shown. The description of a class is the number of its alphabet, and 20 measures of ink
and strokes: their means over ten of its drawings, which are no queries. The alphabet alone is worth about 96%; the last
such row is without it. The table measures them from the mean of the classes of training, in units of their deviation;
the picture is older, and took those of the unseen classes.
"""
FAMILY_NAMES = {"description": "a description", "one": "one example", "several": "several examples"}
SIZES: dict[str, list[list[int]]] = {  # shown of each task, the largest of training first
    "copy": [[20], [30], [50], [120]],
    "repeat-copy": [[10, 10], [20, 10], [10, 20]],
    "associative-recall": [[6], [12], [20]],
    "ngrams": [[200]],
    "priority-sort": [[20]],
}


def sections(rows: Mapping[str, Rows], pictures: Path) -> list[str]:
    """The text of each study that has results, by the study's name; its pictures are drawn into ``pictures``."""
    parts = []
    if ntm := rows.get("ntm"):
        parts.append(NTM + "\n" + by_size(ntm))
    if few_shot := rows.get("few-shot"):
        parts.append(FEW_SHOT + "\n" + _few_shot(few_shot, pictures))
    return parts


def by_size(rows: Rows) -> str:
    """A table of the runs that were evaluated on sequences, a line for each seed; "" where there is none."""
    of_sequences = {
        row: [record for record in finished(records) if "sizes" in record["evaluation"]]
        for row, records in rows.items()
    }
    if not any(of_sequences.values()):
        return ""
    lines = heads("", "seed", "sequences", "bits per sequence", "bits wrong", "optimal", "guessing")
    for row, records in of_sequences.items():
        for record in records:
            shown = _shown(record["evaluation"])
            columns = [
                " / ".join(f"{name}: {size[key]:.2f}" for name, size in shown.items())
                for key in ("bits_per_sequence", "wrong_bits")
            ]
            first = next(iter(shown.values()))
            best = first["optimal_bits_per_sequence"]
            best = "0" if best is None else f"{best:.1f}"
            cells = str(record["seed"]), f"{record['examples']:,}", *columns, best, str(first["answer_bits"])
            lines.append(line(row, *cells))
    return "\n".join([*lines, ""])


def _shown(evaluation: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The scores of the sizes that are shown, by names such as ``120*``."""
    sizes = {tuple(scores["size"]): scores for scores in evaluation["sizes"]}
    largest = evaluation["largest_in_training"]
    chosen = [tuple(size) for size in SIZES[evaluation["task"]] if tuple(size) in sizes]
    names = [" x ".join(map(str, size)) + ("" if list(size) == largest else "*") for size in chosen]
    return {name: sizes[size] for name, size in zip(names, chosen, strict=True)}


def _families(row: str, records: Sequence[Record]) -> list[str]:
    lines = []
    for family in records[0]["evaluation"]["unseen_by_family"]:
        scores = [record["evaluation"]["unseen_by_family"][family] for record in records]
        name = f"{row}: by {FAMILY_NAMES[family]}"
        lines.append(line(name, str(len(records)), f"{records[0]['examples']:,} of each", _accuracy(scores), ""))
    return lines


def _fewer(row: str, records: Sequence[Record]) -> list[str]:
    """A line for each number of classes of the test that is not that of training."""
    lines = []
    for classes in records[0]["evaluation"]["unseen_by_classes"] if records else ():
        scores = [record["evaluation"]["unseen_by_classes"][classes] for record in records]
        lines.append(_scored(f"{row}; tested {classes}-way", records, scores, int(classes)))
    return lines


def _scored(row: str, records: Sequence[Record], scores: Sequence[Record], classes: int) -> str:
    first = records[0]["evaluation"]
    theirs = PAPER.get(first["model"], {}).get((classes, first["shots"]))
    episodes = f"{records[0]['examples']:,}"
    return line(row, str(len(records)), episodes, _accuracy(scores), "" if theirs is None else f"*{100 * theirs:.2f}*")


def _accuracy(scores: Sequence[Record]) -> str:
    """Of one seed with its interval over episodes, of several with that over seeds."""
    one = f" ± {100 * scores[0]['interval_95']:.2f}" if len(scores) == 1 else ""
    return cell([100 * score["accuracy"] for score in scores], 2) + one


def _few_shot(rows: Rows, pictures: Path) -> str:
    lines = heads("", "seeds", "episodes", "accuracy", "the paper's")
    for row, records in rows.items():
        done = finished(records)
        if done and "unseen_by_family" in done[0]["evaluation"]:
            lines += _families(row, done)
        elif done:
            scores = [record["evaluation"]["unseen"] for record in done]
            lines.append(_scored(row, done, scores, done[0]["evaluation"]["classes"]))
            lines += _fewer(row, [record for record in done if "unseen_by_classes" in record["evaluation"]])
    lines.append("")
    if curves := {row: records for row, records in rows.items() if any(record["curve"] for record in records)}:
        path = pictures / "few-shot.png"
        draw_queries(curves, path)
        lines.append(f"![Accuracy against episodes of training]({path.parent.name}/{path.name})\n")
    return "\n".join(lines)
