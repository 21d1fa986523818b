"""Few-shot regression of sinusoids (Finn et al. 2017, section 5.1): its data, its loss, and its error on queries."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mannkern.experiments.meta_memory import meta_memory_network
from mannkern.experiments.sinusoids.config import SinusoidConfig
from mannkern.models import MetaMemoryNetwork
from mannkern.tasks import Sinusoids, SinusoidSampler
from mannkern.training.experiment import VALIDATION_SEED
from mannkern.training.flags import command_error
from mannkern.training.runtime import eval_mode
from mannkern.training.statistics import mean_and_interval

VALIDATION_TASKS = 200
MEASURED_QUERIES = 100  # of each task, whatever number a run trains with
BATCH = 200


def make_model(config: SinusoidConfig) -> MetaMemoryNetwork:
    """A meta-memory network with one output; two layers of ReLUs embed x. Raises ``CommandError`` for wrong sizes."""
    layers = (nn.Linear(1, config.width), nn.ReLU(), nn.Linear(config.width, config.width), nn.ReLU())
    return meta_memory_network(config, nn.Sequential(*layers), config.width, 1, loss="mean_squared_error")


def test_sampler(config: SinusoidConfig, seed: int) -> SinusoidSampler:
    """Sinusoids to measure on. The network sees as many points of each as in training."""
    return SinusoidSampler(config.shots, MEASURED_QUERIES, seed)


class SinusoidScores(NamedTuple):
    """Mean squared error of the queries of ``tasks`` sinusoids, after ``steps`` steps of adaptation.

    interval: half the width of a 95% interval (normal) over the errors of single tasks. Where a task diverged, it is
        infinite or NaN, as the error is.
    """

    steps: int
    tasks: int
    error: float
    interval: float

    def to_dict(self) -> dict[str, Any]:
        """All fields, fit for JSON (None where the error is not finite)."""
        error, interval = (value if math.isfinite(value) else None for value in (self.error, self.interval))
        return {"steps": self.steps, "tasks": self.tasks, "mean_squared_error": error, "interval_95": interval}


def measure(model: nn.Module, sampler: SinusoidSampler, steps: int, tasks: int, device: torch.device) -> SinusoidScores:
    """Score ``model`` on the sampler's first ``tasks`` sinusoids. Torch's generator stays as it was."""
    errors = []
    with eval_mode(model, device):
        for index, start in enumerate(range(0, tasks, BATCH)):
            batch = _on(sampler.sample(min(BATCH, tasks - start), index), device)
            outputs = model.adapt(batch.support, batch.labels, steps=steps)(batch.queries)  # type: ignore[operator]
            errors.append((outputs - batch.targets).double().square().mean((1, 2)).cpu())
    return SinusoidScores(steps, tasks, *mean_and_interval(torch.cat(errors)))


class SinusoidExperiment:
    """Regression from K points: mean squared error of the queries after adaptation."""

    unit = "sinusoids"
    num_sums = 1

    def __init__(self, config: SinusoidConfig) -> None:
        self.config = config
        try:
            self.sampler = SinusoidSampler(config.shots, config.queries, config.seed)
        except ValueError as error:
            raise command_error(error, config) from error
        self.unseen = test_sampler(config, VALIDATION_SEED)

    def make_model(self) -> MetaMemoryNetwork:
        return make_model(self.config)

    def sample(self, step: int, device: torch.device) -> Sinusoids:
        return self.sample_rows(step, device, slice(None))

    def sample_rows(self, step: int, device: torch.device, rows: slice) -> Sinusoids:
        """The sinusoids ``rows`` of the batch of ``step``."""
        batch = self.sampler.sample(self.config.batch_size, step)
        return _on(Sinusoids(*(tensor[rows] for tensor in batch)), device)

    def loss_and_sums(self, model: nn.Module, batch: Sinusoids) -> tuple[Tensor, Tensor]:
        """Loss and [sum of the sinusoids' mean squared errors]."""
        loss = F.mse_loss(model(batch.support, batch.labels, batch.queries), batch.targets)
        return loss, loss.detach().double().unsqueeze(0) * len(batch.targets)

    def summarize(self, sums: list[float], steps: float) -> dict[str, Any]:
        """``root_mean_squared_error``, in units of y."""
        return {"root_mean_squared_error": math.sqrt(sums[0] / (steps * self.config.batch_size))}

    def progress_text(self, summary: dict[str, Any]) -> str:
        return f"y to within {summary['root_mean_squared_error']:.2f}"

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, Any]:
        """The loss on sinusoids of the validation seed."""
        scores = measure(model, self.unseen, self.config.inner_steps, VALIDATION_TASKS, device)
        return {"loss": scores.error}


def _on(sinusoids: Sinusoids, device: torch.device) -> Sinusoids:
    return Sinusoids(*(tensor.to(device) for tensor in sinusoids))
