"""Device, optimizer and trained model of a run, for every task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mannkern import backends

from .checkpoint import load_checkpoint
from .config import RunConfig
from .errors import CommandError
from .experiment import Experiment
from .sequence_config import SequenceConfig


def usable_device(config: RunConfig) -> torch.device:
    """``config.device``. Raises ``CommandError`` where it is not there or ``config.backend`` does not run on it."""
    try:
        device = torch.device(config.device)
        torch.empty(0, device=device)
        backends.choose(config.family, config.backend, device)
    except (RuntimeError, ValueError, AssertionError) as error:  # torch built without CUDA asserts
        raise CommandError(f"--device {config.device}: {str(error).splitlines()[0]}") from error
    return device


def make_optimizer(config: RunConfig, model: torch.nn.Module) -> torch.optim.Optimizer:
    """Adam as in the replications, or RMSprop with the papers' decay 0.95 and momentum 0.9.

    For Graves' tasks it is centered, as he writes it (2013), with 1e-4 beside the root (his is under it): steps vanish
    with the gradient, without which a copy that is learned forgets how to go beyond the lengths it sees.
    """
    if config.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=config.lr or 1e-3)
    form: dict[str, Any] = {"centered": True, "eps": 1e-4} if isinstance(config, SequenceConfig) else {}
    return torch.optim.RMSprop(model.parameters(), lr=config.lr or 1e-4, alpha=0.95, momentum=0.9, **form)


def load_model(run: Path, experiment: Experiment, device: torch.device) -> tuple[nn.Module, int]:
    """The model of a run's checkpoint and the step it stands at. Raises ``CommandError`` where there is none."""
    checkpoint = load_checkpoint(run)
    if checkpoint is None:
        raise CommandError(f"{run} has no checkpoint yet; train it: python -m mannkern train --run {run} --resume")
    with torch.random.fork_rng([]):  # parameters are drawn, then replaced
        model = experiment.make_model()
    model.load_state_dict(checkpoint["model"])
    return model.to(device), checkpoint["step"]


@contextmanager
def measuring(model: nn.Module, device: torch.device) -> Iterator[None]:
    """While entered, ``model`` is in evaluation mode and keeps no gradients; torch's generator stays as it was."""
    training = model.training
    model.eval()
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
        torch.manual_seed(0)  # a memory that starts at random starts alike in every evaluation
        yield
    model.train(training)
