"""Carrying out planned runs: each is resumed where it stopped, and its result is one JSON file."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bench.science.plan import Planned
from bench.science.records import read_record
from mannkern.benchmark.machine import surroundings, write
from mannkern.commands.runs import new_run, resumed_run
from mannkern.experiments import registry
from mannkern.experiments.characters import OMNIGLOT, load_split
from mannkern.experiments.one_shot.config import OneShotConfig
from mannkern.experiments.one_shot.experiment import augmented_test_sampler, test_sampler
from mannkern.experiments.one_shot.report import other_form
from mannkern.experiments.one_shot.scores import measure
from mannkern.files import write_atomically
from mannkern.models import NearestNeighbours
from mannkern.training.checkpoint import CHECKPOINT, CONFIG, load_checkpoint
from mannkern.training.config import RunConfig
from mannkern.training.experiment import EVALUATION_SEED
from mannkern.training.metrics import read_metrics
from mannkern.training.runtime import use_threads
from mannkern.training.tables import EVALUATION

PLACES = ("data", "device", "threads", "save_seconds")  # settings that change no result, or are the machine's


def is_finished(file: Path) -> bool:
    """Whether ``file`` is the result of a run that has reached its end."""
    return file.exists() and bool(read_record(file)["finished"])


def carry_out(planned: Planned, runs: Path, results: Path, data: Path, threads: int = 1) -> bool:
    """Train and evaluate what is missing of a run, and write ``results/NAME.json``. False where a signal stopped it.

    The run is the folder ``runs/NAME``; data: the folder of Omniglot. A result that is there, such as another machine's
    that is not at its end, stays until the run has got as far or is finished.
    """
    file = results / f"{planned.name}.json"
    if is_finished(file):
        return True
    if planned.settings.get("model") == "knn":
        write(file, _neighbours(planned, data))
        return True
    run = runs / planned.name
    config = _open(run, planned, data, threads)
    # of the code that trains: later the files may be those of another
    commit = {"commit": _joined(file, run, surroundings()["commit"])}
    _keep_commits(run, commit["commit"])
    _write_longer(file, result(planned, run, config, finished=False) | commit)  # a kill may end the run
    outcome = registry.train(config, run)
    if outcome.signal is None:
        registry.kind_of(config.task).evaluate(run, config, planned.episodes)
    _write_longer(file, result(planned, run, config, outcome.signal is None) | commit)
    return outcome.signal is None


def collect(planned: Planned, runs: Path, results: Path) -> bool:
    """Write the result of a run that is not at its end as far as it is.

    False where it has not begun, or the result that is there has more steps.
    """
    file, run = results / f"{planned.name}.json", runs / planned.name
    if is_finished(file) or not (run / CHECKPOINT).exists():
        return is_finished(file)
    commit = {"commit": _commits(file, run)}  # none trains now
    return _write_longer(file, result(planned, run, registry.load_config(run), finished=False) | commit)


def evaluate_again(planned: Planned, runs: Path, results: Path, data: Path, threads: int = 1) -> bool:
    """Evaluate a finished run anew and replace that in its result. False where its folder does not hold the model.

    The result then has the commit of the code that evaluated as ``evaluation_commit``.
    """
    file, run = results / f"{planned.name}.json", runs / planned.name
    if not is_finished(file):
        return False
    record = read_record(file)
    if planned.settings.get("model") == "knn":
        record["evaluation"] = _neighbours(planned, data)["evaluation"]
    else:
        checkpoint = load_checkpoint(run)
        if checkpoint is None or checkpoint["step"] != record["step"]:
            return False
        config = registry.load_config(run)
        kept = config.to_dict()
        if any(kept.get(name) != x for name, x in record["settings"].items() if name in kept and x is not None):
            return False
        config = replace(config, threads=threads, **_data_of(config.task, data))
        use_threads(config)
        registry.kind_of(config.task).evaluate(run, config, planned.episodes)
        record["evaluation"] = json.loads((run / EVALUATION).read_text())
    write(file, record | {"evaluation_commit": surroundings()["commit"]})
    return True


def _open(run: Path, planned: Planned, data: Path, threads: int) -> RunConfig:
    settings = dict(planned.settings) | {"seed": planned.seed, "threads": threads}
    settings |= _data_of(settings["task"], data)
    if (run / CONFIG).exists() and (run / CHECKPOINT).exists():
        return resumed_run(run, settings)
    return new_run(run, settings, overwrite=True)


def _data_of(task: str, data: Path) -> dict[str, Any]:
    return {"data": os.path.abspath(data)} if task in OMNIGLOT else {}


def commits_file(run: Path) -> Path:
    """The file beside the folder of a run that names the commits that trained it."""
    return run.with_name(f"{run.name}.commits")


def _keep_commits(run: Path, commits: str) -> None:
    """A result may be of another run, or in another folder next time, so the commits stand beside the run too."""
    write_atomically(commits_file(run), lambda file: file.write(commits.encode()))


def _commits(file: Path, run: Path) -> str:
    """The commits that trained the parts of a run until now; those of its result where none stand beside it."""
    if commits_file(run).exists():
        return commits_file(run).read_text()
    return str(read_record(file)["commit"]) if file.exists() else "unknown"


def _joined(file: Path, run: Path, commit: str) -> str:
    """``commit``, behind those that trained the parts of the run before."""
    if not (run / CHECKPOINT).exists() or not (file.exists() or commits_file(run).exists()):
        return commit
    before = _commits(file, run).split(", then ")
    return ", then ".join([*before, *([commit] if commit != before[-1] else [])])


def _write_longer(file: Path, content: dict[str, Any]) -> bool:
    """Write a result. False where it is not finished and the one that is there has more steps, which then stays."""
    if not content["finished"] and file.exists() and read_record(file)["step"] > content["step"]:
        return False
    write(file, content)
    return True


def result(planned: Planned, run: Path, config: RunConfig, finished: bool) -> dict[str, Any]:
    """What is kept of a run: settings, seed, commit, machine, time, every validation, and the evaluation at the end."""
    checkpoint = load_checkpoint(run) or {"step": 0, "seconds": 0.0}
    curve = [line for line in read_metrics(run) if line["kind"] == "validation"]
    evaluation = json.loads((run / EVALUATION).read_text()) if finished else None
    return {
        "study": planned.study,
        "row": planned.row,
        "seed": planned.seed,
        "finished": finished,
        **surroundings(),
        "command": f"python -m bench.science --only {planned.name}",
        "settings": {name: value for name, value in config.to_dict().items() if name not in PLACES},
        "threads": config.threads,
        "step": checkpoint["step"],
        "examples": checkpoint["step"] * config.batch_size,
        "seconds": checkpoint["seconds"],
        "curve": [_rounded({name: x for name, x in line.items() if name != "kind"}) for line in curve],
        "evaluation": evaluation,
    }


def _rounded(value: Any) -> Any:
    """Numbers with six digits, so that a curve stays short."""
    if isinstance(value, dict):
        return {name: _rounded(x) for name, x in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _neighbours(planned: Planned, data: Path) -> dict[str, Any]:
    """The result of the nearest neighbours in pixels, which are not trained."""
    episodes = {name: x for name, x in planned.settings.items() if name not in ("model", "neighbours")}
    config = OneShotConfig(**episodes, data=str(data), image_scale="255")
    images = load_split(config).test
    scores = {}
    forms, other = [("", config)], other_form(config)
    if other is not None:
        forms.append(("_unequal" if config.balanced else "_equal", other))
    samplers = {"unseen": test_sampler, "unseen_augmented": augmented_test_sampler}
    for name, sampler in (
        (f"{name}{form}", make(settings, images, EVALUATION_SEED))
        for form, settings in forms
        for name, make in samplers.items()
    ):
        model = NearestNeighbours(sampler.label_size, count=planned.settings["neighbours"])
        scores[name] = measure(model, sampler, planned.episodes, torch.device("cpu")).to_dict()
        del scores[name]["loss"]  # neighbours answer without probabilities
    return {
        "study": planned.study,
        "row": planned.row,
        "seed": planned.seed,
        "finished": True,
        **surroundings(),
        "command": f"python -m bench.science --only {planned.name}",
        "settings": dict(planned.settings) | {"balanced": config.balanced},
        "step": 0,
        "examples": 0,
        "seconds": 0.0,
        "curve": [],
        "evaluation": scores,
    }
