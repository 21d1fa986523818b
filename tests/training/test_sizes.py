"""Models whose memory cannot be counted before they are built: too large ones are refused, others are built."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mannkern.training.checkpoint import CHECKPOINT
from mannkern.training.errors import CommandError
from mannkern.training.loop import train
from mannkern.training.sizes import check_sizes
from tests.training.parabola import Parabola, ParabolaConfig

CPU = torch.device("cpu")


class WithRates(nn.Linear):
    """It reads numbers while it is built, as a model with a rate for each layer may; the meta device has none."""

    def __init__(self, read: Callable[[Tensor], Any]) -> None:
        super().__init__(1, 1, bias=False)
        nn.init.zeros_(self.weight)
        self.rates = read(torch.linspace(0, 0.1, 3))


class ReadsNumbers(Parabola):
    def __init__(self, read: Callable[[Tensor], Any]) -> None:
        self.read = read

    def make_model(self) -> nn.Linear:
        return WithRates(self.read)


class TooLarge(Parabola):
    def make_model(self) -> nn.Linear:
        return nn.Linear(2**40, 2**40)


@pytest.mark.parametrize("read", [Tensor.tolist, Tensor.numpy, Tensor.nonzero, lambda x: x[0].item()])
def test_a_model_that_reads_numbers_is_trained_and_resumed(tmp_path: Path, read: Callable[[Tensor], Any]) -> None:
    check_sizes(ReadsNumbers(read), ParabolaConfig(), CPU)
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    for run, steps in ((stopped, 3), (stopped, 6), (whole, 6)):
        run.mkdir(exist_ok=True)
        train(ReadsNumbers(read), ParabolaConfig(steps=steps, threads=1), run)
    a, b = (torch.load(run / CHECKPOINT)["model"]["weight"] for run in (stopped, whole))
    assert torch.equal(a, b)
    assert a != 0


def test_a_model_too_large_to_count_is_refused() -> None:
    with pytest.raises(CommandError, match="training needs at least far too much for parameters"):
        check_sizes(TooLarge(), ParabolaConfig(), CPU)
