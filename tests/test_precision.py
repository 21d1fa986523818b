"""Half precision and autocast around the cell: the memory stays float32, the rest follows the parameters."""

import pytest
import torch

from mannkern import MANN, MANNCell


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


def test_autocast_keeps_a_float32_memory() -> None:
    torch.manual_seed(0)
    mann = MANN(5, 8, 7, 4, 2)
    inputs = torch.randn(3, 2, 5)
    with torch.autocast("cpu", torch.bfloat16):
        outputs, state = mann(inputs)
        outputs, state = mann(inputs, state)
    assert state.memory.dtype == torch.float32
    torch.testing.assert_close(outputs.float(), mann(inputs, mann(inputs)[1])[0], rtol=0.05, atol=0.02)
    outputs.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in mann.parameters())


@pytest.mark.parametrize(
    ("argument", "value"),
    [("dtype", torch.int64), ("key_strength", "yes"), ("decay", True), ("memory_init", float("nan"))],
)
def test_arguments_that_are_no_option_are_named(argument: str, value: object) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{argument}: got "):
        MANNCell(5, 8, **{argument: value})  # type: ignore[arg-type]
