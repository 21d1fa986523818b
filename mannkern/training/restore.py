"""A checkpoint goes back into the model, the optimizer and the generators, if it fits them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mannkern.optim import Muon
from mannkern.training.checkpoint import CHECKPOINT, CONFIG
from mannkern.training.config import CHANGEABLE, RunConfig, current_names
from mannkern.training.errors import CommandError
from mannkern.training.experiment import Experiment
from mannkern.training.exported import is_exported
from mannkern.training.flags import flag
from mannkern.training.sizes import model_without_memory


def data_digest(experiment: Experiment) -> str | None:
    """What tells the data of ``experiment`` from others; None where it does not say."""
    digest: Callable[[], str | None] | None = getattr(experiment, "data_digest", None)
    return None if digest is None else digest()


def check_settings(run: Path, checkpoint: Mapping[str, Any], config: RunConfig) -> None:
    """Raises ``CommandError`` where ``config.json`` has other settings than trained the checkpoint, edited by hand.

    Settings that may change do not count, nor those that only one of two versions of mannkern has.
    """
    saved = checkpoint.get("config")
    values = current_names(saved) if isinstance(saved, dict) else {}
    for name in (entry.name for entry in fields(config)):
        if name in values and name not in CHANGEABLE and values[name] != getattr(config, name):
            got, need = getattr(config, name), values[name]
            raise CommandError(
                f"{run / CONFIG}: {flag(name)}: got {got!r:.80}, need {need!r:.80}, with which the run was trained"
            )


def check_data(checkpoint: Mapping[str, Any], digest: str | None) -> None:
    """Raises ``CommandError`` where the data of a run are no longer those that it began with.

    Checkpoints of earlier versions do not tell theirs.
    """
    begun = checkpoint.get("data_digest")
    if begun is not None and digest is not None and begun != digest:
        raise CommandError(
            "--data: got other data than the run began with, need the same; begin another run with --run"
        )


def restored(run: Path, checkpoint: Mapping[str, Any], make_model: Callable[[], nn.Module]) -> nn.Module:
    """The model with the parameters of ``checkpoint``.

    Raises ``CommandError`` that names one of another shape or dtype, before the model takes memory, of which settings
    may ask for more than there is.
    """
    try:
        shapes = model_without_memory(make_model)
        if shapes is not None:
            _check_model(checkpoint["model"], shapes)
        with torch.random.fork_rng([]):  # a new model draws parameters, which the checkpoint's then replace
            model = make_model()
        if shapes is None:
            _check_model(checkpoint["model"], model)
        model.load_state_dict(checkpoint["model"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        raise _misfit(run, error) from error
    return model


def restore(
    run: Path,
    checkpoint: Mapping[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    sums: Tensor,
    device: torch.device,
) -> tuple[int, float]:
    """Load all of ``checkpoint``, the running sums into ``sums`` (K,); returns its step and its seconds of training.

    Raises ``CommandError`` where it does not fit, before it changes the optimizer or a generator.
    """
    try:
        _restore_model(checkpoint, model)
        step, seconds = checkpoint["step"], checkpoint["seconds"]
        if step < 0 or not (0 <= seconds < math.inf):
            raise ValueError(f"step: got {step} after {seconds} s, need numbers of at least 0")
        _check_tensor("running_sums", checkpoint["running_sums"], sums)
        states = checkpoint["optimizer"]["state"]
        states = _own_states(states, optimizer)
        torch.set_rng_state(checkpoint["rng"])
        if device.type == "cuda" and checkpoint["cuda_rng"] is not None:
            torch.cuda.set_rng_state(checkpoint["cuda_rng"], device)
        # the learning rate and its like are the settings', which the run keeps
        optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise _misfit(run, error) from error
    sums.copy_(checkpoint["running_sums"])
    return step, float(seconds)


def _misfit(run: Path, error: Exception) -> CommandError:
    text = f"no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
    if is_exported(run):
        return CommandError(f"{run} does not fit the settings in it: {text}")
    return CommandError(f"{run / CHECKPOINT} does not fit the settings in {CONFIG}: {text}")


def _restore_model(checkpoint: Mapping[str, Any], model: nn.Module) -> None:
    _check_model(checkpoint["model"], model)
    model.load_state_dict(checkpoint["model"])


def _check_model(saved: Mapping[str, Any], model: nn.Module) -> None:
    own = model.state_dict()
    if saved.keys() != own.keys():
        raise ValueError(f"model: got another at {sorted(saved.keys() ^ own.keys())[0]}, need that of the settings")
    for name, value in own.items():
        _check_tensor(name, saved[name], value)


def _check_tensor(name: str, tensor: Any, like: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: got {type(tensor).__name__}, need a tensor")
    if tensor.shape != like.shape or tensor.dtype != like.dtype:
        got, need = (f"{tuple(one.shape)} {one.dtype}" for one in (tensor, like))
        raise ValueError(f"{name}: got {got}, need {need}")


def _step_like(value: Any) -> Tensor:
    """A step as an optimizer keeps it: a number of float32, or of float64 where that was the default dtype."""
    double = isinstance(value, Tensor) and value.dtype == torch.float64
    return torch.empty((), dtype=torch.float64 if double else torch.float32)


def _own_states(states: Mapping[int, Mapping[str, Any]], optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Any]]:
    """The states, checked and copied: fused steps trust their shapes and that each number has memory of its own."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    first: Mapping[str, Any] = next(iter(states.values()), {})
    matrices = [parameter for group in optimizer.param_groups if "gates" in group for parameter in group["params"]]
    if isinstance(optimizer, (torch.optim.Adam, Muon)):
        usual = {"step", "exp_avg", "exp_avg_sq"}
    else:
        usual = {"step", "square_avg", "momentum_buffer", "grad_avg"} & ({"step", "square_avg"} | set(first))
    own: dict[int, dict[str, Any]] = {}
    for index, values in states.items():
        known = 0 <= index < len(parameters)
        turned = known and any(parameters[index] is matrix for matrix in matrices)  # a matrix that Muon steps
        expected = {"momentum_buffer"} if turned else usual
        if not known or set(values) != expected:
            got, need = ", ".join(map(str, values)), ", ".join(sorted(expected))
            raise ValueError(f"optimizer: got {got} for parameter {index}, need {need}")
        own[index] = {}
        for name, value in values.items():
            like = _step_like(value) if name == "step" else parameters[index]
            _check_tensor(f"optimizer: {name}", value, like)
            own[index][name] = torch.empty_like(like, device="cpu").copy_(value)
    return own
