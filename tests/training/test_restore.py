"""A checkpoint of another shape, type or optimizer is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mannkern.files import load_tensors
from mannkern.training import loop
from mannkern.training.checkpoint import save_checkpoint
from mannkern.training.errors import CommandError
from mannkern.training.restore import restore
from mannkern.training.runtime import load_trained, make_optimizer
from tests.training.parabola import Parabola, ParabolaConfig

CONFIG = ParabolaConfig(steps=2, batch_size=1, threads=1)
CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "shape": (
        lambda c: c["model"].update(weight=torch.zeros(3, 4)),
        r"weight: got \(3, 4\) torch.float32, need \(1, 1\)",
    ),
    "dtype": (lambda c: c["model"].update(weight=torch.zeros(1, 1).double()), r"weight: got \(1, 1\) torch.float64"),
    "no tensor": (lambda c: c["model"].update(weight=3), "weight: got int, need a tensor"),
    "another model": (
        lambda c: c["model"].update(bias=torch.zeros(1)),
        "model: got another at bias, need",
    ),
    "a list": (lambda c: c.update(model=[1]), "does not fit"),
    "no model": (lambda c: c.pop("model"), "no 'model'"),
    "no sums": (lambda c: c.pop("running_sums"), "no 'running_sums'"),
    "sums": (lambda c: c.update(running_sums=torch.zeros(2)), r"running_sums: got \(2,\)"),
    "moments": (lambda c: c["optimizer"]["state"][0].update(exp_avg=torch.zeros(1)), r"optimizer: exp_avg: got \(1,\)"),
    "no moments": (lambda c: c["optimizer"]["state"][0].pop("exp_avg"), "optimizer: got step, exp_avg_sq"),
    "negative step": (lambda c: c.update(step=-1), "step: got -1"),
    "time": (lambda c: c.update(seconds=float("nan")), "step: got 2 after nan s"),
    "text": (lambda c: c.update(seconds="1"), "does not fit"),
    "generator": (lambda c: c.update(rng=torch.zeros(3)), "does not fit"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path: Path, change: str) -> None:
    loop.train(Parabola(), CONFIG, tmp_path)
    checkpoint = load_tensors(tmp_path / "checkpoint.pt")
    alter, message = CHANGES[change]
    alter(checkpoint)
    save_checkpoint(tmp_path, checkpoint)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(CommandError, match=message) as caught:
        loop.train(Parabola(), replace(CONFIG, steps=4), tmp_path)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_settings_that_were_edited_are_refused_in_one_line(tmp_path: Path) -> None:
    """All but those that may change; what an older checkpoint does not have cannot be compared."""
    loop.train(Parabola(), CONFIG, tmp_path)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    for name, value in (("seed", 7), ("lr", 0.5), ("batch_size", 2), ("optimizer", "rmsprop"), ("log_every", 1)):
        edited = replace(CONFIG, steps=4, **{name: value})
        need = f"got {value!r}, need {getattr(CONFIG, name)!r}, with which the run was trained"
        with pytest.raises(CommandError, match=f"^{tmp_path}/config.json: --{name.replace('_', '-')}: {need}$"):
            loop.train(Parabola(), edited, tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    checkpoint = load_tensors(tmp_path / "checkpoint.pt")
    del checkpoint["config"]["log_every"]
    save_checkpoint(tmp_path, checkpoint)
    assert loop.train(Parabola(), replace(CONFIG, steps=4, log_every=1, save_seconds=9.0), tmp_path).step == 4


class Wide(Parabola):
    """Four weights and biases, of which both kinds of Muon's steps take some."""

    def make_model(self) -> nn.Linear:
        return nn.Linear(1, 4)

    def loss_and_sums(self, model: nn.Module, batch: Tensor) -> tuple[Tensor, Tensor]:
        y = model(batch)
        return y.square().mean(), y.detach().double().sum()[None]


@pytest.mark.parametrize("optimizer", ["adam", "muon", "rmsprop"])
def test_moments_without_memory_of_their_own_are_copied(tmp_path: Path, optimizer: str) -> None:
    """A fused step writes to each number of a moment; a file can have one number for all of them."""
    config = replace(CONFIG, optimizer=optimizer)
    loop.train(Wide(), config, tmp_path)
    checkpoint = load_tensors(tmp_path / "checkpoint.pt")
    for values in checkpoint["optimizer"]["state"].values():
        for name, value in values.items():
            values[name] = value.flatten()[:1].clone().expand(value.numel()).view_as(value)
    model, sums = Wide().make_model(), torch.zeros_like(checkpoint["running_sums"])
    restored = make_optimizer(config, model)
    restore(tmp_path, checkpoint, model, restored, sums, torch.device("cpu"))
    moments = [x for state in restored.state.values() for x in state.values()]
    assert len(moments) >= 4
    for moment in moments:
        assert moment.is_contiguous()
        assert moment.untyped_storage().nbytes() == moment.nbytes


def test_what_a_folder_without_a_model_says(tmp_path: Path) -> None:
    """Also where it is loaded for use, before any training."""
    loop.train(Parabola(), CONFIG, tmp_path)
    checkpoint = load_tensors(tmp_path / "checkpoint.pt")
    for model in (None, [1]):
        save_checkpoint(tmp_path, checkpoint | {"model": model})
        with pytest.raises(CommandError, match="does not fit the settings"):
            load_trained(tmp_path, Parabola().make_model, torch.device("cpu"))
    del checkpoint["model"]
    save_checkpoint(tmp_path, checkpoint)
    with pytest.raises(CommandError, match="no 'model'"):
        load_trained(tmp_path, Parabola().make_model, torch.device("cpu"))


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam", "muon"])
def test_a_run_in_float64_resumes(tmp_path: Path, optimizer: str) -> None:
    """PyTorch's RMSprop counts its steps in the default dtype."""
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        for steps in (2, 4):
            config = replace(CONFIG, steps=steps, optimizer=optimizer)
            assert loop.train(Parabola(), config, tmp_path).step == steps
    finally:
        torch.set_default_dtype(before)
