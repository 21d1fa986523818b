"""Regression on Gaussian processes: its loss, and the log-likelihood of a value by the number of points before it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mannkern.experiments.gaussian_processes.config import GaussianProcessConfig
from mannkern.models import HeadedCore, build_core
from mannkern.tasks import Functions, GaussianProcessSampler
from mannkern.training.experiment import VALIDATION_SEED
from mannkern.training.flags import command_error
from mannkern.training.runtime import eval_mode
from mannkern.training.statistics import means_and_intervals

VALIDATION_FUNCTIONS = 200
BATCH = 100
LEAST_DEVIATION = 1e-3  # so that a lucky guess has a bounded likelihood


def predicted(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """The Gaussian of each value: outputs (..., 2) -> mean and deviation, both (...)."""
    mean, raw = outputs.unbind(-1)
    return mean, LEAST_DEVIATION + F.softplus(raw)


def log_likelihood(mean: Tensor, deviation: Tensor, targets: Tensor) -> Tensor:
    """Nats, (...), of targets under Gaussians with this mean and deviation, all (...)."""
    return -0.5 * ((targets - mean) / deviation).square() - deviation.log() - 0.5 * math.log(2 * math.pi)


class FunctionScores(NamedTuple):
    """Means over E functions. Item t of a list is for the values that come after t points.

    log_likelihood: nats of the model's Gaussians, interval: half the width of its 95% interval over functions
    error:          mean squared error of the model's means
    exact, exact_error: the same of the exact posterior of the process, on the same functions
    """

    functions: int
    log_likelihood: list[float]
    interval: list[float]
    error: list[float]
    exact: list[float]
    exact_error: list[float]

    def mean(self) -> float:
        """The model's log-likelihood of a value, over all points."""
        return math.fsum(self.log_likelihood) / len(self.log_likelihood)

    def exact_mean(self) -> float:
        """That of the exact posterior."""
        return math.fsum(self.exact) / len(self.exact)

    def to_dict(self) -> dict[str, Any]:
        """All fields and both means, fit for JSON."""
        values = self._asdict() | {"mean_log_likelihood": self.mean(), "exact_mean_log_likelihood": self.exact_mean()}
        values["interval_95"] = values.pop("interval")
        return values


def measure(model: nn.Module, sampler: GaussianProcessSampler, number: int, device: torch.device) -> FunctionScores:
    """Score ``model`` on the sampler's first ``number`` functions. Torch's generator stays as it was."""
    parts: list[list[Tensor]] = [[], [], [], []]
    with eval_mode(model, device):
        for index, start in enumerate(range(0, number, BATCH)):
            batch = sampler.sample(min(BATCH, number - start), index)
            mean, deviation = (x.cpu().double() for x in predicted(model(batch.inputs.to(device))))
            for place, (m, d) in enumerate(((mean, deviation), sampler.predictions(batch))):
                parts[2 * place].append(log_likelihood(m, d, batch.targets).T)
                parts[2 * place + 1].append((m - batch.targets).square().T)
    (ours, interval), (error, _), (exact, _), (exact_error, _) = (
        means_and_intervals(torch.cat(part)) for part in parts
    )
    return FunctionScores(number, ours, interval, error, exact, exact_error)


class GaussianProcessExperiment:
    """The loss is the mean negative log-likelihood of a value under the Gaussian that the model predicts for it."""

    unit = "functions"
    num_sums = 2

    def __init__(self, config: GaussianProcessConfig) -> None:
        self.config = config
        self.sampler = config.sampler(config.seed)
        self.unseen = config.sampler(VALIDATION_SEED)

    def make_model(self) -> HeadedCore:
        """A core under a head of two outputs. Raises ``CommandError`` for impossible sizes."""
        settings = self.config.core_settings(self.sampler.input_size)
        try:
            return HeadedCore(build_core(self.config.model, settings), 2)
        except ValueError as error:
            raise command_error(error, self.config) from error

    def sample(self, step: int, device: torch.device) -> Functions:
        return self.sample_rows(step, device, slice(None))

    def sample_rows(self, step: int, device: torch.device, rows: slice) -> Functions:
        """The functions ``rows`` of the batch of ``step``."""
        batch = self.sampler.sample(self.config.batch_size, step)
        return Functions(*(x[:, rows].to(device) for x in batch))

    def loss_and_sums(self, model: nn.Module, batch: Functions) -> tuple[Tensor, Tensor]:
        """Loss and [loss, squared error], summed over functions."""
        mean, deviation = predicted(model(batch.inputs))
        loss = -log_likelihood(mean, deviation, batch.targets).mean()
        error = (mean.detach() - batch.targets).square().mean()
        return loss, torch.stack((loss.detach(), error)).double() * batch.targets.shape[1]

    def summarize(self, sums: list[float], steps: float) -> dict[str, Any]:
        """``log_likelihood`` of a value in nats, and ``root_mean_squared_error``."""
        loss, error = (total / (steps * self.config.batch_size) for total in sums)
        return {"log_likelihood": -loss, "root_mean_squared_error": math.sqrt(error)}

    def progress_text(self, summary: dict[str, Any]) -> str:
        return f"values to within {summary['root_mean_squared_error']:.2f}"

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, Any]:
        """``log_likelihood`` on functions of the validation seed, and that of the exact posterior."""
        scores = measure(model, self.unseen, VALIDATION_FUNCTIONS, device)
        return {"log_likelihood": scores.mean(), "exact_log_likelihood": scores.exact_mean()}
