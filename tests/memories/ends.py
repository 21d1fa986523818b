"""Lengths and resets under test: random ones, and their definition, a run of the cell for each episode alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers import Tensors
from tests.memories.sequences import apply, assert_close, gradients, named

BACKENDS = pytest.mark.parametrize("backend", ["cpp", "reference"])
CONTROLLERS = pytest.mark.parametrize("controller", ["lstm", "feedforward"])
KINDS = pytest.mark.parametrize("kind", ["lengths", "reset", "both"])


def some_lengths(T: int) -> Tensor:
    """Unsorted, with ties, with all T steps and with none."""
    return torch.tensor([T // 2, 0, T, min(T, 3), T, T // 2, min(T, 1)])


def some_resets(T: int, B: int = 7) -> Tensor:
    """None for the first episode, every step for the second, the first step for the third; at random for the others."""
    reset = torch.rand(T, B, generator=torch.Generator().manual_seed(3)) < 0.3
    reset[:, 0], reset[:, 1] = False, True
    reset[:, 2] = torch.arange(T) == 0
    return reset


def ends(kind: str, T: int) -> dict[str, Tensor]:
    every = {"lengths": some_lengths(T), "reset": some_resets(T)}
    return every if kind == "both" else {kind: every[kind]}


def apart(model: Any, input: Tensor, state: Any, lengths: Tensor | None = None, reset: Tensor | None = None) -> Any:
    """The definition: a loop over the cell for each episode alone, from the initial state at each of its resets."""
    T, B, _ = input.shape
    state = model.initial_state(B) if state is None else state
    outputs, states = [], []
    for b in range(B):
        last, of_b = apply(state, lambda x: x[b : b + 1]), [input.new_zeros(0, model.output_size)]  # noqa: B023
        for t in range(T if lengths is None else int(lengths[b])):
            if reset is not None and reset[t, b]:
                last = model.initial_state(1)
            output, last = model.cell(input[t, b : b + 1], last)
            of_b.append(output)
        outputs.append(torch.cat([*of_b, input.new_zeros(T + 1 - len(of_b), model.output_size)]))
        states.append(last)
    controller = [torch.cat(x) for x in zip(*(x.controller for x in states), strict=True)]
    parts = [torch.cat(x) for x in zip(*(x[1:] for x in states), strict=True)]
    return torch.stack(outputs, 1), type(state)(tuple(controller), *parts)


def evaluate(
    run: Callable[..., Any], model: Any, input: Tensor, state: Any, dtype: torch.dtype = torch.float32
) -> Tensors:
    """Outputs, last state and, as "grad x", all gradients of run(input, state); the loss has weights of ``dtype``."""
    input = input.detach().requires_grad_()
    leaves = {"input": input} | dict(model.named_parameters())
    if state is not None:
        state = apply(state, lambda x: x.detach().requires_grad_())
        leaves |= named(state)
    output, last = run(input, state)
    results, g = {"output": output} | named(last), torch.Generator().manual_seed(2)
    loss = torch.stack(
        [(x * torch.randn(x.shape, generator=g).to(dtype).to(x.dtype)).sum() for x in results.values()]
    ).sum()
    return {name: x.detach() for name, x in results.items()} | gradients(loss, leaves)


def check(model: Any, input: Tensor, state: Any, **ends: Any) -> None:
    got = evaluate(lambda x, s: model(x, s, **ends), model, input, state)
    assert_close(got, evaluate(lambda x, s: apart(model, x, s, **ends), model, input, state))


def on(model: Any, backend: str) -> Any:
    model = copy.deepcopy(model)
    model.cell.backend = backend
    return model
