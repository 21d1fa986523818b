"""The batches of a training run, each made while the step before it runs if a processor is free for that."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import torch

from mannkern.training import processes
from mannkern.training.experiment import Trainable


class Batches:
    """A context that gives the batch of each step, and makes the next one in a thread of its own meanwhile.

    It does so if the model is on a GPU, or if torch uses fewer threads than there are processors. Otherwise that
    thread would hold up those of the model: a step of 16 episodes on two threads of two processors took 2% longer.
    """

    def __init__(self, experiment: Trainable, device: torch.device) -> None:
        self.experiment, self.device = experiment, device
        is_free = device.type != "cpu" or torch.get_num_threads() * processes.local_size() < usable_processors()
        self.executor = ThreadPoolExecutor(1) if is_free else None
        self.next: tuple[int, Future[Any]] | None = None

    def take(self, step: int) -> Any:
        """The batch of ``step``."""
        if self.executor is None:
            return self.experiment.sample(step, self.device)
        if self.next is None or self.next[0] != step:
            self.next = step, self.executor.submit(self._sample, step)
        batch = self.next[1].result()
        self.next = step + 1, self.executor.submit(self._sample, step + 1)
        return batch

    def _sample(self, step: int) -> Any:
        torch.set_num_threads(1)  # of this thread alone
        return self.experiment.sample(step, self.device)

    def __enter__(self) -> Batches:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.executor is not None:
            self.executor.shutdown()


def usable_processors() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
