"""Accuracy by instance on fresh episodes, with an interval, as in Table 1 of the paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mannkern.tasks.episodes import Episodes, EpisodeSampler

from .build import load_split, make_model, test_sampler, usable_device
from .checkpoint import load_checkpoint, write_json
from .config import TrainConfig
from .errors import CommandError
from .metrics import INSTANCES

EVALUATION = "evaluation.json"
EPISODES = 1000
MAX_INSTANCE = 10
BATCH = 100
VALIDATION_SEED = 1_000_001  # the two differ, so that what one watches while training is not what one reports
EVALUATION_SEED = 1_000_002
PAPER = {1: 0.364, 2: 0.828, 3: 0.910, 4: 0.926, 5: 0.949, 10: 0.981}  # Table 1, MANN, five classes, one-hot labels


class Scores(NamedTuple):
    """Accuracy over E episodes. Item k - 1 of a list: the k-th time a class is shown; NaN where none came so often.

    ``interval`` is half the width of a 95% interval: normal, over the episodes' own means, since outcomes within an
    episode share its classes and its memory, while episodes are drawn independently. It is 0 where all episodes agree.
    """

    episodes: int
    loss: float
    accuracy: float
    by_instance: list[float]
    interval: list[float]

    def summary(self, instances: Sequence[int]) -> dict[str, Any]:
        """``loss``, ``accuracy`` and ``accuracy_by_instance`` of ``instances``, fit for JSON (None instead of NaN)."""
        chosen = {str(k): _or_none(self.by_instance[k - 1]) for k in instances}
        return {"loss": self.loss, "accuracy": self.accuracy, "accuracy_by_instance": chosen}

    def to_dict(self) -> dict[str, Any]:
        """Everything, fit for JSON (None instead of NaN)."""
        intervals = {str(k): _or_none(value) for k, value in enumerate(self.interval, 1)}
        summary = self.summary(range(1, MAX_INSTANCE + 1))
        return {"episodes": self.episodes, **summary, "interval_95_by_instance": intervals}


class Evaluation(NamedTuple):
    """A run's scores on classes never seen in training and on those it learned from."""

    run: Path
    config: TrainConfig
    step: int
    unseen: Scores
    seen: Scores


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def measure(model: nn.Module, sampler: EpisodeSampler, episodes: int, device: torch.device) -> Scores:
    """Score ``model`` on the sampler's first ``episodes`` episodes; leaves torch's generator as it was."""
    right, shown, losses = [], [], []
    training = model.training
    model.eval()
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
        torch.manual_seed(0)  # a memory that starts at random starts alike in every evaluation
        for index, start in enumerate(range(0, episodes, BATCH)):
            batch = Episodes(*(part.to(device) for part in sampler.sample(min(BATCH, episodes - start), index)))
            logits = model(batch.inputs)
            correct = logits.argmax(-1) == batch.targets
            at = batch.instances.unsqueeze(-1) == torch.arange(1, MAX_INSTANCE + 1, device=device)  # (T, B, K)
            shown.append(at.sum(0).double().cpu())
            right.append((at & correct.unsqueeze(-1)).sum(0).double().cpu())
            losses.append(_episode_means(logits, batch.targets, correct))
    model.train(training)
    means = torch.cat(right) / torch.cat(shown)  # (E, K); 0/0 = NaN where an episode shows no class so often
    count = (~means.isnan()).sum(0)
    mean = means.nanmean(0)
    variance = (means - mean).square().nansum(0) / (count - 1)
    loss, accuracy = torch.cat(losses).mean(0).tolist()
    return Scores(episodes, loss, accuracy, mean.tolist(), (1.96 * (variance / count).sqrt()).tolist())


def _episode_means(logits: Tensor, targets: Tensor, correct: Tensor) -> Tensor:
    """Loss and accuracy of each episode: (B, 2) float64 on the CPU."""
    loss = F.cross_entropy(logits.movedim(-1, 1), targets, reduction="none").double().mean(0)
    return torch.stack((loss, correct.double().mean(0)), 1).cpu()


def load_model(run: Path, config: TrainConfig, sampler: EpisodeSampler, device: torch.device) -> tuple[nn.Module, int]:
    """The model of a run's checkpoint and the step it stands at. Raises ``CommandError`` where there is none."""
    checkpoint = load_checkpoint(run)
    if checkpoint is None:
        raise CommandError(f"{run} has no checkpoint yet; train it: python -m mannkern train --run {run} --resume")
    with torch.random.fork_rng([]):  # parameters are drawn, then replaced
        model = make_model(config, sampler)
    model.load_state_dict(checkpoint["model"])
    return model.to(device), checkpoint["step"]


def evaluate(run: Path, config: TrainConfig, episodes: int = EPISODES) -> Evaluation:
    """Score a run on ``episodes`` unseen and as many training classes' episodes; write ``evaluation.json`` into it.

    All runs of one task and shape of episode see the same episodes, so they can be compared.
    Raises ``CommandError`` where the run has no checkpoint or its data cannot be read.
    """
    split = load_split(config)
    unseen = test_sampler(config, split.test, EVALUATION_SEED)
    seen = test_sampler(config, split.train, EVALUATION_SEED)
    device = usable_device(config)
    model, step = load_model(run, config, unseen, device)
    result = Evaluation(
        run, config, step, measure(model, unseen, episodes, device), measure(model, seen, episodes, device)
    )
    record = {
        "step": step,
        "training_episodes": step * config.batch_size,
        "memory": config.memory,
        "chance": 1 / config.classes,
        "unseen": result.unseen.to_dict(),
        "seen": result.seen.to_dict(),
    }
    write_json(run / EVALUATION, record)
    return result


def run_names(results: Sequence[Evaluation]) -> list[str]:
    """MANN and LSTM where that tells the runs apart, else their folders too."""
    names = [result.config.memory.upper() for result in results]
    if len(set(names)) == len(names):
        return names
    return [f"{name} {result.run}" for name, result in zip(names, results, strict=True)]


def table(results: Sequence[Evaluation]) -> str:
    """Accuracy on unseen classes by instance, a column a run, next to chance and, where it compares, to the paper."""
    config = results[0].config
    columns = [["instance", *(ordinal(k) for k in INSTANCES)]]
    for name, result in zip(run_names(results), results, strict=True):
        scores = zip(result.unseen.by_instance, result.unseen.interval, strict=True)
        cells = ["-" if math.isnan(mean) else f"{mean:6.1%} ± {half:.1%}" for mean, half in scores]
        columns.append([name, *(cells[k - 1] for k in INSTANCES)])
    columns.append(["chance", *[f"{1 / config.classes:.1%}"] * len(INSTANCES)])
    if config.task == "omniglot" and config.classes == 5:
        columns.append(["paper's MANN", *(f"{PAPER[k]:.1%}" for k in INSTANCES)])
    widths = [max(map(len, column)) for column in columns]
    rows = [
        "   ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in zip(*columns, strict=True)
    ]
    head = (
        f"Accuracy on classes never seen in training, by instance: {results[0].unseen.episodes:,} episodes, "
        "± half a 95% interval over episodes"
    )
    trained = [
        f"{name}: {result.step:,} steps, {result.step * result.config.batch_size:,} episodes of training"
        for name, result in zip(run_names(results), results, strict=True)
    ]
    ideal = sum(1 / k for k in range(1, config.classes + 1)) / config.classes
    note = f"1st: labels already given can be ruled out, so {ideal:.1%} is possible without having seen the class"
    return "\n".join([head, *trained, "", *rows, "", note])


def ordinal(k: int) -> str:
    """1st, 2nd, ... for k up to 10."""
    return str(k) + {1: "st", 2: "nd", 3: "rd"}.get(k, "th")
