"""In half precision and under autocast a cell's memory stays float32; the rest has the dtype of the parameters."""

import pytest
import torch
from torch import Tensor

from mannkern import MANN, MANNCell, MANNState, functional
from tests.interpreter import interpreted
from tests.triton.recorder import Recorder


def test_example() -> None:
    """1 + 2^-9: bfloat16 would round it to 1, but the memory that comes back is float32."""
    one = torch.ones(1, 1, 1, dtype=torch.bfloat16)
    memory = functional.additive_write(one, one, 2**-9 * one)
    assert memory.dtype == torch.float32
    assert memory.item() == 1 + 2**-9


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("memory_init", [1e-6, "uniform", "learned"])
def test_half_precision_modules_run_with_a_float32_memory(dtype: torch.dtype, memory_init: float | str) -> None:
    torch.manual_seed(0)
    mann = MANN(5, 8, 7, 4, 2, memory_init=memory_init).to(dtype)
    inputs = torch.randn(3, 2, 5, dtype=dtype)
    outputs, state = mann(inputs)
    outputs, state = mann(inputs, state)
    assert outputs.dtype == state.controller[0].dtype == dtype
    assert {x.dtype for x in state[1:]} == {torch.float32}
    outputs.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == dtype and p.grad.isfinite().all() for p in mann.parameters())

    wide = MANN(5, 8, 7, 4, 2, memory_init=memory_init)
    wide.load_state_dict(mann.state_dict(), strict=False)
    expected, _ = wide(inputs.float(), wide(inputs.float())[1])
    torch.testing.assert_close(outputs.float(), expected, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("backend", ["reference", "cpp"])
def test_autocast_keeps_a_float32_memory(backend: str) -> None:
    torch.manual_seed(0)
    mann = MANN(5, 8, 7, 4, 2, backend=backend)
    inputs = torch.randn(3, 2, 5)
    with torch.autocast("cpu", torch.bfloat16):
        outputs, state = mann(inputs)
        outputs, state = mann(inputs, state)
    assert {x.dtype for x in state[1:]} == {torch.float32}
    torch.testing.assert_close(outputs.float(), mann(inputs, mann(inputs)[1])[0], rtol=0.05, atol=0.02)
    outputs.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in mann.parameters())


@interpreted
@pytest.mark.parametrize("key_strength", [False, True])
def test_autocast_of_triton_keeps_a_float32_state(key_strength: bool) -> None:
    """The kernels get keys, adds, gates and strengths in bfloat16, and outputs are near those without autocast."""
    torch.manual_seed(0)
    cell = MANNCell(5, 8, 7, 4, 2, key_strength=key_strength, backend="triton")
    inputs = torch.randn(3, 2, 5)

    def run() -> tuple[Tensor, MANNState, list[Tensor]]:
        state, outputs = None, []
        for x in inputs:
            output, state = cell(x, state)
            outputs.append(output.float())
        results = torch.stack(outputs)
        return results, state, list(torch.autograd.grad(results.sum(), list(cell.parameters())))

    with torch.autocast("cpu", torch.bfloat16), Recorder() as recorder:
        outputs, state, gradients = run()
    interface = [x for step in recorder.calls["lrua_step"] for x in step.args[3:7] if isinstance(x, Tensor)]
    assert {x.dtype for x in interface} == {torch.bfloat16}
    assert {x.dtype for x in state[1:]} == {torch.float32}
    assert all(x.dtype == torch.float32 and x.isfinite().all() for x in gradients)
    expected, expected_state, expected_gradients = run()
    torch.testing.assert_close(outputs, expected, rtol=0.05, atol=0.02)
    torch.testing.assert_close(state.memory, expected_state.memory, rtol=0.05, atol=0.02)
    for got, wanted in zip(gradients, expected_gradients):
        assert (got - wanted).norm() <= 0.05 * wanted.norm() + 1e-3


@interpreted
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_module_on_triton(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    mann = MANN(5, 8, 7, 4, 2, backend="triton").to(dtype)
    outputs, state = mann(torch.randn(3, 2, 5, dtype=dtype))
    assert outputs.dtype == state.controller[0].dtype == dtype
    assert {x.dtype for x in state[1:]} == {torch.float32}
    outputs.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == dtype and p.grad.isfinite().all() for p in mann.parameters())


@pytest.mark.parametrize(
    ("argument", "value"),
    [("dtype", torch.int64), ("key_strength", "yes"), ("decay", True), ("memory_init", float("nan"))],
)
def test_arguments_that_are_no_option_are_named(argument: str, value: object) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{argument}: got "):
        MANNCell(5, 8, **{argument: value})  # type: ignore[arg-type]
