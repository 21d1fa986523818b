"""Rows of docs/pytorch.md: what torch.nn.LSTM has."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

from mannkern.memories.sequence import MemorySequence
from tests.docs.pytorch.feature import (
    COMPILED,
    MANN_ALONE,
    NTM_ALONE,
    SAME,
    STEPS,
    YES,
    Feature,
    agrees,
    build,
    close,
    draw,
    twin,
)


def batch_first(module: Any, backend: str) -> None:
    agrees(build(module, backend, batch_first=True), draw(2, 4, 3))


def lengths(module: Any, backend: str) -> None:
    model, x = build(module, backend), draw(4, 3, 3)
    agrees(model, x, lengths=[2, 4, 0])
    close(model(x, lengths=[2, 4, 0])[0][:2, 0], model(x[:2, :1])[0][:, 0])


def packed(module: Any, backend: str) -> None:
    model, parts = build(module, backend), [draw(n, 3) for n in (2, 4, 1)]
    output, _ = pad_packed_sequence(model(pack_sequence(parts, enforce_sorted=False))[0])
    for b, x in enumerate(parts):
        close(output[: len(x), b], twin(model)(x)[0])


def resets(module: Any, backend: str) -> None:
    model, x, reset = build(module, backend), draw(4, 2, 3), torch.zeros(4, 2, dtype=torch.bool)
    reset[2, 1] = True
    agrees(model, x, reset=reset)
    close(model(x, reset=reset)[0][2:, 1:], twin(model)(x[2:, 1:])[0])


def without_a_batch(module: Any, backend: str) -> None:
    model, x = build(module, backend), draw(4, 3)
    agrees(model, x)
    assert model(x)[1].memory.shape == (8, 4)


def layers(module: Any, backend: str) -> None:
    model, x = build(module, backend, num_layers=2, dropout=0.5).eval(), draw(4, 2, 3)
    first, second = (MemorySequence(cell) for cell in twin(model).cells)
    output, states = model(x)
    close(output, second(first(x)[0])[0])
    assert len(states) == 2
    assert not torch.equal(model.train()(x)[0], output)


def no_input(module: Any, backend: str) -> None:
    cell = build(module, backend).cell
    state = cell(draw(2, 3))[1]
    zeros: Tensor = torch.zeros(2, 3, dtype=torch.float64)
    close(cell(None, state)[0], twin(cell)(zeros, state)[0])


def sizes(module: Any, backend: str) -> None:
    model = build(module, backend)
    assert (model.input_size, model.hidden_size, model.memory_slots, model.memory_width) == (3, 5, 8, 4)
    before = model.cell.interface.weight.clone()
    model.reset_parameters()
    assert not torch.equal(model.cell.interface.weight, before)


FEATURES = (
    Feature("`batch_first=True`", "Inputs and outputs are (B, T, ·).", COMPILED, STEPS, batch_first),
    Feature(
        "`lengths=`",
        "The steps of each episode, in any order. Behind an episode's end the output is 0, and its state stays.",
        COMPILED,
        STEPS,
        lengths,
        MANN_ALONE,
        NTM_ALONE,
        ("tests/triton/test_episode_ends.py::test_equals_runs_apart",),
    ),
    Feature(
        "`PackedSequence`",
        "Sorted or not; the output is packed as `torch.nn.LSTM` packs it.",
        COMPILED,
        STEPS,
        packed,
    ),
    Feature(
        "`reset=`",
        "Where an episode starts anew, as trajectories in reinforcement learning do. `torch.nn.LSTM` does not have it. "
        "A controller of your own needs a method `initial_state(batch_size)`, because the state that it starts from is "
        "not known otherwise; a GRUCell or RNNCell does not.",
        COMPILED,
        STEPS,
        resets,
        MANN_ALONE,
        NTM_ALONE,
        ("tests/triton/test_episode_ends.py::test_equals_runs_apart",),
    ),
    Feature("Input without a batch", "(T, F) for a sequence, (F) for a cell.", COMPILED, STEPS, without_a_batch),
    Feature(
        "`num_layers`, `dropout`",
        "Each layer has a memory of its own, and the state is a tuple. Dropout acts between layers, in training alone.",
        COMPILED,
        STEPS,
        layers,
    ),
    Feature("`cell(None, state)`", "A step on an input of zeros.", STEPS, STEPS, no_input),
    Feature(
        "Sizes as attributes, `reset_parameters()`",
        "On `MANN` and `NTM` as on their cells.",
        YES,
        YES,
        sizes,
        SAME,
        SAME,
    ),
    Feature(
        "Types of calls",
        "mypy knows what a call of a module or cell takes and returns. With more than one layer it takes the tuple of "
        "states for the state of one layer: annotate that as `Any`.",
        YES,
        YES,
        None,
        SAME,
        SAME,
        evidence=("tests/memories/test_pytorch_like_lstm.py::test_types",),
    ),
)
