"""A model on several processes: each computes its rows of the batch, and all take the same step."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mannkern.training import processes
from mannkern.training.batch_norm import share_statistics
from mannkern.training.config import RunConfig
from mannkern.training.errors import CommandError
from mannkern.training.experiment import Experiment, Trainable


class Share:
    """The share of this rank in ``experiment``: the rows of a batch from ``rank * B / size`` on.

    So the batch of all ranks is that of one process. Raises ``CommandError`` where it cannot be split.
    """

    def __init__(self, experiment: Experiment, batch_size: int) -> None:
        rank, size = processes.rank(), processes.size()
        if batch_size % size:
            raise CommandError(f"--batch-size: got {batch_size}, need a multiple of the {size} processes")
        if not hasattr(experiment, "sample_rows"):
            raise CommandError(f"{type(experiment).__name__} trains in one process: it has no method sample_rows")
        self.experiment = experiment
        self.rows = slice(rank * batch_size // size, (rank + 1) * batch_size // size)

    def sample(self, step: int, device: torch.device) -> Any:
        """This rank's rows of the batch of ``step``."""
        return self.experiment.sample_rows(step, device, self.rows)

    def loss_and_sums(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """As the experiment's, of this rank's rows."""
        return self.experiment.loss_and_sums(model, batch)


class Replica(Share):
    """A share whose loss is the mean over all ranks, as are its gradients, and whose sums are those of all ranks."""

    def __init__(self, experiment: Experiment, batch_size: int, model: nn.Module) -> None:
        super().__init__(experiment, batch_size)
        share_statistics(model)
        # Models may have unused parameters. Besides, without this DDP sorts its buckets anew after the first step, and
        # then sums of three ranks round differently after a resumption.
        self.replica = DistributedDataParallel(_Loss(experiment, model), find_unused_parameters=True)

    def loss_and_sums(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """Loss and sums of all ranks. The gradient of the loss is that of this rank: DDP takes the mean itself."""
        loss, sums = self.replica(batch)
        total = processes.add(torch.cat((loss.detach().double().unsqueeze(0), sums)))
        return _Value.apply(loss, (total[0] / processes.size()).to(loss.dtype)), total[1:]


class _Loss(nn.Module):
    """The loss as a module, so that DDP sees all that an experiment does with its model, not ``forward`` alone."""

    def __init__(self, experiment: Experiment, model: nn.Module) -> None:
        super().__init__()
        self.experiment, self.model = experiment, model
        device = next(model.parameters()).device
        self.unused = nn.Parameter(torch.zeros(1, device=device))  # DDP prints a warning where it finds none

    def forward(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self.experiment.loss_and_sums(self.model, batch)


class _Value(torch.autograd.Function):
    """``value`` with the gradient of ``loss``."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def share_of(experiment: Experiment, config: RunConfig) -> Trainable:
    """What this process computes of ``experiment``: all of it, or its rows."""
    return experiment if processes.size() == 1 else Share(experiment, config.batch_size)


def replicate(experiment: Experiment, config: RunConfig, model: nn.Module) -> Trainable:
    """As ``share_of``, and the ranks train together. All begin with the parameters and buffers of rank 0."""
    return experiment if processes.size() == 1 else Replica(experiment, config.batch_size, model)


def seed_step(config: RunConfig, step: int) -> None:
    """Where there are several ranks, give torch's generator a stream that follows from seed, step and rank."""
    if processes.size() > 1:
        text = f"{config.seed} {step} {processes.rank()}"
        torch.manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True))
