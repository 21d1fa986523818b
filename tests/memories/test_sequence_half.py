"""MANN and NTM in half precision and under autocast: the compiled loop, in float32, with the dtypes of a loop.

Some machines have products in bfloat16, which are tested in test_bfloat16.py; here none has.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from mannkern import MANN
from mannkern.backends import native
from tests.helpers import same
from tests.interpreter import interpreted
from tests.memories.sequences import BOTH, Sequence, apply, build, episode, loop, named, zero_interface

CONTROLLERS = pytest.mark.parametrize("controller", ["lstm", "feedforward"])
HALF = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])


@pytest.fixture(autouse=True)
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "multiplies_bfloat16", False)


@torch.no_grad()
def test_example() -> None:
    """1 + 2^-9, which bfloat16 rounds to 1: the memory keeps it, the output does not."""
    mann = zero_interface(MANN(3, 5, 2, 1, 1)).bfloat16()
    state = mann.initial_state(1)._replace(memory=torch.full((1, 2, 1), 1 + 2**-9))
    output, state = mann(torch.randn(1, 1, 3, dtype=torch.bfloat16), state)
    assert state.memory[0, 0].item() == 1 + 2**-9
    assert output.dtype == torch.bfloat16


def dtypes(output: Tensor, state: Any) -> dict[str, torch.dtype]:
    return {name: x.dtype for name, x in {"output": output, **named(state)}.items()}


@BOTH
@HALF
@CONTROLLERS
def test_half_precision_modules(module: type[Sequence], dtype: torch.dtype, controller: str) -> None:
    """Results are those of a float32 module with the same values, rounded; so are gradients."""
    model = build(module, dtype=torch.float32, controller=controller).to(dtype)
    wide = build(module, dtype=torch.float32, controller=controller)
    wide.load_state_dict(model.state_dict())
    input, state = episode(wide, 5, B=3)
    half_input = input.to(dtype).requires_grad_()
    half_state = state._replace(controller=tuple(x.to(dtype) for x in state.controller))
    output, last = model(half_input, half_state)
    assert dtypes(output, last) == dtypes(*loop(model, half_input, half_state))
    wide_input = half_input.detach().float().requires_grad_()
    expected, expected_last = wide(wide_input, apply(half_state, Tensor.float))
    assert same(output, expected.to(dtype))
    assert all(same(x, named(expected_last)[name].to(x.dtype)) for name, x in named(last).items())
    output.sum().backward()
    expected.sum().backward()
    assert same(half_input.grad, wide_input.grad.to(dtype))
    for p, q in zip(model.parameters(), wide.parameters(), strict=True):
        assert p.grad.dtype == dtype
        torch.testing.assert_close(p.grad.float(), q.grad, rtol=0.02, atol=0.02 * float(q.grad.abs().max()))


@BOTH
@HALF
@CONTROLLERS
def test_autocast(module: type[Sequence], dtype: torch.dtype, controller: str) -> None:
    """Under autocast the compiled loop computes in float32, so that its results are those without, rounded."""
    model = build(module, dtype=torch.float32, controller=controller)
    input, state = episode(model, 5, B=3)
    with torch.autocast("cpu", dtype):
        output, last = model(input, state)
        again, _ = model(input.to(dtype), last)
        looped = loop(model, input, state)
        output.sum().backward()
    assert dtypes(output, last) == dtypes(*looped)
    assert again.dtype == output.dtype
    got = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    expected, _ = model(input, state)
    assert same(output, expected.to(output.dtype))
    expected.sum().backward()
    assert all(same(got[name], p.grad) for name, p in model.named_parameters())


@BOTH
def test_autocast_leaves_float64(module: type[Sequence]) -> None:
    model = build(module, controller="feedforward")
    input, state = episode(model, 3, B=2)
    with torch.autocast("cpu", torch.bfloat16):
        output, last = model(input, state)
    assert set(dtypes(output, last).values()) == {torch.float64}
    assert same(output, model(input, state)[0])


@BOTH
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float64, torch.complex64])
def test_autocast_takes_no_other_type(module: type[Sequence], dtype: torch.dtype) -> None:
    """As without it: an integer is no input, and a complex number would lose a part."""
    model = build(module, dtype=torch.float32)
    input = torch.ones(3, 2, model.cell.input_size, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        for call in (lambda: model(input), lambda: model.cell(input[0])):
            with pytest.raises(TypeError, match=rf"^input: got {dtype}, need torch.float32, the module's"):
                call()


WRONG = "input: got {input}, need {module}, the module's"
OTHER = "module: got {module} under autocast, need torch.float32, torch.bfloat16 or torch.float64"


@BOTH
@CONTROLLERS
@pytest.mark.parametrize("backend", ["cpp", "reference"])
@pytest.mark.parametrize(
    ("of_module", "of_input", "message"),
    [
        (torch.float32, torch.float16, WRONG),
        (torch.float64, torch.float32, WRONG),
        (torch.float64, torch.bfloat16, WRONG),
        (torch.float16, torch.float16, OTHER),
        (torch.float16, torch.float32, OTHER),
    ],
)
def test_autocast_takes_what_its_operations_take(
    module: type[Sequence], controller: str, backend: str, of_module: torch.dtype, of_input: torch.dtype, message: str
) -> None:
    """One operation of autocast takes float32 and its own half precision; float64 stays as it is."""
    model = module(3, 5, 8, 4, controller=controller, backend=backend, dtype=of_module)
    input = torch.ones(3, 2, 3, dtype=of_input)
    expected = "^" + re.escape(message.format(input=of_input, module=of_module))
    with torch.autocast("cpu", torch.bfloat16):
        for call in (lambda: model(input), lambda: model.cell(input[0])):
            with pytest.raises(TypeError, match=expected):
                call()


@pytest.mark.slow
@BOTH
@pytest.mark.filterwarnings("ignore")  # what torch's tracing warns of itself
def test_autocast_under_torch_compile(module: type[Sequence]) -> None:
    torch._dynamo.reset()
    model = build(module, dtype=torch.float32, controller="feedforward")
    input, state = episode(model, 3, B=2)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        assert same(compiled(input, state)[0], model(input, state)[0])


@interpreted
def test_triton() -> None:
    """The same on Triton, with a backward pass under autocast."""
    model = build(MANN, (2, 3, 4, 2, 1), torch.float32, controller="feedforward", backend="triton")
    input, state = episode(model, 2, B=1)
    results = []
    for enabled in (True, False):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output, _ = model(input, state)
            output.float().square().sum().backward()
        results.append((output, {name: p.grad.clone() for name, p in model.named_parameters()}))
    (half, got), (wide, expected) = results
    assert same(half, wide.bfloat16())
    for name, x in expected.items():
        torch.testing.assert_close(got[name], x, rtol=0.02, atol=0.02 * float(x.abs().max()))
