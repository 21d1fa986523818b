"""Whether the sizes of a run fit into memory, estimated from below and before anything is allocated or written."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mannkern.training import processes
from mannkern.training.config import RunConfig
from mannkern.training.errors import CommandError
from mannkern.training.experiment import Experiment
from mannkern.training.flags import flag

COPIES = 4  # of the parameters: themselves, their gradient and two moments
SIZES = (
    "batch_size",
    "length",
    "max_length",
    "shots",
    "queries",
    "hidden_size",
    "lstm_size",
    "memory_slots",
    "memory_width",
    "width",
)


class _WithoutNumbers(TorchFunctionMode):
    """Leaves tensors of the meta device as they are where PyTorch would import decompositions, which takes seconds."""

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_, Tensor.roll):
            return args[0]
        return func(*args, **(kwargs or {}))


def check_sizes(experiment: Experiment, config: RunConfig, device: torch.device) -> None:
    """Raises ``CommandError`` where parameters, optimizer and batch need more memory than ``device`` has available.

    Raises it as ``experiment.make_model`` does, too, for sizes that are impossible.
    """
    ours = processes.local_size() if device.type == "cpu" else 1  # processes that share this memory
    parameters = ours * COPIES * parameter_bytes(experiment)
    batch = ours * 4.0 * config.numbers_of_batch() / processes.size()
    available = available_bytes(device)
    if parameters + batch > available:
        names = [flag(entry.name) for entry in fields(config) if entry.name in SIZES]
        raise CommandError(
            f"training needs at least {_text(parameters)} for parameters and optimizer and {_text(batch)} for a batch "
            f"with its memories, and {_text(available)} of memory are available; lower {', '.join(names)}"
        )


def model_without_memory(make_model: Callable[[], nn.Module]) -> nn.Module | None:
    """The model on the meta device, where tensors have shapes alone; None where it reads numbers while it is built.

    Raises ``OverflowError`` where it has too many numbers to count, and what ``make_model`` raises.
    """
    try:
        with torch.random.fork_rng([]), torch.device("meta"), _WithoutNumbers():
            return make_model()
    except (RuntimeError, TypeError) as error:
        if "verflow" in str(error):  # the size of a tensor, beyond 64 bits
            raise OverflowError("its sizes are too large to count") from error
        if "meta" in str(error).lower():
            return None
        raise


def parameter_bytes(experiment: Experiment) -> float:
    """The bytes of a model's parameters and buffers.

    Infinity where there are too many to count, 0 where they are not known before the model is built.
    """
    try:
        model = model_without_memory(experiment.make_model)
    except OverflowError:
        return math.inf
    if model is None:
        return 0.0
    return sum(tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers()))


def available_bytes(device: torch.device) -> float:
    """The memory that ``device`` has left for this process; infinity where the system does not tell."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return min(_of_system(), _of_group())


def _of_system() -> float:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * next(float(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        pass
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return math.inf


def _of_group() -> float:
    """What the limit of a container leaves."""
    try:
        limit, used = (Path("/sys/fs/cgroup", f"memory.{name}").read_text() for name in ("max", "current"))
        return float(limit) - float(used)
    except (OSError, ValueError):  # no such limit, or it is called "max"
        return math.inf


def _text(count: float) -> str:
    return "far too much" if count > 1e18 else f"{count / 1e9:,.1f} GB"
