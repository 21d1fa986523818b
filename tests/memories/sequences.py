"""The sequence modules under test, MANN and NTM: their options, random inputs and states, outputs and gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mannkern import MANN, NTM, MANNState, NTMState
from mannkern.memories.cell import FeedForward
from tests.helpers import Tensors, relative_errors

SIZES = (3, 5, 8, 4, 2)  # F, D, N, W, R
# whether PyTorch's scan has right gradients: not in 2.10, as tried on CPUs, and nobody tried 2.11 and 2.12
SCAN_IS_RIGHT = torch.torch_version.TorchVersion(torch.__version__) >= (2, 13)
Sequence = MANN | NTM
State = MANNState | NTMState
MODULES = (MANN, NTM)
BOTH = pytest.mark.parametrize("module", MODULES)
OPTIONS: dict[type[Sequence], dict[str, dict[str, Any]]] = {
    MANN: {
        "key_strength": {"key_strength": True},
        "per_head": {"least_used": "per_head", "decay": 0.5},
        "one_least_used": {"num_least_used": 1},
        "write_key": {"write": "key", "key_strength": True},
        "layer_write_key": {"write": "key", "controller": "feedforward"},
        "every_slot_least_used": {"num_least_used": 8, "key_strength": True, "decay": 1.0},
        "layer": {"controller": "feedforward"},
    },
    NTM: {
        "no_shift": {"shift_range": 0},
        "two_places": {"shift_range": 2},
        "round_and_round": {"shift_range": 9},
        "three_write_heads": {"num_write_heads": 3, "shift_range": 3},
        "more_write_heads_than_slots": {"num_write_heads": 9},
        "layer": {"controller": "feedforward"},
    },
}
MOST: dict[type[Sequence], dict[str, Any]] = {MANN: {"key_strength": True}, NTM: {"num_write_heads": 2}}


def build(
    module: type[Sequence], sizes: tuple[int, ...] = SIZES, dtype: torch.dtype = torch.float64, **options: Any
) -> Any:
    torch.manual_seed(0)
    return module(*sizes, dtype=dtype, **{"backend": "cpp"} | options)


def zero_interface(model: Any) -> Any:
    """The cell or sequence with an interface vector of zeros whatever it sees, so that a step can be done by hand."""
    interface = getattr(model, "cell", model).interface
    nn.init.zeros_(interface.weight)
    nn.init.zeros_(interface.bias)
    return model


def episode(model: Any, T: int, B: int) -> tuple[Tensor, Any]:
    """A random input and state, with usages at least 0.1 apart."""
    cell, g = model.cell, torch.Generator().manual_seed(1)
    D, N, W = cell.hidden_size, cell.memory_slots, cell.memory_width
    R = (cell.output_size - D) // W
    h, c, input = (torch.randn(*size, generator=g) for size in ((B, D), (B, D), (T, B, cell.input_size)))
    usage = 0.2 * torch.rand(B, N, generator=g).argsort(-1) + 0.1 * torch.rand(B, N, generator=g)
    memory, read = torch.randn(B, N, W, generator=g), torch.randn(B, R, W, generator=g)
    read_weights = torch.randn(B, R, N, generator=g).softmax(-1)
    controller = () if isinstance(cell.controller, FeedForward) else (h, c)
    state: State = MANNState(controller, memory, read_weights, usage, read)
    if isinstance(model, NTM):
        write_weights = torch.randn(B, cell.num_write_heads, N, generator=g).softmax(-1)
        state = NTMState(controller, memory, read_weights, write_weights, read)
    dtype = cell.interface.weight.dtype
    return input.to(dtype), apply(state, lambda x: x.to(dtype))


def apply(state: Any, f: Callable[[Tensor], Tensor]) -> Any:
    return type(state)(tuple(map(f, state.controller)), *map(f, state[1:]))


def named(state: Any) -> Tensors:
    parts = dict(zip("hc", state.controller, strict=False)) | state._asdict()
    del parts["controller"]
    return parts


def loop(model: Any, input: Tensor, state: Any) -> tuple[Tensor, Any]:
    """The definition of a sequence module: its cell, called at each step."""
    outputs = []
    for x in input.unbind(1 if model.batch_first else 0):
        output, state = model.cell(x, state)
        outputs.append(output)
    assert state is not None
    return torch.stack(outputs, 1 if model.batch_first else 0), state


def evaluate(model: Any, how: str, input: Tensor, state: Any) -> Tensors:
    """Outputs, last state and, as "grad x", gradients, of the "whole" module, a loop of "cells", the "reference"."""
    if how == "reference":
        model = copy.deepcopy(model)
        model.cell.backend = "reference"
    input = input.detach().requires_grad_()
    leaves = {"input": input}
    if state is not None:
        state = apply(state, lambda x: x.detach().requires_grad_())
        leaves |= named(state)
    leaves |= dict(model.named_parameters())
    before = {name: x._version for name, x in leaves.items()}
    output, last = loop(model, input, state) if how == "cells" else model(input, state)
    results = {"output": output} | named(last)
    loss, g = torch.zeros((), dtype=output.dtype), torch.Generator().manual_seed(2)
    for x in results.values():
        loss = loss + (x * torch.randn(x.shape, generator=g).to(x.dtype)).sum()
    results = {name: x.detach() for name, x in results.items()} | gradients(loss, leaves)
    assert {name: x._version for name, x in leaves.items()} == before
    return results


def assert_close(got: Tensors, expected: Tensors, bound: float = 1e-12) -> None:
    assert got.keys() == expected.keys()
    assert all(got[name].shape == x.shape for name, x in expected.items())
    wrong = {name: error for name, error in relative_errors(got, expected).items() if not error <= bound}
    assert not wrong, wrong


def check(model: Any, input: Tensor, state: Any) -> None:
    got = evaluate(model, "whole", input, state)
    assert_close(got, evaluate(model, "cells", input, state))
    assert_close(got, evaluate(model, "reference", input, state))


def squares(model: Any, *arguments: Any) -> Tensors:
    """Gradients of the sum of squares of the output."""
    x = arguments[0].clone().requires_grad_()
    return gradients(model(x, *arguments[1:])[0].square().sum(), {"input": x} | dict(model.named_parameters()))


def gradients(loss: Tensor, leaves: Tensors) -> Tensors:
    got = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return {f"grad {name}": g for name, g in zip(leaves, got, strict=True)}


def parameters_grads(module: nn.Module, loss: Tensor, **options: Any) -> list[Tensor]:
    """The gradients of a loss for the parameters of a module, in their order."""
    return list(torch.autograd.grad(loss, list(module.parameters()), **options))
