"""An experiment whose steps can be computed by hand."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from mannkern.training.config import RunConfig


class Parabola:
    """Stands for an experiment: the loss is (w - 3)^2, whatever the batch."""

    unit = "points"
    num_sums = 1

    def make_model(self) -> nn.Linear:
        model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(model.weight)
        return model

    def sample(self, step: int, device: torch.device) -> torch.Tensor:
        return torch.ones(1, 1)

    def loss_and_sums(self, model: nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        w = model(batch).squeeze()
        return (w - 3).square(), w.detach().double().unsqueeze(0)

    def summarize(self, sums: list[float], steps: float) -> dict[str, Any]:
        return {"w": sums[0] / steps}

    def progress_text(self, summary: dict[str, Any]) -> str:
        return f"w {summary['w']}"

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, Any]:
        return {"loss": 0.0}


@dataclass(frozen=True)
class ParabolaConfig(RunConfig):
    FAMILY: ClassVar[str] = "lrua"
