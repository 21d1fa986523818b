"""One compilation serves every length T and batch B: the shapes of what an episode saves are symbolic in both."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from mannkern import MANN, NTM
from mannkern.functional import lrua_scan
from mannkern.memories import episode
from mannkern.memories.lrua.ops import scan
from tests.helpers import same

MODULES = pytest.mark.parametrize("module", [MANN, NTM])
CONTROLLERS = pytest.mark.parametrize("controller", ["lstm", "feedforward"])
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of an autograd Function
# T = 1 and 2 save one checkpoint, and PyTorch compiles sizes of one by themselves.
LARGE = [(9, 128), (5, 129), (3, 257), (6, 1000)]  # episodes of one chunk of the batch and of more
SHAPES = [(4, 2), (5, 3), (7, 4), (9, 6), (17, 5), (3, 9), (30, 2), (31, 7), (64, 3), (65, 3), (100, 12)]


@pytest.fixture(autouse=True)
def one_compilation() -> Iterator[None]:
    torch._dynamo.reset()
    with torch._dynamo.config.patch(error_on_recompile=True):
        yield


def test_steps_between_checkpoints() -> None:
    """The numbers of csrc, which math.sqrt gives as well as std::sqrt does."""
    for T in range(1, 2001):
        expected = (
            math.ceil(math.sqrt(T)),
            max(math.ceil(math.sqrt(min(T, 64))), (T + 7) // 8),
            min(math.ceil(2 * math.sqrt(T)), T),
        )
        got = episode.checkpoint_every(T), scan.checkpoint_every(T), scan.recompute_checkpoint_every(T)
        assert got == expected
        assert [type(n) for n in got] == [int, int, int]
    assert episode.checkpoint_every(0) == 1


def check(compiled: Any, model: Any, x: Tensor, **ends: Tensor) -> None:
    results = []
    for run in (compiled, model):
        output, state = run(x, **ends)
        loss = output.square().sum() + state.memory.square().sum()
        results.append((output.detach(), state.memory.detach(), *torch.autograd.grad(loss, list(model.parameters()))))
    assert all(same(got, expected) for got, expected in zip(*results, strict=True))


@MODULES
@CONTROLLERS
def test_sequences_of_any_length_and_batch(module: Any, controller: str) -> None:
    model = module(3, 5, 8, 4, 2, controller=controller, backend="cpp")
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=True)
    for T, B in [*SHAPES, *LARGE]:
        check(compiled, model, torch.randn(T, B, 3))


@MODULES
@CONTROLLERS
def test_sequences_with_lengths_and_resets(module: Any, controller: str) -> None:
    model = module(3, 5, 8, 4, 2, controller=controller, backend="cpp")
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=True)
    for T, B in [*SHAPES[3:8], *LARGE]:
        lengths, reset = torch.randint(T + 1, (B,)), torch.rand(T, B) < 0.2
        check(compiled, model, torch.randn(T, B, 3), lengths=lengths, reset=reset)


@MODULES
def test_a_batch_of_one_is_compiled_once_more(module: Any) -> None:
    """PyTorch compiles sizes of one by themselves; with fullgraph, a third compilation would be an error."""
    model = module(3, 5, 8, 4, 2, backend="cpp")
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=True)
    with torch._dynamo.config.patch(error_on_recompile=False, recompile_limit=2):
        for T, B in ((7, 4), (7, 1), (5, 130), (9, 1), (6, 2)):
            check(compiled, model, torch.randn(T, B, 3))


@MODULES
@CONTROLLERS
@pytest.mark.parametrize("backend", ["cpp", pytest.param("reference", marks=pytest.mark.slow)])
def test_cells_of_any_batch(module: Any, controller: str, backend: str) -> None:
    cell = module(3, 5, 8, 4, 2, controller=controller, backend=backend, dtype=torch.float64).cell
    compiled = torch.compile(cell, fullgraph=True, backend="aot_eager", dynamic=True)
    for B in (4, 2, 9, 130):
        x = torch.randn(B, 3, dtype=torch.float64)
        torch.testing.assert_close(compiled(x), cell(x), rtol=1e-12, atol=1e-12)


def test_scans_of_any_length_and_batch() -> None:
    """From T = 7 on there are two checkpoints or more; no size of the first call equals another one."""
    compiled = torch.compile(lrua_scan, fullgraph=True, backend="aot_eager", dynamic=True)
    for T, B in ((7, 3), (9, 5), (64, 4), (65, 3), (200, 7)):
        memory, weights, usage = torch.randn(B, 8, 4), torch.rand(B, 2, 8), torch.rand(B, 8)
        keys, adds, gates = torch.randn(T, B, 2, 4, requires_grad=True), torch.randn(T, B, 2, 4), torch.randn(T, B, 2)
        arguments = memory, weights, usage, keys, adds, gates
        results = []
        for run in (compiled, lrua_scan):
            reads, last = run(*arguments, num_least_used=2, backend="cpp")[:2]
            results.append((reads.detach(), last.detach(), *torch.autograd.grad(reads.square().sum(), keys)))
        assert all(same(got, expected) for got, expected in zip(*results, strict=True))


@MODULES
@CONTROLLERS
def test_an_exported_sequence_of_any_length_and_batch(module: Any, controller: str) -> None:
    model = module(3, 5, 8, 4, 2, controller=controller, backend="cpp")
    sizes = {0: torch.export.Dim("T", min=3), 1: torch.export.Dim("B")}
    file = io.BytesIO()
    with torch.no_grad():  # nothing is saved for backward, whose number of checkpoints would bound T
        program = torch.export.export(model, (torch.randn(6, 4, 3),), dynamic_shapes=(sizes,))
    torch.export.save(program, file)
    file.seek(0)
    exported = torch.export.load(file).module()
    for T, B in [*SHAPES, *LARGE]:
        x = torch.randn(T, B, 3)
        output, state = exported(x)
        assert same(output.detach(), model(x)[0].detach())
        assert same(state.memory.detach(), model(x)[1].memory.detach())


@MODULES
@pytest.mark.parametrize("kind", [torch.nn.GRUCell, torch.nn.RNNCell])
def test_an_exported_sequence_of_another_controller(module: Any, kind: Any) -> None:
    """Its loop begins with zeros, not with None, which a scan cannot carry."""
    model = module(3, 5, 8, 4, 2, controller=kind(11, 5))
    sizes = {0: torch.export.Dim("T", min=3), 1: torch.export.Dim("B")}
    with torch.no_grad():
        exported = torch.export.export(model, (torch.randn(6, 4, 3),), dynamic_shapes=(sizes,)).module()
    for T, B in ((3, 2), (9, 7)):
        x = torch.randn(T, B, 3)
        with torch.no_grad():
            torch.testing.assert_close(exported(x)[0], model(x)[0])


class Layer(torch.nn.Linear):
    """A controller without a state."""

    def forward(self, x: Tensor, state: None) -> tuple[Tensor, None]:  # type: ignore[override]
        return super().forward(x), None


@MODULES
def test_an_exported_sequence_of_a_module_of_ones_own(module: Any) -> None:
    """The controller's state at the start is not known, and the error says so."""
    model, sizes = module(3, 5, 8, 4, 2, controller=Layer(11, 5)), {0: torch.export.Dim("T", min=3)}
    with pytest.raises(TypeError, match="state: got a Layer as controller, whose state at the start is not known"):
        torch.export.export(model, (torch.randn(6, 4, 3),), dynamic_shapes=(sizes,))


@MODULES
def test_an_exported_sequence_with_lengths_and_resets(module: Any) -> None:
    model = module(3, 5, 8, 4, 2, memory_init="learned", backend="cpp")
    T, B = torch.export.Dim("T", min=3), torch.export.Dim("B")
    ends = {"lengths": torch.tensor([6, 2, 0, 3]), "reset": torch.zeros(6, 4, dtype=torch.bool)}
    sizes = {"input": {0: T, 1: B}, "lengths": {0: B}, "reset": {0: T, 1: B}}
    with torch.no_grad():
        exported = torch.export.export(model, (torch.randn(6, 4, 3),), ends, dynamic_shapes=sizes).module()
    for steps, episodes in ((9, 7), (5, 150)):
        lengths, reset = torch.randint(steps + 1, (episodes,)), torch.rand(steps, episodes) < 0.3
        x = torch.randn(steps, episodes, 3)
        (output, state), (expected, last) = (run(x, lengths=lengths, reset=reset) for run in (exported, model))
        assert same(output.detach(), expected.detach())
        assert same(state.memory.detach(), last.memory.detach())
