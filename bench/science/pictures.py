"""The pictures of docs/results.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.science.records import Record, finished, over_seeds
from mannkern.experiments.one_shot import paper
from mannkern.experiments.one_shot.report import ordinal
from mannkern.files import write_atomically
from mannkern.training.drawing import INK, RUN_COLOURS, name_training_axis, panels_of, run_colour, side_legend

PANELS = {"2": "2nd presentation", "10": "10th presentation"}
PLACE = {"2": 1, "10": 5}  # in a row of Table 1


def draw_curves(
    rows: Mapping[str, Sequence[Record]],
    path: Path,
    title: str = "One-shot Omniglot, unseen classes",
    theirs: Sequence[float] | None = paper.ROWS["one-hot", 5]["MANN"],
) -> None:
    """Accuracy at the 2nd and the 10th presentation against episodes of training, a line for each seed.

    theirs: the paper's MANN, by instance, None where there is none
    """
    figure, panels = panels_of(title, 2, (9, 7.5), sharex=True)
    trained = {row: records for row, records in rows.items() if any(record["curve"] for record in records)}
    for axes, (instance, what) in zip(panels, PANELS.items(), strict=True):
        for place, (row, records) in enumerate(trained.items()):
            for record in records:
                x = [line["episodes"] for line in record["curve"]]
                y = [100 * (line["accuracy_by_instance"][instance] or 0) for line in record["curve"]]
                label = row if record is records[0] else None
                axes.plot(x, y, color=run_colour(place), ls=_dashes(place), lw=1.2, alpha=0.8, label=label)
        if theirs is not None:
            axes.axhline(theirs[PLACE[instance]], color=INK, lw=1, ls="--", label="the paper's MANN")
        axes.set_ylabel(f"{what} (%)")
        side_legend(axes)
    name_training_axis(panels[-1], "episodes")
    _save(figure, path)


def _dashes(place: int) -> str:
    """The style of a row's line: another one where the colours begin anew."""
    return ("-", ":", "-.")[place // len(RUN_COLOURS) % 3]


def draw_factors(rows: dict[str, list[Record]], path: Path) -> None:
    """Accuracy over all steps with one setting changed: a point for each seed, a bar for their mean."""
    done = {row: finished(records) for row, records in rows.items() if finished(records)}
    means = {row: over_seeds([_accuracy(record) for record in records])[0] for row, records in done.items()}
    order = sorted(means, key=means.__getitem__)
    figure, (axes,) = panels_of("The paper's literal model, one setting changed", 1, (9, 1.5 + 0.32 * len(order)))
    base = next(iter(rows))
    for place, row in enumerate(order):
        axes.barh(place, means[row], color=run_colour(1 if row == base else 0), alpha=0.35, height=0.7)
        seeds = [_accuracy(record) for record in done[row]]
        axes.plot(seeds, [place] * len(seeds), ".", color=INK)
    axes.set_yticks(range(len(order)), order)
    axes.set_xlabel("accuracy over all steps, unseen classes, 160,000 episodes of training (%)")
    _save(figure, path)


def draw_by_classes(by_classes: Mapping[str, Record], path: Path) -> None:
    """Accuracy against the number of classes in an episode, a line for each presentation."""
    figure, (axes,) = panels_of("Accuracy by number of classes, unseen", 1, (9, 4.6))
    for place, instance in enumerate(("1", "2", "3", "5", "10")):
        y = [100 * scores["accuracy_by_instance"][instance] for scores in by_classes.values()]
        label = ordinal(int(instance))
        axes.plot([int(n) for n in by_classes], y, color=run_colour(place), marker="o", ms=4, label=label)
    axes.set_xlabel("classes in an episode")
    axes.set_ylabel("accuracy on unseen classes (%)")
    side_legend(axes, title="presentation\nof a class")
    _save(figure, path)


def draw_queries(rows: Mapping[str, Sequence[Record]], path: Path) -> None:
    """Accuracy of the queries of few-shot episodes against episodes of training, a line for each seed."""
    figure, (axes,) = panels_of("Few-shot Omniglot, unseen classes", 1, (12, 4.6))
    for place, (row, records) in enumerate(rows.items()):
        for record in records:
            x = [line["episodes"] for line in record["curve"]]
            y = [100 * line["accuracy"] for line in record["curve"]]
            label = row if record is records[0] else None
            axes.plot(x, y, color=run_colour(place), ls=_dashes(place), lw=1.2, alpha=0.8, label=label)
    axes.set_ylabel("accuracy of queries (%)")
    side_legend(axes)
    name_training_axis(axes, "episodes")
    _save(figure, path)


def draw_places(records: Sequence[Record], path: Path) -> None:
    """Accuracy against the place of an episode in a stream whose memory is not wiped."""
    figure, (axes,) = panels_of("A memory that is not wiped between episodes", 1, (9, 4.6))
    for place, record in enumerate(records):
        y = [100 * mean for mean in record["evaluation"]["unseen_by_place"]]
        label = f"{record['row']}, seed {record['seed']}"
        axes.plot(range(1, len(y) + 1), y, color=run_colour(place), marker="o", ms=4, label=label)
        level = 100 * record["evaluation"]["unseen_wiped"]["accuracy"]
        axes.axhline(level, color=run_colour(place), ls="--", lw=1, label="the same, wiped before each")
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("episode since the memory was wiped")
    axes.set_ylabel("accuracy on unseen classes (%)")
    axes.set_ylim(0, 101)
    side_legend(axes)
    _save(figure, path)


def draw_functions(rows: Mapping[str, Sequence[Record]], path: Path) -> None:
    """Log-likelihood against points seen, a panel for each number of variables, beside the exact posterior."""
    numbers = sorted({record["evaluation"]["dimensions"] for records in rows.values() for record in records})
    figure, panels = panels_of("Functions of a Gaussian process", len(numbers), (9, 3.2 * len(numbers) + 0.6))
    for axes, number in zip(panels, numbers, strict=True):
        of_number = {r: x for r, x in rows.items() if x[0]["evaluation"]["dimensions"] == number}
        for place, (row, records) in enumerate(of_number.items()):
            for record in records:
                label = row if record is records[0] else None
                axes.plot(record["evaluation"]["log_likelihood"], color=run_colour(place), lw=1.6, label=label)
        exact = next(iter(of_number.values()))[0]["evaluation"]["exact"]
        axes.plot(exact, "--", color=INK, lw=1, label="exact posterior")
        axes.set_ylabel("log-likelihood (nats)")
        side_legend(axes)
    panels[-1].set_xlabel("points seen")
    _save(figure, path)


def _accuracy(record: Record) -> float:
    return 100 * float(record["evaluation"]["unseen"]["accuracy"])


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: figure.savefig(file, format="png", metadata={"Software": None}))
