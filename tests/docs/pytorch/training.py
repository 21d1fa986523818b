"""Rows of docs/pytorch.md: training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from mannkern import MANN
from mannkern.memories.sequence import MemorySequence
from tests.docs.pytorch.feature import (
    COMPILED,
    MANN_ALONE,
    NONE,
    STEPS,
    UNTESTED,
    YES,
    Feature,
    agrees,
    build,
    close,
    draw,
    twin,
)
from tests.helpers import same
from tests.memories.coded import code


def training_step(module: Any, backend: str) -> None:
    agrees(build(module, backend), draw(4, 2, 3))
    agrees(build(module, backend, controller="feedforward"), draw(4, 2, 3))


def loop_over_a_cell(module: Any, backend: str) -> None:
    cell, state = build(module, backend).cell, None
    for x in draw(3, 2, 3):
        output, state = cell(x, state)
    output.square().sum().backward()
    assert all(p.grad is not None for p in cell.parameters())


def own_controller(module: Any, backend: str) -> None:
    agrees(build(module, backend, controller=nn.GRUCell(11, 5, dtype=torch.float64)), draw(4, 2, 3))


def written_key(module: Any, backend: str) -> None:
    agrees(build(module, backend, write="key"), draw(4, 2, 3))


def checkpointed(module: Any, backend: str) -> None:
    model = build(module, backend)
    agrees(model, draw(4, 2, 3), lambda x: checkpoint(model, x, use_reentrant=False))


def saved_elsewhere(module: Any, backend: str) -> None:
    model, packed = build(module, backend), []
    x = draw(4, 2, 3)

    def run(x: Tensor) -> Any:
        with saved_tensors_hooks(lambda t: packed.append(t) or t, lambda t: t):  # type: ignore[func-returns-value]
            return model(x)

    def on_cpu(x: Tensor) -> Any:
        with save_on_cpu():
            return model(x)

    agrees(model, x, run)
    agrees(model, x, on_cpu)
    assert packed


def half_precision(module: Any, backend: str) -> None:
    model = build(module, backend, dtype=torch.bfloat16)
    x = torch.randn(4, 2, 3, dtype=torch.bfloat16)
    output, state = model(x)
    output.float().square().sum().backward()
    assert (output.dtype, state.memory.dtype) == (torch.bfloat16, torch.float32)
    assert all(p.grad.dtype == torch.bfloat16 for p in model.parameters())


def autocast(module: Any, backend: str) -> None:
    for controller, dtype in (("feedforward", torch.bfloat16), ("lstm", torch.float32)):
        model, x = build(module, backend, dtype=torch.float32, controller=controller), torch.randn(4, 2, 3)
        with torch.autocast("cpu", torch.bfloat16):
            output, state = model(x)
            output.float().square().sum().backward()
        assert (output.dtype, state.memory.dtype) == (dtype, torch.float32)
        if backend == "cpp":
            torch.testing.assert_close(output.float(), model(x)[0], rtol=0.05, atol=0.02)


def hooks(module: Any, backend: str) -> None:
    model, calls = build(module, backend), []
    model.cell.register_forward_hook(lambda *_: calls.append(1))
    agrees(model, draw(4, 2, 3))
    assert len(calls) == 8  # of the model, and of the copy that it is compared with


def subclass(module: Any, backend: str) -> None:
    cell_type = type(build(module, backend).cell)

    class Doubled(cell_type):  # type: ignore[misc, valid-type]
        def interface_vector(self, hidden: Tensor) -> Any:
            return super().interface_vector(2 * hidden)

    model = MemorySequence(Doubled(3, 5, 8, 4, 2, backend=backend, dtype=torch.float64))
    plain = MemorySequence(cell_type(3, 5, 8, 4, 2, backend="reference", dtype=torch.float64))
    plain.load_state_dict(model.state_dict())
    x = draw(4, 2, 3)
    agrees(model, x)
    assert not torch.allclose(model(x)[0], plain(x)[0])


class LowRank(nn.Module):
    """A frozen linear layer plus a product of two small ones, as LoRA adds."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, 2, bias=False, dtype=base.weight.dtype)
        self.up = nn.Linear(2, base.out_features, bias=False, dtype=base.weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


def quantised(module: Any, backend: str) -> None:
    model, x = build(module, backend, controller="feedforward").requires_grad_(False), draw(4, 2, 3)
    plain = twin(model)
    code(model)
    close(model(x)[0], plain(x)[0])


def low_rank(module: Any, backend: str) -> None:
    model = build(module, backend)
    model.cell.interface = LowRank(model.cell.interface)
    agrees(model, draw(4, 2, 3))


def output_in_place(module: Any, backend: str) -> None:
    model = build(module, backend)
    output, state = model(draw(4, 2, 3))
    state.read.add_(1).sum().backward(retain_graph=True)
    if backend == "cpp":
        for part in state[1:]:
            part.mul_(2)
        output.square().sum().backward()
    with torch.no_grad():
        model(draw(4, 2, 3))[0].add_(1)
    model(draw(4, 2, 3))[0].add_(1).square().sum().backward()


def bits(module: Any, backend: str) -> None:
    model, x, before = build(module, backend, dtype=torch.float32), torch.randn(4, 150, 3), torch.get_num_threads()
    expected = model(x)[0]
    assert same(model(x[:, 120:140])[0], expected[:, 120:140])
    try:
        torch.set_num_threads(2)
        assert same(model(x)[0], expected)
    finally:
        torch.set_num_threads(before)


FEATURES = (
    Feature(
        "Forward and backward of `MANN(x)`, `NTM(x)`",
        "For an LSTM or feed-forward controller. On a GPU `auto` takes `triton` for MANN; its kernels of commit "
        '2ab9056 equaled the CPU in float64 on an H200. `backend="cuda"` asks for one persistent kernel, which the '
        "emulator has run. For NTM it takes `cuda`, which no GPU has run yet. Larger memories run step by step "
        "([sizes](#sizes-of-the-compiled-loop-on-a-gpu)).",
        COMPILED,
        STEPS,
        training_step,
        MANN_ALONE,
        COMPILED,
        (
            "tests/gpu/episodes.py::equals_the_cpu",
            "tests/cuda/test_persistent.py::test_a_module_with_missing_gradients",
            "tests/triton/test_ntm_episode.py::test_steps_episodes_and_sizes",
        ),
    ),
    Feature(
        "A loop over `MANNCell`, `NTMCell`",
        "On the CPU a step of a plain cell is one operation, its controller included; elsewhere it is a few "
        "operations.",
        STEPS,
        STEPS,
        loop_over_a_cell,
        "operations",
        "operations",
        ("tests/triton/test_accuracy.py::test_cell", "tests/cuda/test_kernels.py::test_accuracy_in_any_order"),
    ),
    Feature(
        "CUDA graphs",
        "MANN's loop is replayed from a graph from the second call of a shape on, keeps two forwards before two "
        "backwards apart, and runs within a graph of your own. The graphs of the last eight sets of shapes keep the "
        "memory of their arguments and results, about 1.6 MB an episode of 50 steps: `mannkern.triton.graph.clear()` "
        "frees it.",
        NONE,
        NONE,
        None,
        MANN_ALONE,
        UNTESTED,
        (
            "tests/gpu/episodes.py::within_the_users_graph",
            "tests/gpu/episodes.py::two_forwards_before_two_backwards",
        ),
    ),
    Feature("Another module as controller", "Such as `torch.nn.GRUCell`.", STEPS, STEPS, own_controller),
    Feature(
        '`write="key"`',
        "Of MANN alone: the key itself is written, as in the paper.",
        COMPILED,
        STEPS,
        written_key,
        MANN_ALONE,
        evidence=("tests/triton/test_episode.py::test_options",),
        modules=(MANN,),
    ),
    Feature(
        "`torch.utils.checkpoint`",
        "With `use_reentrant=False`.",
        COMPILED,
        STEPS,
        checkpointed,
    ),
    Feature(
        "`save_on_cpu`, `saved_tensors_hooks`",
        "Each saved tensor is unpacked once.",
        COMPILED,
        STEPS,
        saved_elsewhere,
        evidence=("tests/memories/test_pytorch_saved.py::test_hooks_run_once_per_tensor",),
    ),
    Feature(
        "Modules in float16 and bfloat16",
        "The compiled loop computes in float32; only a CPU with AVX512-BF16 multiplies weights in bfloat16. "
        "The memory is float32, and the output has the module's dtype.",
        COMPILED,
        STEPS,
        half_precision,
    ),
    Feature(
        "`torch.autocast`",
        "The compiled loop computes in float32; only a CPU with AVX512-BF16 multiplies weights in bfloat16. The output "
        "has autocast's dtype, except with an LSTM controller on a CPU: there it stays float32.",
        COMPILED,
        STEPS,
        autocast,
        MANN_ALONE,
        evidence=("tests/memories/test_sequence_half.py::test_triton",),
    ),
    Feature("Hooks on `.cell`", "They are called at each step, and so are hooks on all modules.", STEPS, STEPS, hooks),
    Feature(
        "A subclass of a cell",
        "One that overrides a step, or a part of it. A method that is replaced on a class after it was created is not "
        "seen; on an instance it is.",
        STEPS,
        STEPS,
        subclass,
    ),
    Feature("LoRA, another module as `.interface`", "Any module of the same sizes.", STEPS, STEPS, low_rank),
    Feature(
        "Quantised weights",
        "Such as those of torchao's `quantize_`: weights that hold other tensors, of linear layers, which each step "
        "calls.",
        STEPS,
        STEPS,
        quantised,
    ),
    Feature(
        "In-place operations on the output",
        "On `cpp` the backward pass reads the output, so that autograd refuses it, as it does for `torch.nn.LSTM`. On "
        "the last state of a compiled loop, and without gradients, they work. A cell's state, and the last one of a "
        "sequence that goes step by step, is read backward too: wipe episodes with `torch.where`, or `reset=` of a "
        "sequence.",
        "no: autograd refuses it",
        YES,
        output_in_place,
        error="modified by an inplace operation",
    ),
    Feature(
        "Equal bits for any threads and batch",
        "No bit of an episode depends on the number of threads, or on the other episodes of the batch. Gradients of "
        "weights are sums over the batch: from three threads on, and more than 128 episodes, another number of threads "
        "may round them otherwise.",
        COMPILED,
        UNTESTED,
        bits,
        evidence=("tests/memories/test_sequence_batches.py::test_threads_and_neighbours_change_no_bit",),
    ),
)
