"""The equations of LRUA on the block of slots that a program holds: forward and backward, shared by step and scan.

Pointers are those of one episode: weights (R, N), rows of heads (R, W), gates and strengths (R). ``i_n`` are the slots
of the block, ``m_n`` tells those that exist, ``mark`` is 0, or 1 + rank of a least used slot.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mannkern.triton.blocks import (
    add_outer,
    add_scaled,
    clear,
    dot,
    least_norm,
    load_row,
    load_slots,
    norm,
    row_dot,
    scale_row,
    sigmoid,
    store_row,
    subtract_scaled,
    weighted_sum,
)


@triton.jit
def least_used_weights(mark, h, n: tl.constexpr, PER_HEAD: tl.constexpr, ACC: tl.constexpr):
    """w_lu of head h: 1 at every marked slot, or at that of rank h mod n."""
    if PER_HEAD:
        return (mark == h % n + 1).to(ACC)
    else:
        return (mark > 0).to(ACC)


@triton.jit
def interpolate(s, w_r, w_lu):
    """w_w, at the sigmoid s of the gate."""
    return s * w_r + (1 - s) * w_lu


@triton.jit
def write(
    X, mark, i_n, m_n, p_weights, p_gate, p_add, p_write_weights,
    N: tl.constexpr, W: tl.constexpr, R: tl.constexpr, n: tl.constexpr, PER_HEAD: tl.constexpr,
    W0: tl.constexpr, W1: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Equations 5 and 7: the memory written to, and sum_h w_w[h]. p_write_weights None: not wanted."""
    X = clear(X, mark == 1)
    total = tl.zeros_like(i_n).to(ACC)
    for h in tl.range(R, disable_licm=True):
        s = sigmoid(tl.load(p_gate + h).to(ACC))
        w_r = load_slots(p_weights + h * N, i_n, m_n, ACC)
        w_w = interpolate(s, w_r, least_used_weights(mark, h, n, PER_HEAD, ACC))
        if p_write_weights is not None:
            tl.store(p_write_weights + h * N + i_n, w_w, mask=m_n)
        X = add_outer(X, w_w, load_row(p_add + h * W, W, W0, W1, ACC))
        total += w_w
    return X, total


@triton.jit
def strength_of(p_strength, h, ACC: tl.constexpr):
    """b[h], 1 without strengths."""
    if p_strength is not None:
        return tl.load(p_strength + h).to(ACC)
    else:
        return tl.full((), 1.0, ACC)


@triton.jit
def logits(
    X, inverse, p_key, p_strength, h, m_n, W: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, ACC: tl.constexpr
):
    """b cos(k, X(i)) of head h, -inf at slots that do not exist. ``inverse``: 1 / norms of X."""
    k = load_row(p_key + h * W, W, W0, W1, ACC)
    cos = dot(X, scale_row(k, 1 / norm(k, ACC))) * inverse
    return tl.where(m_n, strength_of(p_strength, h, ACC) * cos, float("-inf"))


@triton.jit
def read(
    X, i_n, m_n, p_key, p_strength, p_read, p_weights,
    N: tl.constexpr, W: tl.constexpr, R: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Equations 2 to 4 where the block is the whole memory: stores reads and weights, returns sum_h w_r[h]."""
    inverse = 1 / norm(X, ACC)
    total = tl.zeros_like(i_n).to(ACC)
    for h in tl.range(R, disable_licm=True):
        z = logits(X, inverse, p_key, p_strength, h, m_n, W, W0, W1, ACC)
        e = tl.exp(z - tl.max(z, 0))
        scale = 1 / tl.sum(e, 0)
        w_r = e * scale
        tl.store(p_weights + h * N + i_n, w_r, mask=m_n)
        if p_read is not None:
            store_row(p_read + h * W, scale_row(weighted_sum(X, e), scale), W, W0, W1)
        total += w_r
    return total


@triton.jit
def grad_of_weights(
    X, h, i_n, m_n, grad_usage, p_grad_read, p_grad_weights,
    N: tl.constexpr, W: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Gradient of w_r[h]: its own, that through usage, and that through r = sum_i w_r(i) X(i)."""
    grad = grad_usage
    if p_grad_weights is not None:
        grad += load_slots(p_grad_weights + h * N, i_n, m_n, ACC)
    if p_grad_read is not None:
        grad += dot(X, load_row(p_grad_read + h * W, W, W0, W1, ACC))
    return grad


@triton.jit
def read_backward(
    D, X, i_n, m_n, grad_usage, p_grad_read, p_grad_weights, p_mean, p_key, p_strength, p_weights,
    p_grad_key, p_grad_strength,
    N: tl.constexpr, W: tl.constexpr, R: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Backward of ``read``: D, the gradient of X, with this read's added; stores those of key and strength.

    p_mean: sum_i w_r(i) grad(i) of each head (R), None where the block is the whole memory.
    """
    length = norm(X, ACC)
    inverse = 1 / length
    shrink = tl.zeros_like(i_n).to(ACC)  # what X(i) loses through its own norm
    for h in tl.range(R, disable_licm=True):
        k = load_row(p_key + h * W, W, W0, W1, ACC)
        size = norm(k, ACC)
        unit = scale_row(k, 1 / size)
        cos = dot(X, unit) * inverse
        grad = grad_of_weights(X, h, i_n, m_n, grad_usage, p_grad_read, p_grad_weights, N, W, W0, W1, ACC)
        w_r = load_slots(p_weights + h * N, i_n, m_n, ACC)
        if p_grad_read is not None:
            D = add_outer(D, w_r, load_row(p_grad_read + h * W, W, W0, W1, ACC))
        if p_mean is not None:
            mean = tl.load(p_mean + h).to(ACC)
        else:
            mean = tl.sum(w_r * grad, 0)
        b = strength_of(p_strength, h, ACC)
        dz = w_r * (grad - mean)
        slope = dz * cos
        if p_strength is not None:
            tl.store(p_grad_strength + h, tl.sum(slope, 0))
        pull = dz * b * inverse
        grad_unit = weighted_sum(X, pull)
        if W == 1:  # a cosine of one column is a sign, without a gradient; differences would leave rounding
            pull = tl.where(length > least_norm(ACC), 0.0, pull)
            grad_key = scale_row(grad_unit, tl.where(size > least_norm(ACC), 0.0, 1 / size))
        else:
            shrink += slope * b
            along = tl.where(size > least_norm(ACC), row_dot(grad_unit, unit), 0.0)
            grad_key = scale_row(subtract_scaled(grad_unit, along, unit), 1 / size)
        D = add_outer(D, pull, unit)
        store_row(p_grad_key + h * W, grad_key, W, W0, W1)
    shrink = tl.where(length > least_norm(ACC), (shrink * inverse) * inverse, 0.0)
    return add_scaled(D, -shrink, X)


@triton.jit
def write_backward(
    D, mark, i_n, m_n, grad_usage, p_grad_write_weights, p_weights, p_gate, p_add,
    p_grad_weights, p_grad_gate, p_grad_add,
    N: tl.constexpr, W: tl.constexpr, R: tl.constexpr, n: tl.constexpr, PER_HEAD: tl.constexpr,
    W0: tl.constexpr, W1: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Backward of ``write``, D the gradient of what was written: stores those of weights, gate and add; returns that
    of the memory before."""
    for h in tl.range(R, disable_licm=True):
        s = sigmoid(tl.load(p_gate + h).to(ACC))
        w_r = load_slots(p_weights + h * N, i_n, m_n, ACC)
        w_lu = least_used_weights(mark, h, n, PER_HEAD, ACC)
        grad = grad_usage + dot(D, load_row(p_add + h * W, W, W0, W1, ACC))
        if p_grad_write_weights is not None:
            grad += load_slots(p_grad_write_weights + h * N, i_n, m_n, ACC)
        store_row(p_grad_add + h * W, weighted_sum(D, interpolate(s, w_r, w_lu)), W, W0, W1)
        tl.store(p_grad_weights + h * N + i_n, s * grad, mask=m_n)
        tl.store(p_grad_gate + h, s * (1 - s) * tl.sum(grad * (w_r - w_lu), 0))
    return clear(D, mark == 1)
