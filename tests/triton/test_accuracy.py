"""The accuracy rule and the types of all results, for every cell of the table, against the reference in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mannkern import functional
from mannkern.memories.checks import compute_dtype
from tests.helpers import Tensors, arguments, assert_accurate, check_kernel, convert, cotangents, run_case, same
from tests.triton.recorder import Recorder
from tests.triton.table import CASES, CELLS, Cell

pytestmark = pytest.mark.usefixtures("nan_filled_allocations")


def test_example() -> None:
    """A read of slots (3, 4) and (1, 0) by key (1, 0): the cosines are 3/5 and 1, so at strength 5 ln 2 the weights are
    2^3 / 40 and 2^5 / 40."""
    memory, key = torch.tensor([[[3.0, 4], [1, 0]]]), torch.tensor([[[1.0, 0]]])
    strength = torch.full((1, 1), 5 * torch.tensor(2.0).log().item())
    read, weights = functional.cosine_read(memory, key, strength, backend="triton")
    torch.testing.assert_close(weights, torch.tensor([[[0.2, 0.8]]]))
    torch.testing.assert_close(read, torch.tensor([[[1.4, 0.8]]]))


@pytest.mark.parametrize("cell", CELLS, ids=[cell.name for cell in CELLS])
def test_cell(cell: Cell) -> None:
    """Kernels convert half precision on load, so that they read half the bytes: the operations get it as it is.

    Only the mask's usage is converted before, because a step's usage never has half precision.
    """
    case = CASES[cell.case]
    tensors = arguments(case, cell.shape, cell.dtype)
    computed = compute_dtype(torch.empty(0, dtype=cell.dtype))
    with Recorder() as recorder:
        if cell.gradient:
            got = check_kernel(case, tensors, cotangents(case, cell.shape, computed), "triton", cell.shape.n)
        else:
            got = check_forward(cell, tensors)
    for name, x in got.items():
        expected = tensors[name.removeprefix("grad ")].dtype if name.startswith("grad") else computed
        assert x.dtype == expected, name
    passed = [x.dtype for x in recorder.calls[case.operation.name][0].args if isinstance(x, Tensor)]
    assert passed == ([computed] if cell.case == "mask" else [x.dtype for x in tensors.values()])
    outputs = [x for calls in recorder.calls.values() for made in calls for x in made.outputs]
    assert {x.dtype for x in outputs} <= {cell.dtype, computed, torch.int8}


def check_forward(cell: Cell, tensors: Tensors) -> Tensors:
    """Without gradients results keep the accuracy rule, and the mask equals the reference's. Returns the results."""
    case = CASES[cell.case]
    with torch.no_grad():
        got = run_case(case, tensors, "triton", cell.shape.n)
        if cell.case == "mask":
            assert same(got["mask"], run_case(case, tensors, "reference", cell.shape.n)["mask"])
            assert (got["mask"].sum(-1) == cell.shape.n).all()
            return got
        truth, rounded = (
            run_case(case, convert(tensors, dtype), "reference", cell.shape.n)
            for dtype in (torch.float64, torch.float32)
        )
    assert_accurate(got, truth, rounded)
    return got
