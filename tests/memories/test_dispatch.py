"""The operations work under opcheck, with fake tensors, and in torch.compile and torch.export.

What is traced calls an operation whatever the instruction set, so that one is enough here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from mannkern import MANN, NTM
from tests.helpers import (
    CASES,
    EVERY_CASE,
    SHAPES,
    SMALL,
    Case,
    Shape,
    Tensors,
    arguments,
    assert_same,
    cotangents,
    evaluate,
    run_case,
)
from tests.interpreter import on_shapes
from tests.recorder import Call, Recorder


def test_example() -> None:
    """The operation of the usage: [1, 2] / 2 + [1, 0] + [0, 1] on the CPU, and a shape without values on "meta"."""
    arguments = torch.tensor([[1.0, 2]]), torch.tensor([[[1.0, 0]]]), torch.tensor([[[0.0, 1]]])
    assert torch.ops.mannkern.usage_update(*arguments, 0.5).tolist() == [[1.5, 2]]
    assert torch.ops.mannkern.usage_update(*(x.to("meta") for x in arguments), 0.5).shape == (1, 2)


# Warnings of PyTorch about itself: Dynamo makes a Function object to trace one, Inductor imports TorchScript
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*should not be instantiated:DeprecationWarning", "ignore:.torch.jit:DeprecationWarning"
)

ODD = {"odd": SHAPES["odd"]}
NTM_CASES = ["shift_sharpen", "ntm_address", "ntm_write"]
ONE_OF_EACH = on_shapes(
    ["write_reset", "read_strength", "usage", "step_strength", *NTM_CASES],
    ODD,
    ["whole"],
    reference=True,
    every_isa=False,
)
GPU_ALONE = {
    "mannkern::mann_persistent",
    "mannkern::mann_persistent_backward",
    "mannkern::ntm_step",
    "mannkern::ntm_step_backward",
    "mannkern::ntm_recompute",
}  # tests/cuda/test_persistent.py and tests/triton/test_ntm_episode.py have them
OPERATIONS = sorted(
    name.removeprefix("mannkern::")
    for name in torch._C._dispatch_get_all_op_names()
    if name.startswith("mannkern::") and "." not in name and name not in GPU_ALONE
)


@pytest.fixture(scope="module")
def calls() -> dict[str, list[Call]]:
    """Calls of every operation as the package makes them, with and without optional arguments."""
    recorder = Recorder()
    with recorder:
        for case in EVERY_CASE.values():
            tensors, gradients = arguments(case, SMALL), cotangents(case, SMALL)
            evaluate(case, tensors, gradients, "cpp", SMALL.n)
            evaluate(case, tensors, dict(list(gradients.items())[:1]), "cpp", SMALL.n)
        for module in (MANN, NTM):
            module(3, 4, 6, 5, 2, backend="cpp")(torch.randn(3, 2, 3))[0].sum().backward()
            module(3, 4, 6, 5, 2, backend="cpp").cell(torch.randn(2, 3))[0].sum().backward()
    return recorder.calls


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
def test_opcheck(calls: dict[str, list[Call]], operation: str) -> None:
    assert calls[operation], f"no test calls {operation}"
    seen = set()
    for call in calls[operation]:
        present = tuple(arg is None if isinstance(arg, Tensor | None) else arg for arg in call.args)
        if present in seen:
            continue
        seen.add(present)
        torch.library.opcheck(getattr(torch.ops.mannkern, operation).default, call.args)


def test_direct_calls_have_gradients() -> None:
    """Every overload of an operation with a backward operation, but of those that no exported program calls."""
    names = {name for name in torch._C._dispatch_get_all_op_names() if name.startswith("mannkern::")}
    operations = {name.partition(".")[0] for name in names}
    with_gradient = {name for name in operations if f"{name}_backward" in operations} - GPU_ALONE
    with_gradient -= {"mannkern::mann_cell", "mannkern::ntm_cell"}
    overloads = [name for name in names if name.partition(".")[0] in with_gradient]
    assert "mannkern::mann_episode.recompute" in overloads
    for name in overloads:
        assert torch._C._dispatch_has_kernel_for_dispatch_key(name, "Autograd"), name


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def with_gradients(function: Callable[..., Tensors], tensors: Tensors, gradients: Tensors) -> Tensors:
    """Outputs and gradients of any function of named tensors, as tests.helpers.evaluate returns them."""
    leaves = {name: x.detach().requires_grad_(x.is_floating_point()) for name, x in tensors.items()}
    outputs = function(leaves)
    wanted = {name: x for name, x in leaves.items() if x.requires_grad}
    got = torch.autograd.grad(list(outputs.values()), list(wanted.values()), list(gradients.values()))
    return {name: x.detach() for name, x in outputs.items()} | {f"grad {name}": x for name, x in zip(wanted, got)}


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
@on_shapes(
    ["write_reset", "read_strength", "usage", "step_strength", "step_per_head", *NTM_CASES],
    ODD,
    ["whole"],
    reference=True,
    every_isa=False,
)
def test_compile(case: str, shape: Shape, backend: str) -> None:
    tensors, gradients = arguments(CASES[case], shape), cotangents(CASES[case], shape)
    compiled = torch.compile(lambda t: run_case(CASES[case], t, backend), fullgraph=True, backend="aot_eager")
    expected = evaluate(CASES[case], tensors, gradients, backend)
    assert_same(with_gradients(compiled, tensors, gradients), expected)


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
@ONE_OF_EACH
def test_compile_without_gradients(case: str, shape: Shape, backend: str) -> None:
    """Dynamo traces a Function in another way where no argument requires a gradient, and under no_grad."""
    tensors = arguments(CASES[case], shape)
    compiled = torch.compile(lambda t: run_case(CASES[case], t, backend), fullgraph=True, backend="aot_eager")
    expected = run_case(CASES[case], tensors, backend)
    assert_same(compiled(tensors), expected)
    with torch.no_grad():
        leaves = {name: x.clone().requires_grad_(x.is_floating_point()) for name, x in tensors.items()}
        assert_same(compiled(leaves), expected)


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
@on_shapes(["step"], ODD, ["whole"], reference=True, every_isa=False)
def test_compile_where_the_key_is_written(case: str, shape: Shape, backend: str) -> None:
    """The paper's step passes one tensor as key and as add."""
    tensors, gradients = arguments(CASES["step"], shape), cotangents(CASES["step"], shape)
    del tensors["add"]

    def step(t: Tensors) -> Tensors:
        return run_case(CASES["step"], t | {"add": t["key"]}, backend)

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    assert_same(with_gradients(compiled, tensors, gradients), with_gradients(step, tensors, gradients))


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
def test_compile_with_any_batch() -> None:
    case = CASES["step_strength"]
    compiled = torch.compile(lambda t: run_case(case, t, "cpp"), fullgraph=True, backend="aot_eager", dynamic=True)
    for B in (2, 5, 7):
        shape = SHAPES["odd"]._replace(B=B)
        tensors, gradients = arguments(case, shape), cotangents(case, shape)
        assert_same(with_gradients(compiled, tensors, gradients), evaluate(case, tensors, gradients, "cpp"))


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
def test_compile_by_inductor() -> None:
    case, shape = CASES["step_strength"], SHAPES["odd"]
    compiled = torch.compile(lambda t: run_case(case, t, "cpp"), fullgraph=True)
    tensors, gradients = arguments(case, shape), cotangents(case, shape)
    assert_same(with_gradients(compiled, tensors, gradients), evaluate(case, tensors, gradients, "cpp"))


class Module(torch.nn.Module):
    def __init__(self, case: Case, backend: str | None) -> None:
        super().__init__()
        self.case, self.backend = case, backend

    def forward(self, tensors: Tensors) -> Tensors:
        return run_case(self.case, tensors, self.backend)


@pytest.mark.slow
@pytest.mark.parametrize("strict", [False, True])
@ONE_OF_EACH
def test_export(case: str, shape: Shape, backend: str, strict: bool) -> None:
    module = Module(CASES[case], backend)
    tensors = arguments(CASES[case], shape)
    batch = {name: {0: torch.export.Dim("B")} for name in tensors}
    program = torch.export.export(module, (tensors,), dynamic_shapes=(batch,), strict=strict)
    for B in (3, 6):
        tensors = arguments(CASES[case], shape._replace(B=B))
        gradients = cotangents(CASES[case], shape._replace(B=B))
        assert_same(
            with_gradients(program.module(), tensors, gradients), evaluate(CASES[case], tensors, gradients, backend)
        )


@pytest.mark.slow
def test_export_with_any_memory() -> None:
    """n = min(R, N) is a number that torch.export does not know yet."""
    module = Module(CASES["step"], "cpp")
    tensors = arguments(CASES["step"], SHAPES["odd"])
    axes = {name: dict.fromkeys(range(x.dim()), torch.export.Dim.AUTO) for name, x in tensors.items()}
    program = torch.export.export(module, (tensors,), dynamic_shapes=(axes,))
    tensors = arguments(CASES["step"], SHAPES["odd"]._replace(N=50, W=6))
    assert_same(program.module()(tensors), module(tensors))


@on_shapes(CASES, ODD, ["whole"], reference=True, every_isa=False)
def test_fake_tensors(case: str, shape: Shape, backend: str) -> None:
    for dtype in (torch.float32, torch.float64):
        tensors = arguments(CASES[case], shape, dtype)
        gradients = cotangents(CASES[case], shape, dtype)
        real = evaluate(CASES[case], tensors, gradients, backend)
        with FakeTensorMode() as mode:
            fake_tensors, fake_gradients = (
                {k: mode.from_tensor(x) for k, x in t.items()} for t in (tensors, gradients)
            )
            fake = with_gradients(lambda t: run_case(CASES[case], t, backend), fake_tensors, fake_gradients)
        for name, x in real.items():
            expected, got = ((y.shape, y.dtype, y.device.type, y.stride()) for y in (x, fake[name]))
            assert got == expected or (name.startswith("grad") and got[:3] == expected[:3]), name
