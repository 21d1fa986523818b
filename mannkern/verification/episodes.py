"""Fused episodes against a loop over the cell on the reference: output, last state and all gradients."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from mannkern.memories.cases import SMALL, Tensors
from mannkern.memories.registry import Episode
from mannkern.memories.sequence import MemorySequence
from mannkern.verification.accuracy import Error, errors

SIZES = {"odd": (7, 13, 33, 17, 3), "standard_memory": (40, 64, 128, 40, 4)}  # F, D, N, W, R
LENGTHS = {"one_step": (1, 3), "spans": (7, 16), "parts": (2, 150)}  # T, B
LARGE_SIZES = {"standard": (40, 200, 128, 40, 4)}  # for a GPU
INTERPRETED_SIZES, INTERPRETED_LENGTHS = ("odd",), {"few_steps": (2, 2)}  # for an interpreter, which is slow
GAP = 1e-5  # between the numbers that choose slots, so that rounding chooses none
ATTEMPTS = 100


def every_size() -> dict[str, tuple[int, int, int, int, int]]:
    """F, D, N, W and R by name."""
    return SIZES | LARGE_SIZES


def every_length() -> dict[str, tuple[int, int]]:
    """T and B by name."""
    return LENGTHS | INTERPRETED_LENGTHS


def episode_errors(
    episode: Episode, backend: str, device: str, options: str, size: str, length: str, dtype: torch.dtype, seed: int
) -> dict[str, Error]:
    """Errors of the fused episode's results, beside a loop over the cell in float64 and, for float32, in float32."""
    T, B = every_length()[length]
    sizes = every_size()[size]
    for attempt in range(ATTEMPTS):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + attempt)
            model = episode.sequence(*sizes, **episode.options[options], backend=backend, dtype=dtype)
            input, state = torch.randn(T, B, sizes[0]), _random_state(episode, model, B)
        exact = _Loop(episode, model, torch.float64)
        truth = _results(exact, input.double(), _to(state, torch.float64))
        if exact.gap > GAP:
            break
    else:
        raise RuntimeError(f"{size}, {length}: no inputs of {ATTEMPTS} that keep the choices of slots apart")
    input, state = input.to(dtype), _to(state, dtype)
    float32 = None if dtype == torch.float64 else _results(_Loop(episode, model, dtype), input, state)
    got = _results(model.to(device), input.to(device), _to(state, device))
    return errors({name: x.cpu() for name, x in got.items()}, truth, float32)


class _Loop(torch.nn.Module):
    """The model's cell on the reference, step by step, and the smallest gap between numbers that chose slots."""

    def __init__(self, episode: Episode, model: MemorySequence[Any], dtype: torch.dtype) -> None:
        super().__init__()
        self.choice_gap = episode.choice_gap
        self.cell: Any = copy.deepcopy(model.cell).to(dtype)
        self.cell.backend = "reference"
        self.gap = float("inf")

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        outputs = []
        for x in input:
            if self.choice_gap is not None:
                self.gap = min(self.gap, self.choice_gap(self.cell, state))
            output, state = self.cell(x, state)
            outputs.append(output)
        return torch.stack(outputs), state


def _random_state(episode: Episode, model: MemorySequence[Any], B: int) -> Any:
    """A random state, each part drawn as the family says."""
    first, g = model.initial_state(B), torch.default_generator
    controller = tuple(torch.randn_like(x) for x in first.controller)
    parts = {name: draw(getattr(first, name).shape, g, SMALL) for name, draw in episode.state.items()}
    return type(first)(controller, **{name: x.to(first.memory.dtype) for name, x in parts.items()})


def _to(state: Any, where: torch.dtype | str) -> Any:
    return type(state)(tuple(x.to(where) for x in state.controller), *(x.to(where) for x in state[1:]))


def _results(model: torch.nn.Module, input: Tensor, state: Any) -> Tensors:
    leaves = {"input": input, **_named(state)}
    leaves = {name: x.detach().requires_grad_() for name, x in leaves.items()}
    parts = [leaves[name] for name in _named(state)]
    count = len(state.controller)
    output, last = model(leaves["input"], type(state)(tuple(parts[:count]), *parts[count:]))
    results = {"output": output} | {f"last {name}": x for name, x in _named(last).items()}
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(x.shape, generator=generator).to(x) for x in results.values()]
    leaves |= {name.removeprefix("cell."): x for name, x in model.named_parameters()}
    grads = torch.autograd.grad(
        list(results.values()), list(leaves.values()), weights, allow_unused=True, materialize_grads=True
    )
    return {name: x.detach() for name, x in results.items()} | {f"grad {name}": g for name, g in zip(leaves, grads)}


def _named(state: Any) -> Tensors:
    parts: Tensors = dict(zip("hc", state.controller)) | state._asdict()
    del parts["controller"]
    return parts
