"""Whole episodes in compiled code, against looping the cell on the reference: output, last state, all gradients."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from mannkern.cells import MANNState, NTMState
from mannkern.sequence import MANN, NTM
from mannkern.verification.accuracy import Error, errors
from mannkern.verification.cases import Tensors

Model = MANN | NTM
SIZES = {"odd": (7, 13, 33, 17, 3), "standard_memory": (40, 64, 128, 40, 4)}  # F, D, N, W, R
LENGTHS = {"one_step": (1, 3), "spans": (7, 16), "parts": (2, 150)}  # T, B
OPTIONS: dict[type[Model], dict[str, dict[str, Any]]] = {
    MANN: {"lstm": {}, "feedforward": {"controller": "feedforward", "key_strength": True, "least_used": "per_head"}},
    NTM: {"lstm": {"num_write_heads": 2}, "feedforward": {"controller": "feedforward", "shift_range": 2}},
}
GAP = 1e-5  # between usages, so that rounding chooses no slot
ATTEMPTS = 100


def episode_errors(
    module: type[Model], options: str, size: str, length: str, dtype: torch.dtype, seed: int
) -> dict[str, Error]:
    """Errors of each result of the compiled loop, beside the cell's in float64 and, of float32, in float32."""
    T, B = LENGTHS[length]
    for attempt in range(ATTEMPTS):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + attempt)
            model: Model = module(*SIZES[size], **OPTIONS[module][options], backend="cpp", dtype=dtype)
            input, state = torch.randn(T, B, SIZES[size][0]), _state(model, B)
        exact = _Loop(model, torch.float64)
        truth = _results(exact, input.double(), _to(state, torch.float64))
        if exact.gap > GAP:
            break
    else:
        raise RuntimeError(f"{size}, {length}: no inputs of {ATTEMPTS} whose usages stay apart")
    input, state = input.to(dtype), _to(state, dtype)
    float32 = None if dtype == torch.float64 else _results(_Loop(model, dtype), input, state)
    return errors(_results(model, input, state), truth, float32)


class _Loop(torch.nn.Module):
    """The model's cell on the reference, step by step; how far apart the usages were that chose slots."""

    def __init__(self, model: Model, dtype: torch.dtype) -> None:
        super().__init__()
        self.cell: Any = copy.deepcopy(model.cell).to(dtype)
        self.cell.backend = "reference"
        self.gap = float("inf")

    def forward(self, input: Tensor, state: Any) -> tuple[Tensor, Any]:
        outputs = []
        for x in input:
            if isinstance(state, MANNState):
                lowest = state.usage.detach().sort(-1).values[:, : self.cell.num_least_used + 1]
                self.gap = min(self.gap, float(lowest.diff().min()))
            output, state = self.cell(x, state)
            outputs.append(output)
        return torch.stack(outputs), state


def _state(model: Model, B: int) -> Any:
    """A random state with usages 0.1 and more apart."""
    cell: Any = model.cell
    first = cell.initial_state(B)
    controller = tuple(torch.randn_like(x) for x in first.controller)
    memory, read_weights = torch.randn_like(first.memory), torch.randn(first.read_weights.shape).softmax(-1)
    if isinstance(first, NTMState):
        write_weights = torch.randn(first.write_weights.shape).softmax(-1)
        return NTMState(controller, memory, read_weights, write_weights, torch.randn_like(first.read))
    usage = 0.2 * torch.rand(first.usage.shape).argsort(-1) + 0.1 * torch.rand(first.usage.shape)
    return MANNState(controller, memory, read_weights, usage, torch.randn_like(first.read))


def _to(state: Any, dtype: torch.dtype) -> Any:
    return type(state)(tuple(x.to(dtype) for x in state.controller), *(x.to(dtype) for x in state[1:]))


def _results(model: torch.nn.Module, input: Tensor, state: Any) -> Tensors:
    leaves = {"input": input, **_named(state)}
    leaves = {name: x.detach().requires_grad_() for name, x in leaves.items()}
    parts = [leaves[name] for name in _named(state)]
    count = len(state.controller)
    output, last = model(leaves["input"], type(state)(tuple(parts[:count]), *parts[count:]))
    found = {"output": output} | {f"last {name}": x for name, x in _named(last).items()}
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(x.shape, generator=generator).to(x.dtype) for x in found.values()]
    leaves |= {name.removeprefix("cell."): x for name, x in model.named_parameters()}
    grads = torch.autograd.grad(
        list(found.values()), list(leaves.values()), weights, allow_unused=True, materialize_grads=True
    )
    return {name: x.detach() for name, x in found.items()} | {f"grad {name}": g for name, g in zip(leaves, grads)}


def _named(state: Any) -> Tensors:
    parts: Tensors = dict(zip("hc", state.controller)) | state._asdict()
    del parts["controller"]
    return parts
