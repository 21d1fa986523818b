"""docs/results.md and its pictures, from the results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.science import page_models, page_others
from bench.science.pictures import draw_curves, draw_factors
from bench.science.plan import plan
from bench.science.records import Record, episodes_to_pass, finished, percents, read_records
from bench.science.tables import NOT_FINISHED, by_test, cell, instance_heads, italic, line, not_finished
from mannkern.experiments.one_shot import paper

PAPER = paper.ROWS["one-hot", 5]
REPLICATIONS = {  # 1.6 million episodes each; their draws are easier, see the page
    "Leputa/MANN-meta-learning, MANN": (35.4, 89.2, 95.2, 96.3, 96.9, 97.8),
    "Leputa/MANN-meta-learning, LSTM": (30.4, 77.9, 85.3, 87.5, 88.8, 91.6),
    "snowkylin/ntm, MANN": (35.6, 88.8, 95.0, 96.5, 97.3, 97.6),
    "snowkylin/ntm, LSTM": (23.3, 59.0, 65.8, 68.1, 70.8, 72.3),
}
HEAD = """# Results

This page is made from `bench/results/science/*/*.json` by `python -m bench.science --page`; do not edit it. Each file
holds a run: its settings, seed, commit, machine and time, every validation on the way, and the evaluation at the end.
A commit "with changes" had files that differed from it. A run that was evaluated again later may name only the
commit that trained it, and some early files name commits that were lost.

    make reproduce DATA=FOLDER            # the whole plan, days of one thread; Ctrl-C stops, the same command continues
    make reproduce DATA=FOLDER QUICK=1    # short runs in ten minutes, beside the spread that ours had over seeds
    python -m bench.science --list        # the plan, with the minutes of each run that you have not done

`make reproduce` trains all of it anew. It writes the results of your runs, and such a page of them, into
`runs/science/results`.

Accuracy is in %, on episodes of characters that were never seen in training. Sampling is without replacement: an
episode shows no drawing of a class twice, and its classes differ. Figures in italics are those of papers and of other
repositories; they were not measured here.

Where a line does not say otherwise, it is measured on episodes with ten drawings of each class, neither turned nor
augmented. This is easier than the paper's test, because counting helps: to answer the label that was shown most
often, but not yet ten times, is right in 61% of the tenth presentations, without a look at any drawing. Lines with
"the paper's test" have episodes of the paper's form: of each class as many drawings as chance has it, turned and
shifted. Both replications in the tables test in that form too, so their figures belong beside those lines.

Our unseen characters are drawn at random from all alphabets, so training shows others of the same alphabets, which is
easier. The paper has the characters 1,201 to 1,623, in an order that it does not give. Both replications take the
classes in the order of the files, so that nearly all of their test's alphabets are new. "Sorted classes" has that
split: it costs MANN 2.5 points at the second presentation and 0.7 at the tenth (one seed), and leaves it above the
paper's figures and both replications'. "Other alphabets" has Omniglot's own split, where 20 alphabets are unseen and
964 characters train.

Two more things in that form are not the paper's. Drawings are turned and shifted at 20 x 20 pixels, not before they
are reduced to that. And classes are drawn out of all characters in all quarter turns, so that in 2% of the episodes
one character comes twice, as two classes. The paper reports after 100,000 episodes; it does not say whether a step
counts as one or as its sixteen.

Models are trained on unequal numbers of drawings, as the paper's. In the first two tables, rows with "ten of each",
with Adam, a plain start or batches of 8 were trained on ten drawings of each class, and so were the short runs at the
end of the page.

Settings were compared on the unseen characters, as the paper and its replications do, for there is no third set. So
the choice of the defaults, such as Muon's learning rate, has seen the classes of the test, though not these episodes.
"Other classes" is a check of that: it leaves out 423 classes that all rows but "other alphabets" train on, and is
tested on them. Its figures differ from those of the same model on the usual classes by less than a point.

± is half a 95% interval over seeds (Student's t), on the same test episodes; of two seeds both figures are there. A
figure of one seed has an interval over episodes, which is in its file: mostly under 1 for a line of 2,000 episodes, up
to 2 where few have a tenth drawing.
"""
PUBLISHED = "`bench/results/science/*/*.json`"
OWN = """The tables and pictures are of your runs. The sentences were written about those of the repository, which are
in `docs/results.md`.

"""
NOTE = [
    "",
    "Augmented: unseen classes are turned by quarters, and their drawings turned and shifted, at 20 x 20 pixels. Both",
    "replications do so at 105 x 105; they draw drawings with replacement, and Leputa's classes too, which is easier,",
    'and split the characters as the row "sorted classes", which is harder.',
    "A model is above the paper's MANN from where the mean of five validations in a row is at least the paper's at",
    "every presentation, and that of no later five is below. All validations are of the same 500 episodes, in the form",
    "that the model is trained in, not augmented. Models are trained with Muon, its rate falling from 1e-2 to 0 in a",
    "line, where a row does not say Adam (a line from 2e-3) or plain start (Adam, a cosine from 1e-3).",
    "",
]


def write_page(results: Path, page: Path, published: bool = True) -> None:
    """Write the page, and its pictures into the folder of its name.

    published: whether the results are those of the repository, which the sentences of the page are about
    """
    pictures = page.with_suffix("")
    parts = [HEAD if published else own_head(results)]
    table_1 = _in_order(read_records(results, "table-1"), "table-1")
    if table_1:
        parts.append(_table_1(table_1))
        if any(record["curve"] for records in table_1.values() for record in records):
            draw_curves(table_1, pictures / "table-1.png")
            parts.append(f"![Accuracy against episodes of training]({pictures.name}/table-1.png)\n")
    efficiency = _in_order(read_records(results, "efficiency"), "efficiency")
    if efficiency:
        parts.append(EFFICIENCY + "\n" + _seeds(efficiency))
        draw_curves(efficiency, pictures / "efficiency.png")
        parts.append(f"![Accuracy against episodes of training]({pictures.name}/efficiency.png)\n")
    factors = _in_order(read_records(results, "factors"), "factors")
    if any(finished(records) for records in factors.values()):
        draw_factors(factors, pictures / "factors.png")
        parts.append(_factors(factors))
        parts.append(f"![Accuracy with one setting changed]({pictures.name}/factors.png)\n")
    if full := _in_order(read_records(results, "factors-full"), "factors-full"):
        parts.append(FULL + _seeds(full))
    others = {planned.study for planned in plan()} - ONE_SHOT
    rows_of = {study: _in_order(read_records(results, study), study) for study in sorted(others)}
    parts += [*page_others.sections(rows_of, pictures), *page_models.sections(rows_of, pictures)]
    for study, text in (("start", START), ("search", SEARCH), ("quick", QUICK)):
        rows = _in_order(read_records(results, study), study)
        if rows:
            parts += [text + "\n" + _short(rows), page_models.by_size(rows)]
    for study in sorted(others - {*page_others.STUDIES, *page_models.STUDIES}):
        if any(finished(records) for records in rows_of[study].values()):
            parts += [page_others.any_study(study, rows_of[study]), page_models.by_size(rows_of[study])]
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join(part for part in parts if part))


def own_head(results: Path) -> str:
    """The head of a page that is made from other results than the repository's."""
    title, text = HEAD.split("\n\n", 1)
    return f"{title}\n\n{OWN}{text.replace(PUBLISHED, f'`{results}/*/*.json`')}"


ONE_SHOT = {"table-1", "efficiency", "factors", "factors-full", "start", "search", "quick"}
FULL = """The changes that matter most, over ten times as many episodes:

"""
EFFICIENCY = """## How many episodes it takes

The same models over 200,000 episodes, an eighth of the above, in which the learning rate falls to 0. They are trained
with Muon at 1e-2 unless a row says Adam. "Plain start" has Adam at 1e-3, neither the smooth initial weights nor the
subtracted mean of `--recipe best`, and 4 least-used slots a step.
"""
START = """## What the model starts with

Short runs with batches of 16 and a learning rate that falls to 0. Rows with Muon begin at 1e-2, all others have Adam,
from 2e-3 where they do not say another rate. The first column says what differs from the first line. "Plain": weights
as PyTorch draws them, and no mean subtracted. They were compared on the unseen classes, as the paper and its
replications do, so the choice has seen the classes of the test.
"""
SEARCH = """## The recipe

Short runs with a plain start, compared on the unseen classes too.
"""
QUICK = """## What QUICK=1 should give

The same short runs with other seeds. A figure that is far outside of this spread on your machine is a defect.
"""


def _in_order(rows: dict[str, list[Record]], study: str) -> dict[str, list[Record]]:
    """The rows in the order of the plan, then those that are no longer in it."""
    planned = dict.fromkeys(planned.row for planned in plan() if planned.study == study)
    return {row: rows[row] for row in [*planned, *rows] if row in rows}


def _table_1(rows: dict[str, list[Record]]) -> str:
    head = ["## Table 1: one-shot Omniglot, five classes", ""]
    theirs = [italic(f"the paper's {name}", row, "", "", "") for name, row in PAPER.items()]
    theirs += [italic(name, row, "", "1,600,000", "") for name, row in REPLICATIONS.items()]
    return "\n".join(head) + "\n" + _seeds(rows, theirs)


def _seeds(rows: dict[str, list[Record]], theirs: Sequence[str] = ()) -> str:
    """A table with a line for each row, means over seeds, then the lines ``theirs``; and the runs not at their end."""
    lines = instance_heads("", "seeds", "episodes", "above the paper's MANN after")
    running: list[str] = []
    for row, records in rows.items():
        done = finished(records)
        if done:
            passed = [episodes_to_pass(record, PAPER["MANN"]) for record in done]
            after = ", ".join("-" if episodes is None else f"{episodes:,}" for episodes in passed)
            first = [str(len(done)), f"{done[0]['examples']:,}", after]
            for test, cells in by_test(done).items():
                lines.append(line(f"{row}, {test}" if test else row, *first, *cells))
                first = ["", "", ""]
        running += [_running(record) for record in records if not record["finished"] and record["curve"]]
    lines += theirs
    lines += NOTE if theirs else [""]
    if running:
        lines += [NOT_FINISHED, "", *running, ""]
    return "\n".join(lines)


def _running(record: Record) -> str:
    passed = episodes_to_pass(record, PAPER["MANN"])
    after = "" if passed is None else f"; above the paper's MANN after {passed:,}"
    return not_finished(record) + after


def _factors(rows: dict[str, list[Record]]) -> str:
    lines = [
        "## What matters",
        "",
        "The paper's literal model (`--recipe paper`) and the same with one setting changed, 160,000 episodes each, on",
        'unequal numbers of drawings, not augmented ("balanced classes" on ten of each). **The literal model did not',
        "reproduce the paper's figures**, which are in the last line. Its accuracy was still rising at the end, and",
        "the paper may mean ten times as many episodes. Few seeds show large effects alone: with a key",
        "strength one seed has 62% at the second presentation, and two have 84%.",
        "",
        *instance_heads("", "seeds"),
    ]
    for row, records in rows.items():
        if done := finished(records):
            scores = zip(*(percents(record["evaluation"]["unseen"]) for record in done), strict=True)
            lines.append(line(row, str(len(done)), *map(cell, scores)))
    lines.append(italic("the paper's MANN, on its own test", PAPER["MANN"], ""))
    return "\n".join([*lines, "", *_not_at_their_end(rows)])


def _not_at_their_end(rows: dict[str, list[Record]]) -> list[str]:
    """Lines that name the runs not at their end."""
    running = [
        _running(record)
        for records in rows.values()
        for record in records
        if not record["finished"] and record["curve"] and "accuracy_by_instance" in record["curve"][-1]
    ]
    return [NOT_FINISHED, "", *running, ""] if running else []


def _short(rows: dict[str, list[Record]]) -> str:
    """A table of short runs, a line for each seed of a one-shot row."""
    lines = instance_heads("", "seed", "episodes")
    for row, records in rows.items():
        for record in finished(records):
            if "unseen" in record["evaluation"]:
                cells = [f"{value:.1f}" for value in percents(record["evaluation"]["unseen"])]
                lines.append(line(row, str(record["seed"]), f"{record['examples']:,}", *cells))
    return "\n".join([*lines, "", *_not_at_their_end(rows)])
