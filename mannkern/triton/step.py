"""Kernels of the operations ``lrua_step`` and ``cosine_read``, forward and backward.

If the memory of an episode fits one program (``WHOLE``), one kernel does all of a step. A larger memory is split into
tiles of slots, a program each; the softmax and the sums over slots are then finished from each tile's summands.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mannkern.triton import lrua
from mannkern.triton.block_math import (
    load_rows,
    load_slots,
    norm,
    store_row,
    store_rows,
    weighted_sum,
    zero_rows,
)
from mannkern.triton.least_used import smallest, sort_key


@triton.jit
def step_forward(
    p_memory, p_weights, p_usage, p_key, p_add, p_gate, p_strength, p_mark,
    p_memory_out, p_read, p_weights_out, p_usage_out, p_write_weights, p_top, p_total,
    N: tl.constexpr, W: tl.constexpr, R: tl.constexpr, n: tl.constexpr, PER_HEAD: tl.constexpr, DECAY: tl.constexpr,
    BN: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, ACC: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """A step forward: least used, write weights, write, content weights, read, usage. Grid (B, tiles).

    If p_gate is None, there is no write: the kernel is the cosine read alone.
    If WHOLE, it computes and stores the marks of the least used slots, and finishes the step. Otherwise it reads the
    marks, and leaves to ``step_finish``: the logits in p_weights_out; the tile's largest logit and its sum of
    exp(logit - largest) in p_top and p_total (B, tiles, R); the sum of exp(logit - largest) X in p_read
    (B, tiles, R, W); and sum_h w_w[h] in p_usage_out.

    Bytes per episode in float32: memory read and written 8 N W, read weights read and written and write weights
    written 12 R N, usage 8 N, marks N. FLOPs: N W (6 R + 4), and about 12 N R.
    """
    i_b = tl.program_id(0).to(tl.int64)
    i_tile = tl.program_id(1)
    i_n = tl.arange(0, BN) if WHOLE else i_tile * BN + tl.arange(0, BN)  # the compiler then knows which slots exist
    m_n = i_n < N
    X = load_rows(p_memory + i_b * N * W, i_n, m_n, W, W0, W1, ACC)
    writes = tl.zeros_like(i_n).to(ACC)
    if p_gate is not None:
        if WHOLE:
            usage = load_slots(p_usage + i_b * N, i_n, m_n, ACC)
            mark = smallest(sort_key(usage, ACC), i_n, m_n, n, ACC)
            tl.store(p_mark + i_b * N + i_n, mark, mask=m_n)
        else:
            mark = tl.load(p_mark + i_b * N + i_n, mask=m_n, other=0).to(tl.int32)
        X, writes = lrua.write(
            X, mark, i_n, m_n, p_weights + i_b * R * N, p_gate + i_b * R, p_add + i_b * R * W,
            p_write_weights + i_b * R * N, N, W, R, n, PER_HEAD, W0, W1, ACC,
        )  # fmt: skip
        store_rows(p_memory_out + i_b * N * W, X, i_n, m_n, W, W0, W1)
    p_b = p_strength + i_b * R if p_strength is not None else None
    if WHOLE:
        reads = lrua.read(
            X, i_n, m_n, p_key + i_b * R * W, p_b, p_read + i_b * R * W, p_weights_out + i_b * R * N,
            N, W, R, W0, W1, ACC,
        )  # fmt: skip
        if p_gate is not None:
            usage = load_slots(p_usage + i_b * N, i_n, m_n, ACC)
            tl.store(p_usage_out + i_b * N + i_n, lrua.update_usage(usage, reads, writes, DECAY), mask=m_n)
    else:
        if p_gate is not None:
            tl.store(p_usage_out + i_b * N + i_n, writes, mask=m_n)
        inverse = 1 / norm(X, ACC)
        i_part = (i_b * tl.num_programs(1) + i_tile) * R
        for h in range(R):
            z = lrua.logits(X, inverse, p_key + i_b * R * W, p_b, h, m_n, W, W0, W1, ACC)
            top = tl.max(z, 0)
            e = tl.exp(z - top)
            tl.store(p_weights_out + (i_b * R + h) * N + i_n, z, mask=m_n)
            tl.store(p_top + i_part + h, top)
            tl.store(p_total + i_part + h, tl.sum(e, 0))
            store_row(p_read + (i_part + h) * W, weighted_sum(X, e), W, W0, W1)


@triton.jit
def step_finish(
    p_usage, p_top, p_total, p_weights, p_usage_out,
    N: tl.constexpr, R: tl.constexpr, DECAY: tl.constexpr, BN: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The end of a step in tiles: turns logits into read weights in p_weights, then computes usage. Grid (B, tiles).

    p_top and p_total (B, R) are the largest logit and the softmax's sum of each head. p_usage_out holds sum_h w_w[h] on
    entry and the usage on exit. If p_usage is None, there was no write, and so no usage.

    Bytes per episode in float32: weights read and written 8 R N, usage 12 N. FLOPs: about 5 R N.
    """
    i_b = tl.program_id(0).to(tl.int64)
    i_n = tl.program_id(1) * BN + tl.arange(0, BN)
    m_n = i_n < N
    reads = tl.zeros_like(i_n).to(ACC)
    for h in range(R):
        p_row = p_weights + (i_b * R + h) * N + i_n
        z = tl.load(p_row, mask=m_n, other=0.0)
        w_r = tl.exp(z - tl.load(p_top + i_b * R + h)) / tl.load(p_total + i_b * R + h)
        tl.debug_barrier()  # every thread has read the logits: in a small block several threads read each
        tl.store(p_row, w_r, mask=m_n)
        reads += w_r
    if p_usage is not None:
        usage = load_slots(p_usage + i_b * N, i_n, m_n, ACC)
        writes = tl.load(p_usage_out + i_b * N + i_n, mask=m_n, other=0.0)
        tl.debug_barrier()
        tl.store(p_usage_out + i_b * N + i_n, lrua.update_usage(usage, reads, writes, DECAY), mask=m_n)


@triton.jit
def step_mean(
    p_memory, p_read_weights, p_grad_read, p_grad_weights, p_grad_usage, p_mean,
    N: tl.constexpr, W: tl.constexpr, R: tl.constexpr,
    BN: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Each tile's summand of sum_i w_r(i) grad(i), in p_mean (B, tiles, R). Grid (B, tiles).

    The backward pass of the softmax needs this sum over all slots before ``step_backward`` can begin.

    Bytes per episode in float32: memory 4 N W, weights and their gradient 8 R N. FLOPs: 2 N W R, and 4 R N.
    """
    i_b = tl.program_id(0).to(tl.int64)
    i_tile = tl.program_id(1)
    i_n = i_tile * BN + tl.arange(0, BN)
    m_n = i_n < N
    X = load_rows(p_memory + i_b * N * W, i_n, m_n, W, W0, W1, ACC)
    grad_usage = load_slots((p_grad_usage + i_b * N if p_grad_usage is not None else None), i_n, m_n, ACC)
    p_grad_r = p_grad_read + i_b * R * W if p_grad_read is not None else None
    p_grad_w = p_grad_weights + i_b * R * N if p_grad_weights is not None else None
    for h in range(R):
        grad = lrua.read_weights_gradient(X, h, i_n, m_n, grad_usage, p_grad_r, p_grad_w, N, W, W0, W1, ACC)
        w_r = load_slots(p_read_weights + (i_b * R + h) * N, i_n, m_n, ACC)
        tl.store(p_mean + (i_b * tl.num_programs(1) + i_tile) * R + h, tl.sum(w_r * grad, 0))


@triton.jit
def step_backward(
    p_grad_memory, p_grad_read, p_grad_weights, p_grad_usage, p_grad_write_weights, p_mean,
    p_previous, p_key, p_add, p_gate, p_strength, p_memory, p_weights, p_mark,
    p_d_memory, p_d_weights, p_d_usage, p_d_key, p_d_add, p_d_gate, p_d_strength,
    N: tl.constexpr, W: tl.constexpr, R: tl.constexpr, n: tl.constexpr, PER_HEAD: tl.constexpr, DECAY: tl.constexpr,
    BN: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Backward of a step. Grid (B, tiles).

    p_grad_* are the gradients of the results, None where a result has none. p_d_* are the gradients of the arguments;
    those of key, add, gate and strength are sums over slots, of which each tile stores its summand (B, tiles, ...).
    p_mean (B, R) is the sum over tiles of ``step_mean``'s result, and None if there is one tile. If p_gate is None,
    this is the backward of the cosine read alone.

    Bytes per episode in float32: memory and its gradient read, a gradient written 12 N W; weights after and before,
    and their gradients 16 R N; usage 8 N, marks N. FLOPs: N W (12 R + 10), and about 20 N R.
    """
    i_b = tl.program_id(0).to(tl.int64)
    i_tile = tl.program_id(1)
    i_part = i_b * tl.num_programs(1) + i_tile
    i_n = tl.arange(0, BN) if p_mean is None else i_tile * BN + tl.arange(0, BN)
    m_n = i_n < N
    if p_grad_memory is not None:
        D = load_rows(p_grad_memory + i_b * N * W, i_n, m_n, W, W0, W1, ACC)
    else:
        D = zero_rows(BN, W0, W1, ACC)
    X = load_rows(p_memory + i_b * N * W, i_n, m_n, W, W0, W1, ACC)
    grad_usage = load_slots((p_grad_usage + i_b * N if p_grad_usage is not None else None), i_n, m_n, ACC)
    p_grad_r = p_grad_read + i_b * R * W if p_grad_read is not None else None
    p_grad_w = p_grad_weights + i_b * R * N if p_grad_weights is not None else None
    p_m = p_mean + i_b * R if p_mean is not None else None
    p_b = p_strength + i_b * R if p_strength is not None else None
    p_d_b = p_d_strength + i_part * R if p_d_strength is not None else None
    D = lrua.read_backward(
        D, X, i_n, m_n, grad_usage, p_grad_r, p_grad_w, p_m, p_key + i_b * R * W, p_b, p_weights + i_b * R * N,
        p_d_key + i_part * R * W, p_d_b, N, W, R, W0, W1, ACC,
    )  # fmt: skip
    if p_gate is not None:
        mark = tl.load(p_mark + i_b * N + i_n, mask=m_n, other=0).to(tl.int32)
        p_grad_ww = p_grad_write_weights + i_b * R * N if p_grad_write_weights is not None else None
        D = lrua.write_backward(
            D, mark, i_n, m_n, grad_usage, p_grad_ww, p_previous + i_b * R * N, p_gate + i_b * R, p_add + i_b * R * W,
            p_d_weights + i_b * R * N, p_d_gate + i_part * R, p_d_add + i_part * R * W,
            N, W, R, n, PER_HEAD, W0, W1, ACC,
        )  # fmt: skip
        tl.store(p_d_usage + i_b * N + i_n, DECAY * grad_usage, mask=m_n)
    store_rows(p_d_memory + i_b * N * W, D, i_n, m_n, W, W0, W1)
