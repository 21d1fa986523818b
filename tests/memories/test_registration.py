"""A memory family is one folder and one line: ``ring`` is registered as LRUA and the NTM are, and has what they have.

CONTRIBUTING.md, "Adding a memory", says in words what this test does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import mannkern
from mannkern import functional
from mannkern.__main__ import main
from mannkern.memories.core import CORES
from mannkern.memories.registry import FAMILIES, cases, register
from mannkern.memories.sequence import MemorySequence
from mannkern.verification.verify import available_backends, verify
from tests.commands.calls import SIZES as EPISODES
from tests.commands.calls import run
from tests.memories import ring

SIZES = (3, 5, 4, 2, 2)  # F, D, N, W, R


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """Register the family as a line of mannkern/memories/__init__.py would; remove it after the test."""
    register(ring.FAMILY)
    yield
    del FAMILIES["ring"], CORES["ring"]


def test_example() -> None:
    """Slots 1, 0, 2 and key ln 2: exponentials 2, 1, 4, so the read is (2 1 + 1 0 + 4 2) / 7. Then 5 replaces the 0."""
    memory, key = torch.tensor([[[1.0], [0.0], [2.0]]]), torch.tensor([[[2.0]]]).log()
    read, weights = functional.ring_read(memory, key)
    torch.testing.assert_close(weights, torch.tensor([[[2 / 7, 1 / 7, 4 / 7]]]))
    torch.testing.assert_close(read, torch.tensor([[[10 / 7]]]))
    written = functional.ring_write(memory, torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[5.0]]))
    assert written.tolist() == [[[1.0], [5.0], [2.0]]]


def test_a_name_is_taken_once() -> None:
    with pytest.raises(ValueError, match=r"^family: got 'ring', need a name that is not registered yet$"):
        register(ring.FAMILY)
    with pytest.raises(ValueError, match=r"^operation: got 'ring_write', need a name that is not registered yet$"):
        register(ring.FAMILY._replace(name="another"))
    assert "another" not in FAMILIES


def test_the_operations_are_public_and_check_their_arguments() -> None:
    memory = torch.rand(2, 3, 4)
    with pytest.raises(ValueError, match=r"^key: got shape \(2, 1, 5\), need \(B, R, W\) = \(2, 1, 4\)$"):
        functional.ring_read(memory, torch.rand(2, 1, 5))
    with pytest.raises(TypeError, match=r"^place: got torch\.int64, need torch\.float32 as the others"):
        functional.ring_write(memory, torch.zeros(2, 3, dtype=torch.int64), torch.rand(2, 4))
    with pytest.raises(TypeError, match=r"^value: got NoneType, need a tensor \(B, W\)$"):
        functional.ring_write(memory, torch.zeros(2, 3), None)


def test_only_the_reference_has_it() -> None:
    memory, key = torch.rand(2, 3, 4), torch.rand(2, 1, 4)
    with pytest.raises(
        RuntimeError,
        match=r"^backend: got 'cpp', need another: .* no kernels for 'ring'; only the reference has",
    ):
        functional.ring_read(memory, key, backend="cpp")
    assert torch.equal(functional.ring_read(memory, key, backend="reference")[0], functional.ring_read(memory, key)[0])
    assert mannkern.backend_info().used["cpu"]["ring_read"] == "reference"
    assert {"ring_read", "ring_write", "lrua_step"} <= {*dir(functional)}


def test_it_has_rows_of_verify(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert ("reference", "cpu") in available_backends(["cpu"])
    assert cases().keys() >= {"ring_write", "ring_read"}
    rows = list(verify("reference", "cpu", seed=0))
    dtypes = ("float64", "float32", "bfloat16", "gradcheck")
    assert [(row.operation, row.dtype) for row in rows] == [
        (name, d) for name in ring.FAMILY.operations for d in dtypes
    ]
    assert all(row.good for row in rows), rows
    monkeypatch.setattr("mannkern.commands.verify.available_backends", lambda devices: [("reference", "cpu")])
    assert main(["verify", "--seed", "0"]) == 0
    assert "8 of 8 rows are right" in capsys.readouterr().out


def test_its_sequence_is_a_loop_over_its_cell() -> None:
    torch.manual_seed(0)
    cell = ring.RingCell(*SIZES)
    sequence, input = MemorySequence(cell), torch.randn(6, 3, 3)
    output, last = sequence(input)
    assert output.shape == (6, 3, sequence.output_size)
    outputs, state = [], None
    for x in input:
        step, state = cell(x, state)
        outputs.append(step)
    assert torch.equal(output, torch.stack(outputs))
    assert all(torch.equal(x, y) for x, y in zip(last[1:], state[1:], strict=True))
    assert last.memory.requires_grad
    assert not last.detach().memory.requires_grad
    assert last.to(torch.float64).place.dtype == torch.float64
    assert last.place.argmax(-1).tolist() == [6 % 4] * 3
    assert sequence.trace(input).write_weights.argmax(-1)[:, 0, 0].tolist() == [0, 1, 2, 3, 0, 1]


def test_its_sequence_checks_input_and_state() -> None:
    cell = ring.RingCell(*SIZES)
    with pytest.raises(ValueError, match=r"^input: got shape"):
        MemorySequence(cell)(torch.zeros(6, 3, 4))
    state = cell.initial_state(3)
    with pytest.raises(ValueError, match=r"^state\.place: got shape \(2, 4\), need \(B, N\) = \(3, 4\)$"):
        cell(torch.zeros(3, 3), state._replace(place=state.place[:2]))
    with pytest.raises(TypeError, match=r"^state: got tuple, need the RingState"):
        cell(torch.zeros(3, 3), tuple(state))


@pytest.mark.parametrize("controller", ["lstm", "feedforward"])
def test_gradients_of_its_sequence(controller: str) -> None:
    torch.manual_seed(0)
    sequence = MemorySequence(
        ring.RingCell(2, 3, 3, 2, 1, controller=controller, memory_init="learned", dtype=torch.float64)
    )
    names, parameters = zip(*sequence.named_parameters())
    input = torch.randn(5, 2, 2, dtype=torch.float64, requires_grad=True)

    def run(input: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        output, last = torch.func.functional_call(sequence, dict(zip(names, parameters)), (input,))
        return output, last.memory, last.read_weights

    assert torch.autograd.gradcheck(run, (input, *parameters))


def test_its_model_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train glyphs --model ring --steps 3 --episodes 4 --run", tmp_path / "run", EPISODES) == 0
    out = capsys.readouterr().out
    assert "RING on glyphs" in out
    assert "RING: 3 steps" in out
    assert (tmp_path / "run" / "pictures" / "memory.png").exists()
