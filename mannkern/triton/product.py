"""The matrix product of a step of an episode: a program computes a block of it, (BB episodes, BO columns)."""

from __future__ import annotations

import triton
import triton.language as tl

from mannkern.triton import tiling
from mannkern.triton.block_math import follow

PRELOADED = tl.constexpr(tiling.PRELOADED_CHUNKS)
STAGES = tl.constexpr(4)  # of the loop over more chunks: the loads of three are under way


@triton.jit
def block(i_first, size, BLOCK: tl.constexpr):
    """Indices of a block of a dimension, and which of them exist."""
    i = i_first + tl.arange(0, BLOCK)
    return i, i < size


@triton.jit
def load_terms(p, i_k, m_k, i, m, STRIDE_K: tl.constexpr, STRIDE: tl.constexpr):
    """Factors of a chunk of terms i_k (S, BK) of a product: elements k STRIDE_K + i STRIDE of p, (S, BK, len(i))."""
    at = i_k[:, :, None] * STRIDE_K + i[None, None, :] * STRIDE
    return tl.load(p + at, mask=m_k[:, :, None] & m[None, None, :], other=0.0)


@triton.jit
def product(
    p_x, p_w, i_b, m_b, i_o, m_o, X_ROW: tl.constexpr, W_K: tl.constexpr, W_O: tl.constexpr, K: tl.constexpr,
    S: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """sum_k x(b, k) w(k, o): rows of x lie X_ROW apart, and element (k, o) of w at k W_K + i_o W_O.

    A chunk is S BK terms, which S groups of warps share. If there are few chunks, all are loaded before the first is
    summed, the weights even before the kernel in front has ended; loads take longer than sums then.
    """
    parts = tl.zeros((S, i_b.shape[0], i_o.shape[0]), ACC)
    i_chunk = tl.arange(0, S)[:, None] * BK + tl.arange(0, BK)[None, :]
    if K <= PRELOADED * S * BK:
        w = ()
        for begin in tl.static_range(0, K, S * BK):
            i_k = begin + i_chunk
            w = w + (load_terms(p_w, i_k, i_k < K, i_o, m_o, W_K, W_O),)  # type: ignore[assignment]
        follow(EARLY)
        x = ()
        for begin in tl.static_range(0, K, S * BK):
            i_k = begin + i_chunk
            x = x + (load_terms(p_x, i_k, i_k < K, i_b, m_b, 1, X_ROW),)  # type: ignore[assignment]
        for chunk in tl.static_range(len(w)):
            parts = add_product(parts, x[chunk], w[chunk], ACC, PRECISION)
    else:
        follow(EARLY)
        for begin in tl.range(0, K, S * BK, num_stages=STAGES):
            i_k = begin + i_chunk
            x = load_terms(p_x, i_k, i_k < K, i_b, m_b, 1, X_ROW)
            w = load_terms(p_w, i_k, i_k < K, i_o, m_o, W_K, W_O)
            parts = add_product(parts, x, w, ACC, PRECISION)
    return tl.sum(parts, 0)


@triton.jit
def add_product(parts, x, w, ACC: tl.constexpr, PRECISION: tl.constexpr):
    """parts(s, b, o) + sum_k x(s, k, b) w(s, k, o)."""
    return tl.dot(tl.trans(x, 0, 2, 1), w, parts, input_precision=PRECISION, out_dtype=ACC)
