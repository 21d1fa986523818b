"""An experiment that several ranks train, whose steps can be computed by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from mannkern.training import loop, processes
from mannkern.training.config import RunConfig
from tests.training.parabola import Parabola, ParabolaConfig

LINE = ParabolaConfig(steps=4, lr=0.1, batch_size=6, log_every=1, validate_every=2, threads=1)


class Line(Parabola):
    """The loss is the mean of (w x - 3)^2; x is the number of the example. One parameter is unused, a buffer counts."""

    def make_model(self) -> nn.Linear:
        model = super().make_model()
        model.unused = nn.Parameter(torch.ones(2))
        model.register_buffer("seen", torch.zeros(()))
        return model

    def sample_rows(self, step: int, device: torch.device, rows: slice) -> Tensor:
        return torch.arange(6.0)[rows].unsqueeze(1)

    def sample(self, step: int, device: torch.device) -> Tensor:
        return self.sample_rows(step, device, slice(None))

    def loss_and_sums(self, model: nn.Module, batch: Tensor) -> tuple[Tensor, Tensor]:
        model.seen += batch.sum()  # type: ignore[operator]
        return (model(batch) - 3).square().mean(), len(batch) * model.weight.detach().double().view(1)  # type: ignore[union-attr,operator]


def train_line(folder: Path, experiment: Callable[[], Parabola], config: RunConfig) -> tuple[int, list[float]]:
    """The step that this rank came to, and its parameter and buffer."""
    models: list[nn.Module] = []
    made = experiment()
    make = made.make_model
    made.make_model = lambda: models.append(make()) or models[-1]  # type: ignore[method-assign,return-value,func-returns-value]
    with processes.joined():
        outcome = loop.train(made, config, folder)
    return outcome.step, [float(tensor.sum()) for tensor in models[-1].state_dict().values()]
