"""A MANN's episode as one operation: results and gradients, checkpoints, launches of a step, what is saved."""

from __future__ import annotations

import copy
import math
from collections import Counter
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from mannkern import MANN
from mannkern.backends import BACKENDS, Sizes
from mannkern.memories.lrua.ops import episode_recompute as operation
from mannkern.triton import controller, tiling
from mannkern.triton.launch import common
from mannkern.triton.launch import episode as launch
from tests.helpers import assert_accurate, assert_same, same, strided
from tests.memories.sequences import (
    OPTIONS,
    apply,
    assert_close,
    build,
    episode,
    evaluate,
    gradients,
    named,
    zero_interface,
)
from tests.triton.recorder import Recorder
from tests.triton.table import MANY, first_tiled

pytestmark = pytest.mark.usefixtures("nan_filled_allocations")

SMALL = (3, 5, 7, 4, 2)  # F, D, N, W, R


def mann(sizes: tuple[int, ...] = SMALL, dtype: torch.dtype = torch.float64, **options: Any) -> Any:
    return build(MANN, sizes, dtype, backend="triton", **options)


def check(model: Any, input: Tensor, state: Any) -> None:
    """Outputs, last state and all gradients in float64 are those of a loop over the reference."""
    with Recorder() as recorder:
        got = evaluate(model, "whole", input, state)
    assert {name: len(calls) for name, calls in recorder.calls.items()} == {
        "mann_episode": 1,
        "mann_episode_backward": 1,
    }
    assert_close(got, evaluate(model, "reference", input, state))


@torch.no_grad()
def test_example() -> None:
    """The example of tests/memories/test_sequence.py: two steps of a memory of two slots, by hand."""
    model = zero_interface(mann((3, 5, 2, 1, 1), memory_init=4.0))
    output, state = model(torch.randn(2, 1, 3, dtype=torch.float64))
    assert output[:, 0, 5].tolist() == [2, 2]
    assert state.memory.flatten().tolist() == [4, 0]
    assert state.usage.flatten().tolist() == pytest.approx([2.7201, 2.24])


@pytest.mark.parametrize(
    ("T", "B", "sizes"), [(1, 3, (3, 5, 7, 4, 1)), (2, 1, (3, 5, 7, 4, 4)), (5, 3, SMALL), (17, 1, (1, 2, 3, 2, 1))]
)
def test_steps_episodes_and_heads(T: int, B: int, sizes: tuple[int, ...]) -> None:
    """One step, two, and so many that there are checkpoints, with a last segment that is shorter than the others."""
    model = mann(sizes)
    check(model, *episode(model, T, B))


@pytest.mark.parametrize("name", OPTIONS[MANN])
def test_options(name: str) -> None:
    model = mann((3, 5, 8, 4, 2), **OPTIONS[MANN][name])
    check(model, *episode(model, 2, B=2))


LARGE = tiling.product_blocks(1, 1, torch.float64)  # its blocks of columns and chunks of terms


@pytest.mark.parametrize(
    ("sizes", "controller"),
    [
        ((1, 1, 1, 1, 1), "lstm"),
        ((7, 13, 33, 17, 3), "lstm"),
        ((2, 3, 3, 5, 4), "feedforward"),  # more heads than slots
        ((70, LARGE.BO + 1, 5, 3, 2), "feedforward"),  # several blocks of units, several chunks
        ((1, tiling.PRELOADED_CHUNKS * LARGE.S * LARGE.BK + 1, 2, 1, 1), "feedforward"),  # a long sum
    ],
)
def test_sizes(sizes: tuple[int, ...], controller: str) -> None:
    model = mann(sizes, controller=controller, key_strength=True)
    check(model, *episode(model, 2, B=1))


def test_long_sums_that_warps_share() -> None:
    """In float32, with more terms than are loaded at once, in the recurrent product's backward pass."""
    blocks = tiling.product_blocks(1, 1, torch.float32)
    D = tiling.PRELOADED_CHUNKS * blocks.S * blocks.BK // 4 + 1
    check_float32(mann((2, D, 2, 1, 1), torch.float32), T=1, B=1)


def test_many_least_used_slots() -> None:
    """So many that they are searched by bisection."""
    model = mann((3, 4, MANY + 3, 2, 2), num_least_used=MANY)
    check(model, *episode(model, 2, B=1))


@pytest.mark.parametrize("B", [LARGE.BB + 1, tiling.FEW_EPISODES + 1])
def test_blocks_of_episodes(B: int) -> None:
    """One episode more than a block of the products has, and than take small blocks."""
    check_float32(mann((2, 3, 2, 1, 1), torch.float32), T=1, B=B)


def test_accuracy_of_float32() -> None:
    check_float32(mann((7, 13, 33, 17, 3), torch.float32, key_strength=True), T=4, B=2)


def check_float32(model: Any, T: int, B: int) -> None:
    """The accuracy rule, for outputs, last state and all gradients."""
    input, state = episode(model, T, B)
    truth = evaluate(copy.deepcopy(model).double(), "reference", input.double(), apply(state, Tensor.double))
    assert truth["usage"].sort(-1).values.diff().min() > 1e-5  # rounding chose no slot
    assert_accurate(evaluate(model, "whole", input, state), truth, evaluate(model, "reference", input, state))


def test_no_episodes_and_no_steps() -> None:
    model = mann()
    output, last = model(torch.zeros(3, 0, 3, dtype=torch.float64))
    assert output.shape == (3, 0, model.output_size)
    assert last.memory.shape == (0, 7, 4)
    output.sum().backward()
    assert model(torch.zeros(0, 2, 3, dtype=torch.float64))[0].shape == (0, 2, model.output_size)


def test_strided_input_and_state() -> None:
    model = mann()
    input, state = episode(model, 3, B=2)
    got = evaluate(model, "whole", strided(input), apply(state, strided))
    assert_close(got, evaluate(model, "whole", input, state), 1e-14)


@pytest.mark.parametrize(
    ("used", "controller"),
    [(name, "lstm") for name in ("output", "memory", "read_weights", "usage", "h", "c", "read")]
    + [("output", "feedforward"), ("usage", "feedforward")],
)
def test_gradient_of_one_result(used: str, controller: str) -> None:
    model = mann((2, 3, 4, 2, 1), controller=controller)
    input, state = episode(model, 2, B=1)
    found = []
    for backend in ("triton", "reference"):
        model.cell.backend = backend
        x = input.clone().requires_grad_()
        leaves = {"input": x} | named(apply(state, lambda y: y.clone().requires_grad_()))
        first = type(state)(tuple(leaves[k] for k in "hc" if k in leaves), *[leaves[k] for k in state._fields[1:]])
        output, last = model(x, first)
        result = output if used == "output" else named(last)[used]
        found.append(gradients(result.square().sum(), leaves | dict(model.named_parameters())))
    assert_close(*found)


def test_an_input_without_a_gradient() -> None:
    """Its product is left out; the gradients of the parameters stay as they are."""
    model = mann()
    input, state = episode(model, 3, B=2)
    found = []
    for wanted in (False, True):
        with Recorder() as recorder:
            model(input.clone().requires_grad_(wanted), state)[0].square().sum().backward()
        assert len(recorder.calls["mann_episode_backward"][0].outputs[0]) == (3 if wanted else 0)
        found.append({name: p.grad.clone() for name, p in model.named_parameters()})
        model.zero_grad()
    assert_same(*found)


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


@pytest.mark.parametrize("controller", ["lstm", "feedforward"])
def test_launches_of_a_step(controller: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three a step forward and three backward; beside them, one for each segment that is computed again."""
    launched: Counter[str] = Counter()

    def run(kernel: Any, *args: Any, **constants: Any) -> None:
        launched[kernel.__name__] += 1
        common.run(kernel, *args, **constants)

    monkeypatch.setattr(launch, "run", run)
    model = mann(controller=controller)
    input, state = episode(model, 5, B=1)
    output, _ = model(input, state)
    name = "lstm" if controller == "lstm" else "layer"
    forward = {f"{name}_forward": 5, "interface_forward": 5, "mann_step": 5}
    assert launched == forward
    output.sum().backward()
    backward = {f"{name}_backward": 5, "output_backward": 5, "mann_step_backward": 5, "mann_recompute": 2}
    assert launched == forward | backward


def test_nothing_is_allocated_within_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """All steps launch with the same buffers: three times the steps, and no more tensors."""

    def buffers(T: int) -> int:
        seen: dict[int, Tensor] = {}  # they stay alive, so that no address is used again

        def run(kernel: Any, grid: Any, warps: int, *args: Any, **constants: Any) -> None:
            seen.update({x.untyped_storage().data_ptr(): x for x in args if isinstance(x, Tensor)})

        monkeypatch.setattr(launch, "run", run)
        model = mann()
        model(*episode(model, T, B=1))[0].sum().backward()
        return len(seen)

    assert buffers(5) == buffers(12)


def test_where_an_episode_is_one_operation() -> None:
    """Where a program holds the memory of an episode; a larger one takes the loop over the cell."""
    fuses, N = BACKENDS["triton"].fuses_episodes, first_tiled(40)
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
    tl.store(p_y + i, controller.tanh(tl.load(p_x + i), ACC))


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
