"""Models whose memory cannot be counted before they are built: too large ones are refused, others are built."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mannkern.training import sizes
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


class Thousand(Parabola):
    """Its model has 1,000 weights, and a buffer of 24 numbers."""

    def make_model(self) -> nn.Linear:
        model = nn.Linear(1000, 1, bias=False)
        model.register_buffer("mean", torch.zeros(24))
        return model


def test_the_estimate_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four copies of 1,024 numbers, and a batch of 16 numbers, at 4 bytes each. The limit of a container counts too."""
    needed = 4 * (4 * 1024 + 16)
    for system, group, fits in ((needed, math.inf, True), (needed - 1, math.inf, False), (1e12, needed - 1, False)):
        monkeypatch.setattr(sizes, "_of_system", lambda system=system: system)
        monkeypatch.setattr(sizes, "_of_group", lambda group=group: group)
        if fits:
            check_sizes(Thousand(), ParabolaConfig(), CPU)
            continue
        with pytest.raises(CommandError, match=r"^training needs at least .*; lower --batch-size$"):
            check_sizes(Thousand(), ParabolaConfig(), CPU)


def test_a_model_too_large_to_count_is_refused() -> None:
    with pytest.raises(CommandError, match="training needs at least far too much for parameters"):
        check_sizes(TooLarge(), ParabolaConfig(), CPU)
