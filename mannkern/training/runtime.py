"""Threads, device, optimizer and trained model of a run, and the mode that models are measured in."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mannkern import backends
from mannkern.optim import Muon
from mannkern.training import processes
from mannkern.training.again import resume
from mannkern.training.checkpoint import load_checkpoint
from mannkern.training.config import RunConfig
from mannkern.training.errors import CommandError
from mannkern.training.experiment import Experiment, Trainable
from mannkern.training.finite import NotFinite
from mannkern.training.restore import restored

# held while torch's default dtype or generator differs, which all threads share
_OF_THE_PROCESS = threading.RLock()


class _Threads(NamedTuple):
    """The number of threads that torch had of others, and what a run has set in its place."""

    of_others: int
    of_a_run: int


_threads: list[_Threads] = []  # one, once a run has set its number


def use_threads(config: RunConfig) -> None:
    """Let torch use the run's number of threads. Sums depend on it, so call this before the data are made.

    A run without a number gets back what torch had before another run of this process took its own.
    """
    now = torch.get_num_threads()
    of_others = _threads[0].of_others if _threads and _threads[0].of_a_run == now else now
    threads = of_others if config.threads is None else config.threads
    if threads != now:
        torch.set_num_threads(threads)
    _threads[:] = [_Threads(of_others, threads)]


def usable_device(config: RunConfig) -> torch.device:
    """``config.device``; of several processes on a machine each has a GPU of its own.

    Raises ``CommandError`` where it is missing or ``config.backend`` does not run on it.
    """
    try:
        device = torch.device(config.device)
        if device.type == "cuda" and processes.size() > 1:
            if device.index is not None:
                raise ValueError("several processes need cuda without a number; each takes the one of its local rank")
            device = torch.device("cuda", processes.local_rank())
            torch.cuda.set_device(device)
        torch.empty(0, device=device)
        if device.type == "meta":
            raise RuntimeError("holds no numbers")
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        raise CommandError(f"--device {config.device}: {str(error).splitlines()[0]}") from error
    try:
        backends.choose(config.family, config.backend, device, **config.operation)
    except (RuntimeError, ValueError) as error:  # begins with "backend: " or "MANNKERN_BACKEND: "
        raise CommandError(f"--{error}" if config.backend is not None else str(error)) from error
    return device


def make_optimizer(config: RunConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Muon, Adam as in the replications, or RMSprop with the papers' decay 0.95 and momentum 0.9 in the task's form."""
    lr = learning_rate(config)
    if config.optimizer == "muon":
        return Muon(model, lr, output_layers=config.OUTPUT_LAYERS)
    if config.optimizer == "adam":
        # fused: one pass over parameters and moments, a third of the time on a CPU
        return torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    return torch.optim.RMSprop(model.parameters(), lr=lr, alpha=0.95, momentum=0.9, **config.RMSPROP)


def learning_rate(config: RunConfig) -> float:
    """``config.lr``, or the default of its optimizer."""
    return config.lr or config.RATES[config.optimizer]


def set_learning_rate(config: RunConfig, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Give ``optimizer`` the learning rate of ``step``, which depends on the settings and the step alone."""
    if config.lr_decay == "none":
        return
    done = min(1.0, step / config.falling_steps)
    share = 1 - done if config.lr_decay == "linear" else (1 + math.cos(math.pi * done)) / 2
    for group in optimizer.param_groups:
        group["lr"] = share * learning_rate(config)


def train_step(
    experiment: Trainable, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any, clip: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Train on ``batch``: the loss (), the norm () of the gradient before clipping, and the sums (K,).

    clip: the largest norm of the gradient; 0: no limit

    Raises ``NotFinite`` on the CPU, before the parameters change. A GPU would have to be waited for.
    """
    loss, sums = experiment.loss_and_sums(model, batch)
    optimizer.zero_grad()
    loss.backward()
    on_cpu = loss.device.type == "cpu"
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if on_cpu and math.isinf(norm.item()):  # squares of numbers from 1e19 on overflow
        norm = torch.nn.utils.get_total_norm([gradient.double() for gradient in gradients])
    if on_cpu and not math.isfinite(loss.item() + norm.item()):
        raise NotFinite("gradient" if math.isfinite(loss.item()) else "loss")
    if clip and not (on_cpu and norm.item() + 1e-6 <= clip):  # else it would multiply each gradient by 1
        torch.nn.utils.clip_grads_with_norm_(model.parameters(), clip, norm)
    optimizer.step()
    return loss, norm, sums


def load_model(run: Path, experiment: Experiment, device: torch.device) -> tuple[nn.Module, int]:
    """The model of a run's checkpoint and its step. Raises ``CommandError`` where there is none that fits."""
    return load_trained(run, experiment.make_model, device)


def load_trained(run: Path, make_model: Callable[[], nn.Module], device: torch.device) -> tuple[nn.Module, int]:
    """As ``load_model``, for a model that needs no experiment to be made."""
    with torch.device("cpu"):
        checkpoint = load_checkpoint(run)
        if checkpoint is None:
            raise CommandError(f"{run} has no checkpoint yet; train it: {resume(run)}")
        with default_dtype_of(checkpoint.get("model")):
            model = restored(run, checkpoint, make_model)
    return model.to(device), checkpoint["step"]


@contextmanager
def default_dtype_of(parameters: Any) -> Iterator[None]:
    """A context in which new modules have the float type of these parameters, where they have one, as when trained."""
    values = parameters.values() if isinstance(parameters, Mapping) else ()
    dtypes = {x.dtype for x in values if isinstance(x, torch.Tensor) and x.is_floating_point()}
    with _OF_THE_PROCESS:
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtypes.pop() if len(dtypes) == 1 else before)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


@contextmanager
def eval_mode(model: nn.Module, device: torch.device) -> Iterator[None]:
    """A context in which ``model`` is in evaluation mode without gradients. Torch's generator stays as it was."""
    devices = [device] if device.type == "cuda" else []
    with _OF_THE_PROCESS, torch.random.fork_rng(devices), torch.no_grad():
        training = model.training
        model.eval()
        torch.manual_seed(0)  # a memory that starts at random starts alike in every evaluation
        try:
            yield
        finally:
            model.train(training)
