"""A cell's own step as one operation: where it is taken, and its accuracy.

tests/memories/test_sequence.py compares it, as a loop over cells, with the fused episode and the reference.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mannkern import MANNCell, NTMCell
from tests.helpers import assert_accurate, same, strided
from tests.memories.sequences import (
    BOTH,
    MOST,
    SIZES,
    Sequence,
    apply,
    build,
    episode,
    evaluate,
    named,
    parameters_grads,
)
from tests.recorder import Recorder

CONTROLLERS = pytest.mark.parametrize("controller", ["lstm", "feedforward"])
OPERATIONS = {"mann_cell", "ntm_cell"}


def fuses(cell: Any, *arguments: Any) -> bool:
    """Whether a call of the cell is one operation."""
    with Recorder() as recorder:
        cell(*arguments)
    return bool(OPERATIONS & {name for name, calls in recorder.calls.items() if calls})


def test_example() -> None:
    cell = MANNCell(3, 5, 8, 4, 2)
    assert fuses(cell, torch.randn(2, 3))
    assert not fuses(MANNCell(3, 5, 8, 4, 2, backend="reference"), torch.randn(2, 3))


EPISODES_AND_SIZES = [  # B, and F, D, N, W, R: around vectors, blocks and tiles of every instruction set
    (1, (1, 1, 1, 1, 1)),
    (1, (3, 5, 8, 4, 2)),
    (2, (16, 16, 16, 16, 1)),
    (3, (7, 9, 33, 17, 3)),
    (4, (31, 15, 40, 8, 4)),
    (5, (8, 32, 17, 5, 3)),
    (6, (2, 40, 64, 3, 5)),
    (7, (33, 7, 5, 33, 1)),
    (8, (17, 33, 31, 12, 2)),
    (15, (5, 3, 128, 20, 1)),
    (16, (4, 20, 128, 40, 4)),
    (19, (50, 10, 12, 7, 2)),
]


@pytest.mark.parametrize(("B", "sizes"), EPISODES_AND_SIZES, ids=lambda x: str(x).replace(", ", "-"))
@CONTROLLERS
@BOTH
@pytest.mark.usefixtures("isa", "nan_filled_allocations")
def test_accuracy(module: type[Sequence], controller: str, B: int, sizes: tuple[int, ...]) -> None:
    """Every output and gradient of two steps, from a state that requires a gradient."""
    model = build(module, sizes, torch.float32, controller=controller, **MOST[module])
    input, state = episode(model, 2, B)
    truth = evaluate(copy.deepcopy(model).double(), "reference", input.double(), apply(state, Tensor.double))
    double = evaluate(copy.deepcopy(model).double(), "cells", input.double(), apply(state, Tensor.double))
    assert_accurate(double, truth, None)
    assert_accurate(evaluate(model, "cells", input, state), truth, evaluate(model, "reference", input, state))


@BOTH
@pytest.mark.usefixtures("isa")
def test_other_episodes_and_threads_change_no_bits(module: type[Sequence], threads: Callable[[int], None]) -> None:
    model = build(module, (7, 40, 64, 20, 4), torch.float32, **MOST[module])
    (input,), state = episode(model, 1, B=21)
    whole = model.cell(input, state)
    for begin, end in ((0, 1), (1, 3), (3, 8), (8, 21)):
        part = model.cell(input[begin:end], apply(state, lambda x: x[begin:end]))  # noqa: B023
        assert same(part[0], whole[0][begin:end])
        assert all(same(x, named(whole[1])[name][begin:end]) for name, x in named(part[1]).items())
    threads(2)
    again = model.cell(input, state)
    assert same(again[0], whole[0])
    grads = [parameters_grads(model.cell, output.square().sum()) for output in (whole[0], again[0])]
    assert all(map(same, *grads))


@BOTH
@CONTROLLERS
def test_with_and_without_gradients(module: type[Sequence], controller: str) -> None:
    """Bit-equal, on strided input and state too, which are left as they were."""
    model = build(module, controller=controller)
    (input,), state = episode(model, 1, B=3)
    expected = model.cell(input, state)
    with torch.no_grad():
        for x, start in ((input, state), (strided(input), apply(state, strided))):
            before = x.clone()
            output, last = model.cell(x, start)
            assert not output.requires_grad
            assert same(x, before)
            assert same(output, expected[0])
            assert all(same(part, named(expected[1])[name]) for name, part in named(last).items())
    assert model.cell(input[:0], model.cell.initial_state(0))[0].shape == (0, model.output_size)


@pytest.mark.parametrize("cell_type", [MANNCell, NTMCell])
def test_where_it_is_not_taken(cell_type: type[MANNCell | NTMCell]) -> None:
    x = torch.randn(2, 3)
    assert fuses(cell_type(*SIZES), x)
    assert fuses(cell_type(*SIZES, controller=nn.LSTMCell(11, 5)), x)
    for controller in (nn.GRUCell(11, 5), nn.LSTMCell(11, 5, bias=False)):
        assert not fuses(cell_type(*SIZES, controller=controller), x)
    assert not fuses(cell_type(*SIZES, dtype=torch.bfloat16), x.bfloat16())
    with torch.autocast("cpu"):
        assert not fuses(cell_type(*SIZES), x)
    hooked = cell_type(*SIZES)
    hooked.interface.register_forward_hook(lambda module, args, output: output)
    assert not fuses(hooked, x)
    replaced = cell_type(*SIZES)
    weight = replaced.interface.weight
    del replaced.interface.weight
    replaced.interface.weight = weight.detach() * 1  # a plain tensor in place of the parameter
    assert not fuses(replaced, x)


@pytest.mark.parametrize("cell_type", [MANNCell, NTMCell])
def test_a_state_of_half_precision_is_widened_first(cell_type: type[MANNCell | NTMCell]) -> None:
    cell, x = cell_type(*SIZES), torch.randn(2, 3)
    state: Any = cell(x)[1].detach()
    half = state._replace(memory=state.memory.bfloat16(), read=state.read.half())
    assert fuses(cell, x, half)
    assert same(cell(x, half)[0], cell(x, half.to(torch.float32))[0])
