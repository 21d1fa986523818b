"""The equations of LRUA on the block of slots that a program holds, forward and backward.

Step and scan compose these functions into kernels. The search for the least used slots is in ``least_used``, and usage,
a sum of three terms, is in the kernels. Pointers point at one episode: weights (R, N), keys and adds (R, W), gates and
strengths (R). ``i_n`` holds the indices of the block's slots, and ``m_n`` is true where such a slot exists. ``mark`` is
1 at the first least used slot, above 1 at the others (1 + rank, if they were searched by rounds), and 0 elsewhere.
``p_grad_x`` points at an incoming gradient, that of a result x; ``p_d_x`` at an outgoing one, that of an argument x.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mannkern.triton.block_math import (
    add_outer,
    add_scaled,
    clear,
    dot,
    eps,
    load_row,
    load_slots,
    norm,
    scale_row,
    scale_rows,
    sigmoid,
    store_row,
    subtract_scaled,
    sum_products,
    weighted_sum,
)

MOST_STRENGTH = tl.constexpr(2.0**64)  # a larger strength counts as this


@triton.jit
def least_used_weights(mark, h, n: tl.constexpr, PER_HEAD: tl.constexpr, ACC: tl.constexpr):
    """w_lu of head h (least used): 1 at every marked slot, or with PER_HEAD only at the slot of rank h mod n."""
    if PER_HEAD:
        return (mark == h % n + 1).to(ACC)
    else:
        return (mark > 0).to(ACC)


@triton.jit
def write_weights(s, w_r, w_lu):
    """w_w of a head (write weights), where s is the sigmoid of its gate."""
    return s * w_r + (1 - s) * w_lu


@triton.jit
def write(
    X, mark, i_n, m_n, p_weights, p_gate, p_add, p_write_weights,
    N: tl.constexpr, W: tl.constexpr, R: tl.constexpr, n: tl.constexpr, PER_HEAD: tl.constexpr,
    W0: tl.constexpr, W1: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Write weights and write: returns the written memory and sum_h w_w[h].

    It also stores the write weights, unless p_write_weights is None.
    """
    X = clear(X, mark == 1)
    total = tl.zeros_like(i_n).to(ACC)
    for h in tl.range(R, disable_licm=True):
        s = sigmoid(tl.load(p_gate + h).to(ACC))
        w_r = load_slots(p_weights + h * N, i_n, m_n, ACC)
        w_w = write_weights(s, w_r, least_used_weights(mark, h, n, PER_HEAD, ACC))
        if p_write_weights is not None:
            tl.store(p_write_weights + h * N + i_n, w_w, mask=m_n)
        X = add_outer(X, w_w, load_row(p_add + h * W, W, W0, W1, ACC))
        total += w_w
    return X, total


@triton.jit
def load_strength(p_strength, h, ACC: tl.constexpr):
    """The strength b[h], which is 1 if p_strength is None."""
    if p_strength is not None:
        b = tl.load(p_strength + h).to(ACC)
        return tl.where(b > MOST_STRENGTH, MOST_STRENGTH, b)  # NaN stays NaN
    else:
        return tl.full((), 1.0, ACC)


@triton.jit
def cosines(X, unit, inverse, key_norm, W: tl.constexpr, ACC: tl.constexpr):
    """cos(k, X(i)), from k / norm(k) and 1 / norm of each X(i). Where W = 1 it is a sign: slots with one sign tie."""
    cos = dot(X, unit, ACC) * inverse
    if W == 1:
        sign = tl.where(cos > 0, 1.0, tl.where(cos < 0, -1.0, cos))
        sign = tl.where(inverse * eps(ACC) < 1, sign, cos)
        cos = tl.where(key_norm > eps(ACC), sign, cos)
    return cos


@triton.jit
def logits(
    X, inverse, p_key, p_strength, h, m_n, W: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, ACC: tl.constexpr
):
    """The logits b cos(k, X(i)) of head h, -inf at slots that do not exist. ``inverse`` is 1 / norm of each X(i)."""
    k = load_row(p_key + h * W, W, W0, W1, ACC)
    key_norm = norm(k, ACC)
    cos = cosines(X, scale_row(k, 1 / key_norm), inverse, key_norm, W, ACC)
    return tl.where(m_n, load_strength(p_strength, h, ACC) * cos, float("-inf"))


@triton.jit
def read(
    X, i_n, m_n, p_key, p_strength, p_read, p_weights,
    N: tl.constexpr, W: tl.constexpr, R: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Content weights and read, of a block that is the whole memory: stores both and returns sum_h w_r[h]."""
    inverse = 1 / norm(X, ACC)
    total = tl.zeros_like(i_n).to(ACC)
    for h in tl.range(R, disable_licm=True):
        z = logits(X, inverse, p_key, p_strength, h, m_n, W, W0, W1, ACC)
        if p_strength is not None:
            z -= tl.max(z, 0)
        e = tl.exp(z)  # without strengths the logits are cosines, whose exponentials cannot overflow
        scale = 1 / tl.sum(e, 0)
        w_r = e * scale
        tl.store(p_weights + h * N + i_n, w_r, mask=m_n)
        if p_read is not None:
            store_row(p_read + h * W, scale_row(weighted_sum(X, e), scale), W, W0, W1)
        total += w_r
    return total


@triton.jit
def update_usage(usage, reads, writes, DECAY: tl.constexpr):
    """Usage of the slots after a step; ``reads`` and ``writes`` are sums of weights over the heads."""
    return DECAY * usage + reads + writes


@triton.jit
def read_weights_gradient(
    X, h, i_n, m_n, grad_usage, p_grad_read, p_grad_weights,
    N: tl.constexpr, W: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The gradient of w_r[h]: the sum of its own, of the one through usage and of the one through the read."""
    grad = grad_usage
    if p_grad_weights is not None:
        grad += load_slots(p_grad_weights + h * N, i_n, m_n, ACC)
    if p_grad_read is not None:
        grad += dot(X, load_row(p_grad_read + h * W, W, W0, W1, ACC), ACC)
    return grad


@triton.jit
def read_backward(
    D, X, i_n, m_n, grad_usage, p_grad_read, p_grad_weights, p_mean, p_key, p_strength, p_weights,
    p_d_key, p_d_strength,
    N: tl.constexpr, W: tl.constexpr, R: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Backward of ``read``: adds to D, the gradient of X, and returns it; stores the gradients of key and strength.

    p_mean points at sum_i w_r(i) grad(i) of each head (R), which the softmax needs over all slots; it is None if the
    block is the whole memory, and is then computed here.
    """
    slot_norm = norm(X, ACC)
    inverse = 1 / slot_norm
    d_norm = tl.zeros_like(i_n).to(ACC)  # sum_h b dz cos, the part through the norm of X(i)
    for h in tl.range(R, disable_licm=True):
        k = load_row(p_key + h * W, W, W0, W1, ACC)
        key_norm = norm(k, ACC)
        unit = scale_row(k, 1 / key_norm)
        cos = cosines(X, unit, inverse, key_norm, W, ACC)
        grad = read_weights_gradient(X, h, i_n, m_n, grad_usage, p_grad_read, p_grad_weights, N, W, W0, W1, ACC)
        w_r = load_slots(p_weights + h * N, i_n, m_n, ACC)
        if p_grad_read is not None:
            D = add_outer(D, w_r, load_row(p_grad_read + h * W, W, W0, W1, ACC))
        if p_mean is not None:
            mean = tl.load(p_mean + h).to(ACC)
        else:
            mean = tl.sum(w_r * grad, 0)
        b = load_strength(p_strength, h, ACC)
        dz = w_r * (grad - mean)
        dz_cos = dz * cos
        if p_strength is not None:
            tl.store(p_d_strength + h, tl.sum(dz_cos, 0))
        d_dot = dz * b * inverse
        d_unit = weighted_sum(X, d_dot)
        if W == 1:  # the cosine of one column is a sign: its gradient is 0, and the formula would leave rounding
            d_dot = tl.where(slot_norm > eps(ACC), 0.0, d_dot)
            d_key = scale_row(d_unit, tl.where(key_norm > eps(ACC), 0.0, 1 / key_norm))
        else:
            d_norm += dz_cos * b
            along = tl.where(key_norm > eps(ACC), sum_products(d_unit, unit, ACC), 0.0)
            d_key = scale_row(subtract_scaled(d_unit, along, unit), 1 / key_norm)
        D = add_outer(D, d_dot, unit)
        store_row(p_d_key + h * W, d_key, W, W0, W1)
    d_norm = tl.where(slot_norm > eps(ACC), d_norm * inverse, 0.0)
    return add_scaled(D, -d_norm, scale_rows(X, inverse))  # the square of inverse could underflow


@triton.jit
def write_backward(
    D, mark, i_n, m_n, grad_usage, p_grad_write_weights, p_weights, p_gate, p_add,
    p_d_weights, p_d_gate, p_d_add,
    N: tl.constexpr, W: tl.constexpr, R: tl.constexpr, n: tl.constexpr, PER_HEAD: tl.constexpr,
    W0: tl.constexpr, W1: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Backward of ``write``: takes D, the gradient of the written memory, and returns that of the memory before it.

    It stores the gradients of read weights, gate and add.
    """
    for h in tl.range(R, disable_licm=True):
        s = sigmoid(tl.load(p_gate + h).to(ACC))
        w_r = load_slots(p_weights + h * N, i_n, m_n, ACC)
        w_lu = least_used_weights(mark, h, n, PER_HEAD, ACC)
        grad = grad_usage + dot(D, load_row(p_add + h * W, W, W0, W1, ACC), ACC)
        if p_grad_write_weights is not None:
            grad += load_slots(p_grad_write_weights + h * N, i_n, m_n, ACC)
        store_row(p_d_add + h * W, weighted_sum(D, write_weights(s, w_r, w_lu)), W, W0, W1)
        tl.store(p_d_weights + h * N + i_n, s * grad, mask=m_n)
        tl.store(p_d_gate + h, s * (1 - s) * tl.sum(grad * (w_r - w_lu), 0))
    return clear(D, mark == 1)
