"""The registry of experiments. A new kind is a folder beside this file and one line in ``KINDS``."""

from __future__ import annotations

from pathlib import Path

from mannkern.experiments import (
    algorithmic,
    autoencoder,
    families,
    few_shot,
    few_shot_images,
    gaussian_processes,
    one_shot,
    sinusoids,
    zero_shot,
)
from mannkern.experiments.kind import Kind
from mannkern.training import loop
from mannkern.training.checkpoint import CONFIG, read_config
from mannkern.training.config import RunConfig
from mannkern.training.errors import CommandError
from mannkern.training.experiment import Experiment
from mannkern.training.exported import is_exported
from mannkern.training.replica import share_of
from mannkern.training.runtime import usable_device, use_threads
from mannkern.training.sizes import check_sizes
from mannkern.training.threads import choose_threads
from mannkern.training.trackers import check_tracker

DEFAULT_TASK = "glyphs"
KINDS: list[Kind] = [
    one_shot.KIND,
    few_shot.KIND,
    sinusoids.KIND,
    gaussian_processes.KIND,
    autoencoder.KIND,
    zero_shot.KIND,
    families.KIND,
    few_shot_images.KIND,
    algorithmic.KIND,
]


def register_task(kind: Kind) -> None:
    """Add tasks of your own: the command line and ``mannkern.load`` of this process know them from then on.

    kind: from ``sequence_task`` or ``plain_kind``, or a record with a report of your own (docs/your-own-task.md)

    Raises ``ValueError`` where one of its tasks has a name that is taken, or has settings that do not know that name.
    """
    taken = config_classes()
    for task, cls in kind.tasks.items():
        if task in taken:
            raise ValueError(f"kind: got the task {task!r}, need a name that is not registered yet")
        cls(task=task)
    KINDS.append(kind)


def config_classes() -> dict[str, type[RunConfig]]:
    """The class of the settings of each task, by the task's name."""
    return {task: cls for kind in KINDS for task, cls in kind.tasks.items()}


def kind_of(task: str) -> Kind:
    """The kind of experiment that a task belongs to."""
    return next(kind for kind in KINDS if task in kind.tasks)


def load_config(run: Path) -> RunConfig:
    """The settings of ``run``. Raises ``CommandError`` if the folder is no run or its task is unknown."""
    values = read_config(run)
    file = run if is_exported(run) else run / CONFIG
    classes, task = config_classes(), values.get("task", DEFAULT_TASK)
    if not isinstance(task, str) or task not in classes:
        own = "a task of your own is known after its register_task has run in this process"
        raise CommandError(f"{file}: --task: got {task}, need one of {', '.join(classes)}; {own}")
    try:
        return classes[task].from_dict(values)
    except ValueError as error:
        own = "; a model of your own is known after its register_core has run in this process"
        unknown = str(error).startswith("--model: ")
        raise CommandError(f"{file}: {error}{own if unknown else ''}") from None


def prepare(config: RunConfig) -> Experiment:
    """The experiment of ``config``, with its data. Nothing is written into a run.

    Raises ``CommandError`` for data, a device or a service that is missing, and for sizes that are impossible or beyond
    memory, or that several processes cannot share.
    """
    check_tracker(config.log)
    use_threads(config)
    device = usable_device(config)
    experiment = kind_of(config.task).open(config)
    share_of(experiment, config)  # it may not be one for several processes
    check_sizes(experiment, config, device)
    return experiment


def train(config: RunConfig, run: Path, experiment: Experiment | None = None) -> loop.Outcome:
    """Train in ``run``, see :func:`mannkern.training.loop.train`. experiment: what ``prepare`` gives, by default that.

    A run without a number of threads takes the faster of one and all.
    """
    experiment = experiment or prepare(config)
    return loop.train(experiment, choose_threads(experiment, config, run), run)
