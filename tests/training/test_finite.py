"""A loss or a gradient that is not finite names the step and the operation, and the parameters stay from before it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from mannkern.training import loop
from mannkern.training.checkpoint import load_checkpoint
from mannkern.training.errors import CommandError
from mannkern.training.finite import first_bad
from mannkern.training.metrics import read_metrics
from tests.docs.markdown import ROOT
from tests.training.parabola import Parabola, ParabolaConfig

CONFIG = ParabolaConfig(steps=9, batch_size=1, threads=1, log_every=5)


class Breaks(Parabola):
    """From step 3 on the batch is 2, which the loss cannot take."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def sample(self, step: int, device: torch.device) -> torch.Tensor:
        return torch.ones(1, 1) * (float("nan") if self.kind == "data" else 2.0) if step == 2 else torch.ones(1, 1)

    def loss_and_sums(self, model: nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        loss, sums = super().loss_and_sums(model, batch)
        w = next(model.parameters()).squeeze()
        if batch.item() == 2 and self.kind == "loss":
            loss = loss + (1000 * torch.ones(())).exp() * w
        if batch.item() == 2 and self.kind == "gradient":
            loss = loss + (w - w.detach()).sqrt()  # the root of 0 has no gradient
        return loss, sums


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("loss", "the loss is not finite at step 3: the first operation .* aten::exp.*forward pass"),
        ("gradient", "the gradient is not finite at step 3: the first operation .* aten::div.*backward pass"),
        ("data", "the loss is not finite at step 3: no operation .* look at the data"),
    ],
)
def test_the_step_and_the_operation_are_named(tmp_path: Path, kind: str, message: str) -> None:
    with pytest.raises(CommandError, match=message) as caught:
        loop.train(Breaks(kind), CONFIG, tmp_path)
    said = str(caught.value)
    assert "docs/learning.md" in said
    if kind == "gradient":  # the page quotes this message, with another operation
        quote = (
            re.sub(r"aten::[\w.]+", "aten::exp", said).replace("step 3", "step 1234").partition("in the backward")[0]
        )
        assert f"    mannkern: {quote}in the ..." in (ROOT / "docs" / "learning.md").read_text(encoding="utf-8")
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint is not None
    assert checkpoint["model"]["weight"].isfinite().all()


class Steep(Breaks):
    """At step 3 weight and bias have a gradient of 3e25 and 4e25, whose squares float32 does not have."""

    def make_model(self) -> nn.Linear:
        model = nn.Linear(1, 1)
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
        return model

    def loss_and_sums(self, model: nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        loss, sums = super().loss_and_sums(model, batch)
        if batch.item() == 2:
            for parameter, slope in zip(model.parameters(), (3e25, 4e25)):
                loss = loss + slope * (parameter - parameter.detach()).sum()
        return loss, sums


def test_a_gradient_whose_square_overflows_is_clipped(tmp_path: Path) -> None:
    loop.train(Steep("large"), replace(CONFIG, log_every=1, clip=10.0), tmp_path)
    lines = {line["step"]: line for line in read_metrics(tmp_path) if line["kind"] == "train"}
    assert lines[3]["gradient_norm"] == pytest.approx(5e25, rel=1e-4)
    assert list(lines[3]["gradient_norm_by_layer"].values()) == pytest.approx([3e25, 4e25], rel=1e-4)
    assert lines[2]["gradient_norm"] < 100
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint is not None
    assert checkpoint["step"] == 9
    assert checkpoint["model"]["weight"].isfinite().all()


def test_a_parameter_that_a_step_made_infinite_is_not_saved(tmp_path: Path) -> None:
    """The loss and the gradient before it were finite."""
    with pytest.raises(CommandError, match=r"weight is not finite after step 1; docs/learning.md") as caught:
        loop.train(Parabola(), replace(CONFIG, steps=1, lr=3e38, optimizer="rmsprop"), tmp_path)
    assert "\n" not in str(caught.value)
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint is not None
    assert checkpoint["step"] == 0


class Masked(Parabola):
    """Its model has a mask of infinities."""

    def make_model(self) -> nn.Linear:
        model = super().make_model()
        model.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        return model


def test_a_buffer_may_be_infinite(tmp_path: Path) -> None:
    assert loop.train(Masked(), replace(CONFIG, steps=2), tmp_path).step == 2


def test_a_gpu_remembers_the_first_bad_step_without_waiting() -> None:
    bad = torch.full((), float("inf"))
    for step, loss in ((1, 1.0), (2, float("nan")), (3, 1.0), (4, float("inf"))):
        bad = first_bad(bad, torch.tensor(loss), torch.tensor(1.0), step)
    assert bad.item() == 2
