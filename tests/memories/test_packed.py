"""PackedSequences: MANN and NTM take and return them as torch.nn.LSTM does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence

from mannkern import MANN
from tests.helpers import same
from tests.memories.sequences import BOTH, SIZES, Sequence, apply, assert_close, build, episode, gradients, named

LENGTHS = {"sorted": [7, 7, 4, 1], "unsorted": [4, 7, 1, 7]}


def test_example() -> None:
    mann = MANN(3, 5, 4, 2, 1)
    packed = pack_sequence([torch.randn(1, 3), torch.randn(2, 3)], enforce_sorted=False)
    output, state = mann(packed)
    assert output.data.shape == (3, mann.output_size)
    padded, lengths = pad_packed_sequence(output)
    assert lengths.tolist() == [1, 2]
    assert same(state.read.flatten(1), torch.stack([padded[0, 0], padded[1, 1]])[:, 5:])


@BOTH
@pytest.mark.parametrize("order", LENGTHS)
@pytest.mark.parametrize("backend", ["cpp", "reference"])
@pytest.mark.parametrize("options", ["plain", "layer", "reset"])
def test_equals_padded_input(module: type[Sequence], order: str, backend: str, options: str) -> None:
    model = build(module, backend=backend, controller="feedforward" if options == "layer" else "lstm")
    input, state = episode(model, 7, B=4)
    lengths = torch.tensor(LENGTHS[order])
    reset = torch.rand(7, 4) < 0.3 if options == "reset" else None
    results = []
    for packs in (True, False):
        x = input.clone().requires_grad_()
        start = apply(state, lambda part: part.detach().requires_grad_())
        if packs:
            packed = pack_padded_sequence(x, lengths, enforce_sorted=order == "sorted")
            output, last = model(packed, start, reset=reset)
            assert all(same(getattr(output, name), getattr(packed, name)) for name in ("batch_sizes",))
            output, _ = pad_packed_sequence(output, total_length=7)
        else:
            output, last = model(x, start, lengths=lengths, reset=reset)
        parts = {"output": output} | named(last)
        leaves = {"input": x} | named(start) | dict(model.named_parameters())
        loss = torch.stack([part.square().sum() for part in parts.values()]).sum()
        results.append({name: part.detach() for name, part in parts.items()} | gradients(loss, leaves))
    assert_close(*results, 1e-14)


@BOTH
def test_packed_as_an_lstm_packs(module: type[Sequence]) -> None:
    """The fields of the output are those of the input, as torch.nn.LSTM has them; batch_first does not count."""
    model, lstm = build(module, batch_first=True), nn.LSTM(SIZES[0], 4, batch_first=True, dtype=torch.float64)
    sequences = [torch.randn(n, SIZES[0], dtype=torch.float64) for n in (2, 5, 3)]
    for packed in (
        pack_sequence(sequences, enforce_sorted=False),
        pack_sequence(sorted(sequences, key=len, reverse=True)),
        pack_padded_sequence(torch.randn(3, 5, SIZES[0], dtype=torch.float64), torch.tensor([5, 5, 1]), True),
    ):
        output, expected = model(packed)[0], lstm(packed)[0]
        assert isinstance(output, PackedSequence)
        for got, field in zip(output[1:], expected[1:], strict=True):
            assert (got is None) == (field is None)
            assert got is None or same(got, field)


@BOTH
def test_state_has_the_order_before_packing(module: type[Sequence]) -> None:
    model = build(module)
    sequences = [torch.randn(n, SIZES[0], dtype=torch.float64) for n in (2, 5, 3)]
    _, state = episode(model, 1, B=3)
    _, last = model(pack_sequence(sequences, enforce_sorted=False), state)
    for b, x in enumerate(sequences):
        _, alone = model(x.unsqueeze(1), apply(state, lambda part: part[b : b + 1]))  # noqa: B023
        assert all(same(named(last)[name][b : b + 1], part) for name, part in named(alone).items())


@BOTH
def test_errors(module: type[Sequence]) -> None:
    model: Any = build(module)
    packed = pack_sequence([torch.zeros(2, SIZES[0], dtype=torch.float64)] * 2)
    wrong: Tensor = torch.zeros(2, SIZES[0] + 1, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"^lengths: got list, need None: a PackedSequence has its own"):
        model(packed, lengths=[2, 2])
    with pytest.raises(ValueError, match=r"^input: got shape \(2, 1, 4\), need \(T, B, F\) or \(T, F\) with F = 3"):
        model(pack_sequence([wrong]))
    with pytest.raises(ValueError, match=r"^reset: got shape \(2, 1\), need \(T, B\) = \(2, 2\)"):
        model(packed, reset=torch.ones(2, 1).bool())
    with pytest.raises(ValueError, match=r"^state.memory: got shape \(1, 8, 4\), need "):
        model(packed, model.initial_state(1))
