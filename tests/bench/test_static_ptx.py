"""The search for fused products in PTX, on programs written by hand."""

from __future__ import annotations

import pytest

from bench.static_ptx import asymmetric_sums, unrounded

SUM = """
    mul.rn.f32  %r3, %r1, %r2;
    shfl.sync.bfly.b32  %r4, %r3, 1, 31, -1;
    {last}
"""
SUM_OF_FLOAT64 = """
    mul.rn.f64  %rd3, %rd1, %rd2;
    mov.b64  {{%r5, %r6}}, %rd3;
    shfl.sync.bfly.b32  %r7|%p1, %r5, 1, 31, -1;
    shfl.sync.bfly.b32  %r8|%p2, %r6, 1, 31, -1;
    mov.b64  %rd4, {{%r7, %r8}};
    {last}
"""


def test_example() -> None:
    """x y + (the partner's x y): a lane that rounds only its partner's product gets other bits than the partner."""
    fused = "fma.rn.f32  %r5, %r1, %r2, %r4;"
    assert asymmetric_sums(SUM.format(last=fused)) == [fused]
    assert asymmetric_sums(SUM.format(last="add.rn.f32  %r5, %r3, %r4;")) == []


def test_of_float64() -> None:
    """A float64 passes lanes in two halves."""
    fused = "@%p3 fma.rn.f64  %rd5, %rd1, %rd2, %rd4;"
    assert asymmetric_sums(SUM_OF_FLOAT64.format(last=fused)) == [fused]
    assert asymmetric_sums(SUM_OF_FLOAT64.format(last="add.rn.f64  %rd5, %rd3, %rd4;")) == []


def test_of_pairs() -> None:
    """From sm_100 on, a pair of float32 is multiplied and added at once, and passes lanes in two halves."""
    text = SUM_OF_FLOAT64.replace(".f64", ".f32x2")
    fused = "fma.rn.f32x2  %rd5, %rd1, %rd2, %rd4;"
    assert asymmetric_sums(text.format(last=fused)) == [fused]
    assert asymmetric_sums(text.format(last="add.rn.f32x2  %rd5, %rd3, %rd4;")) == []
    assert unrounded(text.format(last="add.f32x2  %rd5, %rd3, %rd4;")) == ["add.f32x2  %rd5, %rd3, %rd4;"]


@pytest.mark.parametrize(
    "last",
    [
        "add.rn.f32  %r4, %r8, %r9; \n fma.rn.f32  %r5, %r1, %r2, %r4;",  # the partner's product is overwritten
        "ld.shared.b32  %r4, [%r9]; \n fma.rn.f32  %r5, %r1, %r2, %r4;",
        "fma.rn.f32  %r5, %r4, %r2, %r1;",  # it is a factor, which both lanes round
        "fma.rn.f32  %r5, %r1, %r4, 0f00000000;",
    ],
)
def test_what_both_lanes_round_alike(last: str) -> None:
    assert asymmetric_sums(SUM.format(last=last)) == []


def test_what_the_assembler_may_fuse() -> None:
    """A product and a sum without a mode of rounding are left to the assembler."""
    total = "add.f32  %r5, %r3, %r4;"
    text = SUM.format(last=total).replace("mul.rn", "mul")
    assert unrounded(text) == ["mul.f32  %r3, %r1, %r2;", total]
    assert unrounded(SUM.format(last="mul.wide.s32  %rd1, %r1, 4;")) == []
    assert asymmetric_sums(text) == [total]
