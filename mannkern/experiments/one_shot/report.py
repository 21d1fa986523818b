"""The report on one-shot classification: accuracy by presentation on fresh episodes, as in Table 1 of the paper."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from mannkern.experiments.one_shot import paper
from mannkern.experiments.one_shot.config import INSTANCES, OneShotConfig
from mannkern.experiments.one_shot.experiment import OneShotExperiment, augmented_test_sampler, chance, test_sampler
from mannkern.experiments.one_shot.scores import Scores, measure, measure_streams
from mannkern.tasks import EpisodeSampler
from mannkern.training.again import resume
from mannkern.training.experiment import EVALUATION_SEED
from mannkern.training.metrics import reached_goal
from mannkern.training.runtime import load_model, usable_device
from mannkern.training.tables import run_names, side_by_side, training_lines, write_evaluation

EPISODES = 1000
MANY_CLASSES = (25, *range(50, 101, 5))  # in an episode, beyond the number that a curriculum begins with (paper: 50)


class Evaluation(NamedTuple):
    """A run's scores on unseen classes, on these augmented as the paper does, and on the classes of training.

    other, other_augmented: on unseen classes in episodes of the other form, with unequal numbers of drawings of a class
    where those of training have equal ones, and the other way round; None where there is no other form.
    by_classes: on unseen classes, by the number of classes in an episode; empty without a curriculum.
    by_place: accuracy on unseen classes by an episode's place in a stream whose memory is not wiped, and ``wiped`` the
    scores on the same episodes where it is; both empty without ``persistent``.
    """

    run: Path
    config: OneShotConfig
    step: int
    unseen: Scores
    augmented: Scores
    seen: Scores
    other: Scores | None = None
    other_augmented: Scores | None = None
    by_classes: Mapping[int, Scores] = {}
    by_place: Sequence[float] = ()
    wiped: Scores | None = None

    @property
    def as_the_paper(self) -> Scores | None:
        """Those of the paper's test: augmented, with unequal numbers of drawings of a class."""
        return self.other_augmented if self.config.balanced else self.augmented


def other_form(config: OneShotConfig) -> OneShotConfig | None:
    """The settings of the episodes of the other form, see :class:`Evaluation`."""
    if config.shots is not None or config.curriculum or (not config.balanced and config.length % config.classes):
        return None
    return replace(config, balanced=not config.balanced)


def evaluate(run: Path, config: OneShotConfig, episodes: int = EPISODES) -> Evaluation:
    """Score a run on ``episodes`` episodes of unseen and as many of training classes; write ``evaluation.json``.

    A memory that is not wiped is scored on streams of episodes, and on the same unseen ones when it is wiped.
    With a curriculum a run is also scored on episodes of more classes, proportionally fewer, so that each number of
    classes has as many drawings. All runs of one task and shape of episode see the same episodes, so they compare.
    Raises ``CommandError`` where the run has no checkpoint or its data cannot be read.
    """
    experiment = OneShotExperiment(config)
    unseen = test_sampler(config, experiment.split.test, EVALUATION_SEED)
    seen = test_sampler(config, experiment.split.train, EVALUATION_SEED)
    device = usable_device(config)
    model, step = load_model(run, experiment, device)

    def score(sampler: EpisodeSampler) -> tuple[Scores, list[float]]:
        if config.carries:
            return measure_streams(model, sampler, episodes, device)
        return measure(model, sampler, episodes, device), []

    scores, by_place = score(unseen)
    wiped = measure_streams(model, unseen, episodes, device, wipe=True)[0] if config.carries else None
    by_classes = {config.classes: scores} if config.curriculum else {}
    for classes in MANY_CLASSES if config.curriculum else ():
        if classes > config.classes:
            sampler = test_sampler(config.with_classes(classes), experiment.split.test, EVALUATION_SEED)
            by_classes[classes] = measure(model, sampler, max(2, episodes * config.classes // classes), device)
    augmented, _ = score(augmented_test_sampler(config, experiment.split.test, EVALUATION_SEED))
    other, other_augmented = None, None
    if (settings := other_form(config)) is not None:
        other, _ = score(test_sampler(settings, experiment.split.test, EVALUATION_SEED))
        other_augmented, _ = score(augmented_test_sampler(settings, experiment.split.test, EVALUATION_SEED))
    result = Evaluation(
        run, config, step, scores, augmented, score(seen)[0], other, other_augmented, by_classes, by_place, wiped
    )
    record = {
        "step": step,
        "training_episodes": step * config.batch_size,
        "model": config.model,
        "chance": chance(config),
        "unseen": result.unseen.to_dict(),
        "unseen_augmented": result.augmented.to_dict(),
        "seen": result.seen.to_dict(),
    }
    form = "unequal" if config.balanced else "equal"
    for name, found in (("unseen", result.other), ("unseen_augmented", result.other_augmented)):
        if found is not None:
            record[f"{name}_{form}"] = found.to_dict()
    if config.shots is not None:
        record["shots"] = config.shots
    if by_classes:
        record["unseen_by_classes"] = {str(classes): scores.to_dict() for classes, scores in by_classes.items()}
    if wiped is not None:
        record |= {"unseen_wiped": wiped.to_dict(), "unseen_by_place": by_place}
    write_evaluation(run, record)
    return result


def table(results: Sequence[Evaluation]) -> str:
    """Accuracy on unseen classes by instance: a column for each run, one for chance, and the paper's where it compares.

    For a run with a curriculum, a table by the number of classes follows.
    """
    config = results[0].config
    if config.shots is not None:
        return table_of_queries(results)
    columns = [instances()]
    for name, result in zip(run_names(results), results, strict=True):
        columns.append([name, *accuracies(result.unseen)])
        if result.wiped is not None:
            columns.append([f"{name}, wiped", *accuracies(result.wiped)])
    shown = [0, *(line for line in range(1, len(columns[0])) if any(column[line] != "-" for column in columns[1:]))]
    columns.append(["chance", *[percent(chance(config))] * len(INSTANCES)])
    if mann := paper.rows(config).get("MANN"):
        for name, result in zip(run_names(results), results, strict=True):
            if result.as_the_paper is not None:
                columns.append([f"{name}, paper's test", *accuracies(result.as_the_paper)])
        columns.append(["paper's MANN", *(f"{value:.1f}%" for value in mann)])
    rows = [[column[line] for line in shown] for column in columns]
    tables = ["\n".join([headline(results[0].unseen), *training_lines(results, "episodes"), "", *side_by_side(rows)])]
    for name, result in zip(run_names(results), results, strict=True):
        if result.by_classes:
            tables.append(table_by_classes(result, name))
    return "\n\n".join([*tables, note(config)])


def table_of_queries(results: Sequence[Evaluation]) -> str:
    """Accuracy on the queries of N-way K-shot episodes: a column for each run, and one for chance."""
    config = results[0].config
    columns = [["", "unseen classes", "augmented", "training classes"]]
    for name, result in zip(run_names(results), results, strict=True):
        scores = (result.unseen, result.augmented, result.seen)
        columns.append([name, *(f"{s.accuracy:.1%} ± {s.accuracy_interval:.1%}" for s in scores)])
    columns.append(["chance", *[percent(chance(config))] * 3])
    head = (
        f"{config.task}, accuracy on the queries, {config.classes}-way {config.shots}-shot: "
        f"{results[0].unseen.episodes:,} episodes, ± half a 95% interval over episodes"
    )
    return "\n".join([head, *training_lines(results, "episodes"), "", *side_by_side(columns)])


def verdict(result: Evaluation) -> str:
    """A sentence that says whether the model learned, by its accuracy when it has seen a class often (``judged``).

    It learned if it has come more than half the way from chance to knowing all. It has begun to if it is better there
    than at the first presentation, whose label it can only guess, by more than the 95% intervals of both.
    """
    scores, blind = result.unseen, chance(result.config)
    if result.config.shots is not None:
        where, first, known, uncertain = "at the queries", blind, scores.accuracy, scores.accuracy_interval
    else:
        last = max(k for k in INSTANCES if k <= result.config.judged and not math.isnan(scores.by_instance[k - 1]))
        where = f"at the {ordinal(last)} presentation"
        first, known = scores.by_instance[0], scores.by_instance[last - 1]
        uncertain = scores.interval[0] + scores.interval[last - 1]
    if known > (1 + blind) / 2:
        found = "The model learned"
    elif known - first > uncertain:
        found = "The model has begun to learn"
    else:
        found = "The model has not learned"
    text = f"{found}: {where} of an unseen class it is right in {percent(known)}, and chance is {percent(blind)}."
    return text if found == "The model learned" else f"{text} {_more_training(result)}"


def _more_training(result: Evaluation) -> str:
    """The command that goes on beyond what ended the run: a limit of steps or of minutes, or a goal."""
    config = result.config
    again = resume(result.run)
    if config.until is not None and reached_goal(result.run, config, result.step):
        return f"It ended at the accuracy of --until, {config.until:g}. More training: {again} --until ACCURACY"
    if result.step >= config.falling_steps:
        return (
            f"Its learning rate has fallen to 0: more training is another run, the same command with more --steps than "
            f"{result.step:,} and another --run"
        )
    by_time = config.minutes is not None and result.step < config.step_limit
    name, most = ("minutes", f"{config.minutes:g}") if by_time else ("steps", f"{result.step:,}")
    counted = f"{name.upper()} counts the whole run: more than {most} in all"
    return f"More training ({counted}): {again} --{name} {name.upper()}"


def table_by_classes(result: Evaluation, name: str) -> str:
    """Accuracy on unseen classes by instance, a column for each number of classes."""
    columns = [instances()]
    for classes, scores in result.by_classes.items():
        columns.append([f"{classes} classes", *accuracies(scores)])
    most = result.config.at_step(max(0, result.step - 1)).classes
    head = f"{name}, trained on {result.config.classes} to {most} classes, by classes in an episode"
    return "\n".join([head, "", *side_by_side(columns)])


def headline(scores: Scores) -> str:
    """The first line of a table: what its numbers are."""
    return (
        f"Accuracy on classes never seen in training, by instance: {scores.episodes:,} episodes, "
        "± half a 95% interval over episodes"
    )


def note(config: OneShotConfig) -> str:
    """The last line of a table: how much a model can know at the first presentation of a class."""
    if config.labels == "strings":
        return (
            "1st: the string of a class can only be guessed, so chance is the best there is; later, a string "
            f"of the episode at random is right for {percent(1 / config.classes)}"
        )
    ideal = sum(1 / k for k in range(1, config.classes + 1)) / config.classes
    return f"1st: labels already given can be ruled out, so {ideal:.1%} is possible without having seen the class"


def instances() -> list[str]:
    """The first column of a table, with the names of its lines."""
    return ["instance", *(ordinal(k) for k in INSTANCES)]


def accuracies(scores: Scores) -> list[str]:
    """The cells of a column: accuracies, each with half its interval."""
    pairs = list(zip(scores.by_instance, scores.interval, strict=True))
    cells = ["-" if math.isnan(mean) else f"{mean:6.1%}" + _uncertainty(half) for mean, half in pairs]
    return [cells[k - 1] for k in INSTANCES]


def _uncertainty(half: float) -> str:
    """Half an interval; nothing where one episode alone came so far."""
    return "" if math.isnan(half) else f" ± {half:.1%}"


def percent(share: float) -> str:
    """A share as percent, with one decimal, or two where one would show 0."""
    return f"{share:.1%}" if share >= 0.0005 else f"{share:.2%}"


def ordinal(k: int) -> str:
    """1st, 2nd, ... for k up to 10."""
    return str(k) + {1: "st", 2: "nd", 3: "rd"}.get(k, "th")
