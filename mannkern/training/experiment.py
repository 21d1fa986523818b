"""What the training loop needs of an experiment: a model, batches, a loss, and numbers to write down."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

VALIDATION_SEED = 1_000_001  # the two differ, so that nobody reports the data that they watched while training
EVALUATION_SEED = 1_000_002


class Trainable(Protocol):
    """What a training step needs: a batch and its loss."""

    def sample(self, step: int, device: torch.device) -> Any:
        """The batch of ``step``, tensors on ``device``. It depends on the settings and the step alone."""

    def loss_and_sums(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """The loss () to minimise, and the sums (K,) of this step, float64 without gradient."""


class Experiment(Trainable, Protocol):
    """A task and how a model learns it. A step trains on a batch of B examples.

    Besides the loss a step gives K numbers, such as the number of right answers. The loop adds them up in float64
    over the steps between two lines of ``metrics.jsonl``, and ``summarize`` turns the sums into that line.

    To train in several processes an experiment also has ``sample_rows(step, device, rows)``: the examples ``rows``, a
    slice, of the batch that ``sample`` gives. Its loss then has to be a mean over examples, and its K numbers sums over
    them, because the loop takes the mean of the losses of all processes and adds up their numbers.

    One that reads files may have ``data_digest()``: a string that is another one for other data, such as a checksum, or
    None. The checkpoint keeps it, and a run does not resume on other data than it began with.
    """

    @property
    def unit(self) -> str:
        """What an example is called: such as "episodes" or "sequences"."""

    @property
    def num_sums(self) -> int:
        """K, how many sums ``loss_and_sums`` returns."""

    def make_model(self) -> nn.Module:
        """A new model on the CPU. Torch's generator draws its parameters."""

    def summarize(self, sums: list[float], steps: float) -> dict[str, Any]:
        """Names and numbers for ``metrics.jsonl``, from K sums over ``steps`` steps."""

    def progress_text(self, summary: dict[str, Any]) -> str:
        """A few words about a summary, which the progress bar shows."""

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, Any]:
        """Names and numbers on validation data. Torch's generator stays as it was."""
