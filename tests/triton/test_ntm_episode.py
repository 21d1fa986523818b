"""An NTM's episode as one operation of the GPU, on the CPU: results, gradients, checkpoints, launches, what is saved.

The controller's kernels run in Triton's interpreter, those of the memory in the emulator of tests/cuda.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mannkern import NTM
from mannkern.backends import BACKENDS, Sizes
from mannkern.backends import cuda as backend_cuda
from mannkern.memories.ntm.ops import episode_recompute as operation
from mannkern.triton.launch import ntm_episode as launch
from tests.cuda import emulated
from tests.helpers import assert_accurate, assert_same, same
from tests.memories.ends import ends
from tests.memories.sequences import OPTIONS, apply, assert_close, build, episode, evaluate, named, zero_interface
from tests.triton.episodes import counted, needs_compiler, on_gpu, once
from tests.triton.episodes import kernels as kernels
from tests.triton.recorder import Recorder

pytestmark = [needs_compiler, pytest.mark.usefixtures("nan_filled_allocations", "kernels")]


def ntm(*arguments: Any, **options: Any) -> Any:
    return on_gpu(NTM, *arguments, **options)


@torch.no_grad()
def test_example() -> None:
    """The example of tests/memories/test_sequence.py, whose interface vector is zeros: it equals the CPU's."""
    model = zero_interface(ntm((3, 5, 2, 1, 1), memory_init=4.0))
    input = torch.randn(2, 1, 3, dtype=torch.float64)
    output, state = model(input)
    expected, last = zero_interface(build(NTM, (3, 5, 2, 1, 1), memory_init=4.0))(input)
    assert output[:, 0, 5].tolist() == pytest.approx(expected[:, 0, 5].tolist())
    assert state.memory.flatten().tolist() == pytest.approx(last.memory.flatten().tolist())


@pytest.mark.parametrize("controller", ["lstm", "feedforward"])
@pytest.mark.parametrize(
    ("T", "B", "sizes"),
    [
        (1, 3, (3, 5, 7, 4, 1)),
        (2, 1, (1, 1, 1, 1, 1)),
        (2, 1, (3, 5, 40, 150, 1)),  # more columns than threads
        (7, 3, (3, 5, 8, 4, 2)),
        (50, 1, (1, 2, 3, 2, 1)),
    ],
)
def test_steps_episodes_and_sizes(T: int, B: int, sizes: tuple[int, ...], controller: str) -> None:
    """Outputs, last state and all gradients in float64 are those of a loop over the reference."""
    model = ntm(sizes, controller=controller)
    input, state = episode(model, T, B)
    assert_close(once(model, input, state), evaluate(model, "reference", input, state))


@pytest.mark.parametrize("name", OPTIONS[NTM])
def test_options(name: str) -> None:
    model = ntm((3, 5, 8, 4, 5), **OPTIONS[NTM][name])
    input, state = episode(model, 2, B=1)
    assert_close(once(model, input, state), evaluate(model, "reference", input, state))


@pytest.mark.parametrize("sizes", [(7, 13, 33, 17, 3), (1, 2, 260, 3, 1)], ids=["warps", "a_block"])
def test_accuracy_of_float32(sizes: tuple[int, ...]) -> None:
    """The accuracy rule, where a warp works on a row and where a block does."""
    model = ntm(sizes, torch.float32, num_write_heads=2)
    input, state = episode(model, 3, B=1)
    double = copy.deepcopy(model).double()
    truth = evaluate(double, "reference", input.double(), apply(state, Tensor.double))
    assert_accurate(once(model, input, state), truth, evaluate(model, "reference", input, state))


@pytest.mark.parametrize("every", [1, 2])
def test_several_checkpoints(every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memories are computed again bit for bit: the number of steps between two checkpoints changes no bit."""
    model, given = ntm(dtype=torch.float32), ends("both", 4)
    input, state = episode(model, 4, B=7)
    run = lambda x, s: model(x, s, **given)  # noqa: E731
    found = []
    for steps in (4, every):
        for module in (launch, operation):
            monkeypatch.setattr(module, "checkpoint_every", lambda T, steps=steps: steps)
        x, leaves = input.clone().requires_grad_(), apply(state, lambda y: y.clone().requires_grad_())
        output, last = run(x, leaves)
        loss = output.square().sum() + last.memory.square().sum()
        every_leaf = {"input": x} | named(leaves) | dict(model.named_parameters())
        grads = torch.autograd.grad(loss, list(every_leaf.values()))
        found.append({"output": output.detach()} | dict(zip(every_leaf, grads)))
    assert_same(*found)


def test_without_a_gradient_nothing_is_saved_and_no_bit_changes() -> None:
    model = ntm(dtype=torch.float32)
    input, state = episode(model, 5, B=2)
    with Recorder() as recorder:
        output, last = model(input, state)
        with torch.no_grad():
            bare, bare_last = model(input, state)
    assert same(bare, output)
    assert all(same(x, named(last)[name].detach()) for name, x in named(bare_last).items())
    saved, nothing = (call.outputs[4:] for call in recorder.calls["ntm_episode"])
    every = math.ceil(math.sqrt(5))
    assert [len(x) for x in saved] == [5, 6, 6, 5, 5, -(-5 // every) - 1]
    assert not any(x.numel() for x in nothing)


@pytest.mark.parametrize("controller", ["lstm", "feedforward"])
def test_launches_of_a_step(controller: str) -> None:
    """Three a step forward and three backward; beside them, one for each segment that is computed again."""
    model = ntm(controller=controller)
    with counted() as launched:
        output, _ = model(*episode(model, 5, B=1))
        assert launched.total() == 3 * 5
        output.sum().backward()
    assert launched.total() == 3 * 5 + 3 * 5 + 2
    assert launched["ntm_recompute"] == 2


def test_nothing_is_allocated_within_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory's kernels write the same buffers at all steps, so that a longer episode takes no more."""
    seen: dict[int, Tensor] = {}  # they stay alive, so that no address is used again

    def note(call: Any) -> Any:
        def noted(*args: Any) -> None:
            seen.update({x.untyped_storage().data_ptr(): x for x in args if isinstance(x, Tensor)})
            call(*args)

        return noted

    for step in (launch.ntm_step, launch.ntm_step_backward, launch.ntm_recompute):
        monkeypatch.setitem(step, "default", note(step["default"]))

    def buffers(T: int) -> int:
        seen.clear()
        model = ntm()
        model(*episode(model, T, B=1))[0].sum().backward()
        return len(seen)

    assert buffers(5) == buffers(12)


def test_where_an_episode_is_one_operation() -> None:
    """Where the rows of the heads fit into the shared memory of a block, which the kernels' own sizes say too."""
    fuses = BACKENDS["cuda"].fused_episode
    for dtype, N in ((torch.float32, 1024), (torch.float64, 512)):
        assert fuses("ntm", Sizes(N, 20, 1), dtype)
        assert not fuses("ntm", Sizes(N + 1, 20, 1), dtype)
        for name in ("ntm_step", "ntm_step_backward"):
            for slots in (256, N):
                for W in (1, 20, 40, 300):
                    used = emulated.shared_memory(emulated.library(), name, dtype, slots, W, 8, 3, 4)
                    assert 0 < used <= 48 * 1024
    assert backend_cuda.BACKEND.episodes["ntm"].takes_lengths


@pytest.mark.parametrize("options", [{}, {"controller": "feedforward", "num_write_heads": 2}], ids=["plain", "layer"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_opcheck(options: dict[str, Any]) -> None:
    """The fakes have the shapes of the results, with and without optional arguments, as the module calls them."""
    model = ntm((1, 2, 3, 2, 2), torch.float32, memory_init="learned", **options)
    input, state = episode(model, 2, B=2)
    reset = torch.tensor([[True, False], [False, False]])
    with Recorder() as recorder:
        for wants_input, given in ((False, {}), (True, {"reset": reset, "lengths": [2, 1]})):
            model(input.clone().requires_grad_(wants_input), state, **given)[0].sum().backward()
        with torch.no_grad():
            model(input, state)
    calls = [(name, call) for name, calls in recorder.calls.items() for call in calls]
    assert len(calls) == 5
    for name, call in calls:
        overload = getattr(torch.ops.mannkern, name).recompute
        torch.library.opcheck(overload, call.args, test_utils=("test_schema", "test_faketensor"))


def test_second_derivatives() -> None:
    """Gradients are differentiated through the reference."""
    model = ntm((2, 3, 4, 2, 1))
    input, state = episode(model, 2, B=2)
    found = []
    for backend in ("cuda", "reference"):
        model.cell.backend = backend
        x = input.clone().requires_grad_()
        (d_x,) = torch.autograd.grad(model(x, state)[0].square().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(d_x.square().sum(), x)[0])
    torch.testing.assert_close(*found)
