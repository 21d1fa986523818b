"""The mathematics of blocks, which a kernel made for these tests calls."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from mannkern.triton.block_math import norm, sigmoid, sum_products


@triton.jit
def row_kernel(p_x, p_y, p_out, W: tl.constexpr):
    i_w = tl.arange(0, W)
    x, y = tl.load(p_x + i_w), tl.load(p_y + i_w)
    tl.store(p_out, norm((x,), tl.float32))
    tl.store(p_out + 1, sum_products((x,), (y,), tl.float32))
    tl.store(p_out + 2, sum_products((x, x), (y, y), tl.float32))
    tl.store(p_out + 3 + i_w, sigmoid(x))


def rows(x: list[float], y: list[float]) -> list[float]:
    """The norm of x, x . y, the dot product of rows of two parts (x, x) and (y, y), and the sigmoid of each x."""
    out = torch.empty(3 + len(x))
    row_kernel[(1,)](torch.tensor(x), torch.tensor(y), out, len(x))
    return out.tolist()


def test_example() -> None:
    """|(3, 4)| = 5 and (3, 4) . (1, 2) = 3 + 8 = 11; rows of two such parts have the dot product 22."""
    assert rows([3.0, 4.0], [1.0, 2.0])[:3] == [5, 11, 22]


@pytest.mark.parametrize(
    ("x", "expected"), [([3.0, 4.0], 5.0), ([0.0, 0.0], 1e-8), ([3e30, 4e30], 5e30), ([3e-9, 4e-9], 1e-8)]
)
def test_norm(x: list[float], expected: float) -> None:
    """The norm is at least eps, and finite where the squares overflow."""
    assert rows(x, [0.0, 0.0])[0] == pytest.approx(expected)


def test_sigmoid() -> None:
    assert rows([0.0, 1e4, -1e4, -80.0], [0.0] * 4)[3:] == [0.5, 1, 0, pytest.approx(1.8e-35, rel=0.01)]
