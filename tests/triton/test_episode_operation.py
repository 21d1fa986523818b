"""What a MANN's episode as one operation does beside its results: checkpoints, launches, what is saved, its fakes."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from mannkern.backends import BACKENDS, Sizes
from mannkern.memories.lrua.ops import episode_recompute as operation
from mannkern.triton import activations, tiling
from mannkern.triton.launch import common
from mannkern.triton.launch import controller as launch_controller
from mannkern.triton.launch import episode as launch
from tests.helpers import assert_same, same, strided
from tests.memories.sequences import apply, episode, evaluate, named
from tests.triton.episodes import mann
from tests.triton.recorder import Recorder
from tests.triton.table import first_tiled

pytestmark = pytest.mark.usefixtures("nan_filled_allocations")


def test_example() -> None:
    """An episode of one step is three launches forward, and four backward: one computes the memory again."""
    assert launches(T=1) == (3, 7)


@pytest.mark.parametrize("every", [1, 2])
def test_several_checkpoints(every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memories are computed again bit for bit: the number of steps between two checkpoints changes no bit."""
    model = mann(dtype=torch.float32)
    input, state = episode(model, 5, B=2)
    for module in (launch, operation):
        monkeypatch.setattr(module, "checkpoint_every", lambda T: T)
    expected = evaluate(model, "whole", input, state)
    for module in (launch, operation):
        monkeypatch.setattr(module, "checkpoint_every", lambda T: every)
    assert_same(evaluate(model, "whole", input, state), expected)


def test_without_a_gradient_nothing_is_saved_and_no_bit_changes() -> None:
    model = mann(dtype=torch.float32)
    input, state = episode(model, 5, B=2)
    with Recorder() as recorder:
        output, last = model(input, state)
        with torch.no_grad():
            bare, bare_last = model(input, state)
    assert same(bare, output)
    assert all(same(x, named(last)[name].detach()) for name, x in named(bare_last).items())
    saved, nothing = (call.outputs[5:] for call in recorder.calls["mann_episode"])
    every = math.ceil(math.sqrt(5))
    assert [len(x) for x in saved] == [5, 6, 6, 5, 5, -(-5 // every) - 1]
    assert not any(x.numel() for x in nothing)


@pytest.mark.parametrize("T", [1, 2, 5, 9])
@pytest.mark.parametrize("last", ["with a gradient", "without"])
def test_a_step_backward_never_follows_what_makes_its_memories(
    T: int, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It loads the memories before its turn, beside the kernel before it where kernels start early (sm_90)."""
    model = mann()
    output, state = model(*episode(model, T, B=2))
    loss = output.sum() + (state.read_weights.sum() if last == "with a gradient" else 0)
    launched: list[str] = []

    def run(kernel: Any, *args: Any, **constants: Any) -> None:
        launched.append(kernel.__name__)
        common.run(kernel, *args, **constants)

    def start(*args: Any) -> Tensor:  # fills or copies a tensor, which is a launch of PyTorch
        launched.append("start")
        return launch_controller.start(*args)

    monkeypatch.setattr(launch, "start", start)
    for module in (launch, launch_controller):
        monkeypatch.setattr(module, "run", run)
    loss.backward()
    after = [then for name, then in pairwise(launched) if name == "mann_recompute"]
    assert after
    assert "mann_step_backward" not in after


def launches(T: int, controller: str = "lstm") -> tuple[int, int]:
    """Launches of an episode forward, and forward and backward."""
    launched: Counter[str] = Counter()

    def run(kernel: Any, *args: Any, **constants: Any) -> None:
        launched[kernel.__name__] += 1
        common.run(kernel, *args, **constants)

    with pytest.MonkeyPatch.context() as patch:
        for module in (launch, launch_controller):
            patch.setattr(module, "run", run)
        model = mann(controller=controller)
        output, _ = model(*episode(model, T, B=1))
        forward = launched.total()
        output.sum().backward()
    return forward, launched.total()


@pytest.mark.parametrize("controller", ["lstm", "feedforward"])
def test_launches_of_a_step(controller: str) -> None:
    """Three a step forward and three backward; beside them, one for each segment that is computed again."""
    assert launches(5, controller) == (3 * 5, 3 * 5 + 3 * 5 + 2)


def test_nothing_is_allocated_within_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """All steps launch with the same buffers, so that a longer episode takes no more; all are aligned."""

    def buffers(T: int) -> int:
        seen: dict[int, Tensor] = {}  # they stay alive, so that no address is used again

        def run(kernel: Any, grid: Any, warps: int, *args: Any, **constants: Any) -> None:
            tensors = [x for x in args if isinstance(x, Tensor)]
            assert all(x.is_contiguous() and x.data_ptr() % 16 == 0 for x in tensors)
            seen.update({x.untyped_storage().data_ptr(): x for x in tensors})

        for module in (launch, launch_controller):
            monkeypatch.setattr(module, "run", run)
        model = mann()
        input, state = episode(model, T, B=1)
        model(strided(input), apply(state, strided))[0].sum().backward()
        return len(seen)

    assert buffers(5) == buffers(12)


def test_where_an_episode_is_one_operation() -> None:
    """Where a program holds the memory of an episode; a larger one takes the loop over the cell."""
    fuses, N = BACKENDS["triton"].fused_episode, first_tiled(40)
    assert fuses("lrua", Sizes(N - 1, 40, 4), torch.float32)
    assert not fuses("lrua", Sizes(N, 40, 4), torch.float32)
    assert not fuses("lrua", Sizes(N - 1, 40, 4), torch.float64)
    assert not fuses("lrua", Sizes(1, 1, tiling.MAX_HEADS + 1), torch.float32)
    assert not fuses("ntm", Sizes(8, 4, 2), torch.float32)


def test_a_memory_in_tiles_takes_the_loop() -> None:
    model = mann((1, 2, first_tiled(300, torch.float64), 300, 1))
    with Recorder() as recorder, torch.no_grad():
        model(torch.zeros(2, 1, 1, dtype=torch.float64))
    assert {name: len(calls) for name, calls in recorder.calls.items()} == {"lrua_step": 2}


@triton.jit
def tanh_kernel(p_x, p_y, BLOCK: tl.constexpr, ACC: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(p_y + i, activations.tanh(tl.load(p_x + i), ACC))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tanh(dtype: torch.dtype) -> None:
    """Within a few roundings of torch's, also near 0, at the border of its two formulas, and where it is 1."""
    x = torch.cat([torch.linspace(-1, 1, 2001), torch.logspace(-30, 2, 2001), torch.tensor([0.0, -1e30])]).to(dtype)
    x = torch.cat([x, -x, x.new_zeros(8192 - 2 * len(x))])
    y = torch.empty_like(x)
    common.run(tanh_kernel, (1,), 4, x, y, BLOCK=8192, ACC=common.triton_dtype(dtype))
    torch.testing.assert_close(y, torch.tanh(x.double()).to(dtype), rtol=4 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize(
    ("T", "options"),
    [(1, {}), (2, {"controller": "feedforward"}), (2, {"key_strength": True, "least_used": "per_head"})],
    ids=["plain", "layer", "most"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_opcheck(T: int, options: dict[str, Any]) -> None:
    """The fakes have the shapes of the results, with and without optional arguments, as the module calls them."""
    model = mann((1, 2, 3, 2, 2), torch.float32, **options)
    input, state = episode(model, T, B=1)
    with Recorder() as recorder:
        for wants_input, whole in ((False, False), (True, True)):
            output, last = model(input.clone().requires_grad_(wants_input), state)
            results = named(last) | {"output": output} if whole else {"memory": last.memory}
            sum(x.square().sum() for x in results.values()).backward()
        with torch.no_grad():
            model(input, state)
    calls = [(name, call) for name, calls in recorder.calls.items() for call in calls]
    assert len(calls) == 5
    for name, call in calls:
        overload = getattr(torch.ops.mannkern, name).recompute
        torch.library.opcheck(overload, call.args, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.filterwarnings("ignore")  # what torch's tracing warns of itself
def test_under_torch_compile() -> None:
    torch._dynamo.reset()
    model = mann()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    input, state = episode(model, 3, B=2)
    output, last = compiled(input, state)
    expected, expected_last = model(input, state)
    assert same(output, expected)
    assert same(last.memory, expected_last.memory)
    parameters = list(model.parameters())
    for x, y in zip(*(torch.autograd.grad(z.square().sum(), parameters) for z in (output, expected)), strict=True):
        torch.testing.assert_close(x, y)
