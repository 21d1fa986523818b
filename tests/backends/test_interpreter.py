"""Three sizes on Triton's interpreter, for ``make check``: a step whole and in tiles, and a scan.

They are not marked ``interpreter``, so that a kernel that is broken altogether is seen within a minute. All sizes are
in tests/triton.
"""

from __future__ import annotations

import pytest
import torch

from mannkern import functional
from mannkern.backends import BACKENDS, why_not
from tests.helpers import CASES, check_kernel, cotangents
from tests.helpers import arguments as draw
from tests.interpreter import cell

pytestmark = pytest.mark.skipif(
    bool(why_not(BACKENDS["triton"], "lrua", "cpu")), reason="Triton's interpreter is off, as beside a GPU"
)


def test_example() -> None:
    """Slot 1 has the smaller usage, so it is marked."""
    assert functional.least_used_mask(torch.tensor([[2.0, 1.0]]), 1, backend="triton").tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("case", "where"), [("step_strength", "whole"), ("step_per_head", "tiles"), ("scan_strength_per_head", "whole")]
)
def test_accuracy(case: str, where: str) -> None:
    shape = cell(case, where).shape
    check_kernel(CASES[case], draw(CASES[case], shape), cotangents(CASES[case], shape), "triton", shape.n)
