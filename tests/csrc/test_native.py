"""Inputs that the compiled operations refuse themselves: a compiled graph calls them without the functional checks."""

import re

import pytest
import torch

from mannkern import functional


def test_example() -> None:
    """Slot 1 is set to zero, then slots get 1/2 and 1/4 of 4: 1 + 2 = 3 and 0 + 1 = 1."""
    memory, weights, add = torch.tensor([[[1.0], [2]]]), torch.tensor([[[0.5, 0.25]]]), torch.tensor([[[4.0]]])
    assert torch.ops.mannkern.additive_write(memory, weights, add, torch.tensor([1])).tolist() == [[[3], [1]]]


MEMORY, WEIGHTS, ADD = torch.randn(2, 3, 4), torch.rand(2, 1, 3), torch.randn(2, 1, 4)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # raised by torch's tracing
@pytest.mark.parametrize("slot", [-1, 3, 2**40])
def test_a_slot_out_of_range_is_never_written(slot: int) -> None:
    reset = torch.tensor([0, slot])
    with pytest.raises(RuntimeError, match=f"reset: got slot {slot}, need 0 to N - 1 = 2"):
        torch.ops.mannkern.additive_write(MEMORY, WEIGHTS, ADD, reset)
    with pytest.raises(RuntimeError, match=f"reset: got slot {slot}, need 0 to N - 1 = 2"):
        torch.ops.mannkern.additive_write_backward(MEMORY, WEIGHTS, ADD, reset)
    compiled = torch.compile(functional.additive_write, backend="aot_eager", fullgraph=True)
    with pytest.raises(RuntimeError, match=f"reset: got slot {slot}, need 0 to N - 1 = 2"):
        compiled(MEMORY, WEIGHTS, ADD, reset, backend="cpp")


def test_other_shapes_and_dtypes_are_never_read() -> None:
    with pytest.raises(RuntimeError, match="write_weights: got float64, need float32"):
        torch.ops.mannkern.additive_write(MEMORY, WEIGHTS.double(), ADD, None)
    with pytest.raises(RuntimeError, match=re.escape("write_weights: got shape [2, 1, 2], need [2, 1, 3]")):
        torch.ops.mannkern.additive_write(MEMORY, WEIGHTS[..., :2], ADD, None)
    with pytest.raises(RuntimeError, match="only B may be 0"):
        torch.ops.mannkern.additive_write(MEMORY[:, :0], WEIGHTS[..., :0], ADD, None)
    with pytest.raises(RuntimeError, match="n: got 4, need 1 to 3"):
        torch.ops.mannkern.least_used_mask(MEMORY[..., 0], 4)


ROW, SHIFT, ONE = torch.rand(2, 1, 3), torch.rand(2, 1, 3), torch.ones(2, 1)


def test_the_ntm_refuses_an_even_number_of_shifts_and_other_shapes() -> None:
    ops = torch.ops.mannkern
    with pytest.raises(RuntimeError, match="with S odd"):
        ops.shift_sharpen(ROW, SHIFT[..., :2], ONE)
    with pytest.raises(RuntimeError, match="with S odd"):
        ops.ntm_address(MEMORY, ROW, ADD, ONE, ONE, SHIFT[..., :2], ONE)
    with pytest.raises(RuntimeError, match="shift: got float64, need float32"):
        ops.shift_sharpen(ROW, SHIFT.double(), ONE)
    with pytest.raises(RuntimeError, match="only B may be 0"):
        ops.shift_sharpen(ROW[..., :0], SHIFT, ONE)
    with pytest.raises(RuntimeError, match=re.escape("weights: got shape [2, 1, 3], need [2, 2, 3]")):
        ops.ntm_write(MEMORY, ROW, ADD.repeat(1, 2, 1), ADD.repeat(1, 2, 1))
