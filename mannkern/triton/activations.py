"""Activations of an episode's controller and interface vector that Triton has not, or not accurately enough."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def polynomial(x, coefficients: tl.constexpr):
    """The polynomial of x with these coefficients, that of the highest power first."""
    y = x * 0 + coefficients[0]
    for i in tl.static_range(1, len(coefficients)):
        y = y * x + coefficients[i]
    return y


@triton.jit
def tanh(x, ACC: tl.constexpr):
    """The hyperbolic tangent. Near 0, where 1 - exp(-2x) cancels, it is x + x^3 P(x^2) (Cephes, Moshier 1989)."""
    e = tl.exp(-2 * tl.abs(x))
    far = (1 - e) / (1 + e)
    z = x * x
    if tl.float64 == ACC:
        P: tl.constexpr = (-9.64399179425052238628e-1, -9.92877231001918586564e1, -1.61468768441708447952e3)
        Q: tl.constexpr = (1.0, 1.12811678491632931402e2, 2.23548839060100448583e3, 4.84406305325125486048e3)
        near = x + x * z * (polynomial(z, P) / polynomial(z, Q))
    else:
        C: tl.constexpr = (
            -5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1,
        )  # fmt: skip
        near = x + x * z * polynomial(z, C)
    return tl.where(tl.abs(x) < 0.625, near, tl.where(x < 0, -far, far))


@triton.jit
def strength(x):
    """1 + softplus(x): the strength of a read head."""
    return 1 + tl.maximum(x, 0.0) + tl.log(1 + tl.exp(-tl.abs(x)))
