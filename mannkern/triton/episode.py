"""Kernels of the memory's part of a MANN's episode: a step of all episodes, forward and backward. Grid (B).

A program holds the whole memory of an episode. Buffers of all steps are (T, B, ...). An interface vector (I) has keys
(R, W), adds (R, W), gates (R) and, with STRENGTHS, strengths (R), all activated; read weights (., B, R, N) have those
before the first step in front, so that slot t is before and slot t + 1 after step t. ``p_phase`` (T, B) is as in
``phases``; an episode that starts anew does so from the memory p_first_memory (N, W), and from read weights and usage
that are the rows of p_first_weights (R, N). Both are None if none does.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mannkern.triton import lrua
from mannkern.triton.block_math import (
    add_scaled,
    choose_rows,
    follow,
    load_rows,
    load_slots,
    store_row,
    store_rows,
    zero_row,
    zero_rows,
)
from mannkern.triton.least_used import smallest, sort_key
from mannkern.triton.phases import ANEW, ENDED


@triton.jit(do_not_specialize=["t", "slot", "slot_after", "i_interface", "i_checkpoint", "B"])
def mann_step(
    p_memory, p_usage, p_memory_out, p_usage_out, p_interface, p_weights, p_outputs, p_marks, p_checkpoints,
    p_phase, p_first_memory, p_first_weights, t, slot, slot_after, i_interface, i_checkpoint, B,
    N: tl.constexpr, W: tl.constexpr, R: tl.constexpr, D: tl.constexpr, STRENGTHS: tl.constexpr,
    n: tl.constexpr, PER_HEAD: tl.constexpr, DECAY: tl.constexpr,
    BN: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, ACC: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Step t of the memory. p_memory and p_memory_out (B, N, W) may be one buffer, and so may those of usage (B, N).

    The read vectors go to the columns of p_outputs (T, B, D + R W) behind h. For backward it stores the marks of the
    least used slots in p_marks (T, B, N), None where nothing is saved, and the memory before the step at i_checkpoint
    of p_checkpoints, unless that is negative.

    Bytes per episode in float32: memory read and written 8 N W, read weights read and written 8 R N, usage 8 N, the
    interface vector 8 R W, read vectors 4 R W, marks N. FLOPs: N W (6 R + 4), and about 12 N R.
    """
    i_b = tl.program_id(0).to(tl.int64)
    i_n = tl.arange(0, BN)
    m_n = i_n < N
    I: tl.constexpr = 2 * R * W + (2 * R if STRENGTHS else R)
    p_key = p_interface + (i_interface.to(tl.int64) * B + i_b) * I
    p_w = p_weights + (slot.to(tl.int64) * B + i_b) * R * N
    p_w_after = p_weights + (slot_after.to(tl.int64) * B + i_b) * R * N
    i_tb = t.to(tl.int64) * B + i_b
    p_X, p_u = p_memory + i_b * N * W, p_usage + i_b * N
    if p_first_memory is not None:
        anew = tl.load(p_phase + i_tb) == ANEW
        p_X, p_u = tl.where(anew, p_first_memory, p_X), tl.where(anew, p_first_weights, p_u)
        p_w = tl.where(anew, p_first_weights, p_w)
    usage = load_slots(p_u, i_n, m_n, ACC)
    X = load_rows(p_X, i_n, m_n, W, W0, W1, ACC)
    mark = smallest(sort_key(usage, ACC), i_n, m_n, n, ACC)
    follow(EARLY)
    if p_marks is not None:
        tl.store(p_marks + i_tb * N + i_n, mark, mask=m_n)
        if i_checkpoint >= 0:
            store_rows(p_checkpoints + (i_checkpoint.to(tl.int64) * B + i_b) * N * W, X, i_n, m_n, W, W0, W1)
    tl.debug_barrier()  # every thread has read memory and usage, which may be the buffers that are written
    p_read = p_outputs + i_tb * (D + R * W) + D
    if p_phase is None or tl.load(p_phase + i_tb) != ENDED:
        X, writes = lrua.write(
            X, mark, i_n, m_n, p_w, p_key + 2 * R * W, p_key + R * W, None, N, W, R, n, PER_HEAD, W0, W1, ACC
        )
        store_rows(p_memory_out + i_b * N * W, X, i_n, m_n, W, W0, W1)
        p_b = p_key + 2 * R * W + R if STRENGTHS else None
        reads = lrua.read(X, i_n, m_n, p_key, p_b, p_read, p_w_after, N, W, R, W0, W1, ACC)
        tl.store(p_usage_out + i_b * N + i_n, lrua.update_usage(usage, reads, writes, DECAY), mask=m_n)
    else:
        store_rows(p_memory_out + i_b * N * W, X, i_n, m_n, W, W0, W1)
        tl.store(p_usage_out + i_b * N + i_n, usage, mask=m_n)
        for h in tl.range(R):
            tl.store(p_w_after + h * N + i_n, load_slots(p_w + h * N, i_n, m_n, ACC), mask=m_n)
            store_row(p_read + h * W, zero_row(W0, W1, ACC), W, W0, W1)


@triton.jit(do_not_specialize=["i_first", "begin", "end", "B"])
def mann_recompute(
    p_first, p_interface, p_weights, p_marks, p_memories, p_phase, p_first_memory, p_first_weights,
    i_first, begin, end, B,
    N: tl.constexpr, W: tl.constexpr, R: tl.constexpr, STRENGTHS: tl.constexpr,
    n: tl.constexpr, PER_HEAD: tl.constexpr,
    BN: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, ACC: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """The memories after steps begin to end - 1 again, bit for bit, in p_memories (end - begin, B, N, W).

    The memory before the first of them is at i_first of p_first (., B, N, W). Those of episodes that have ended are no
    memories, and nothing reads them.

    Bytes per episode and step in float32: memory written 4 N W, read weights 4 R N, adds 4 R W, marks N. FLOPs:
    2 N W R.
    """
    i_b = tl.program_id(0).to(tl.int64)
    i_n = tl.arange(0, BN)
    m_n = i_n < N
    I: tl.constexpr = 2 * R * W + (2 * R if STRENGTHS else R)
    follow(EARLY)
    X = load_rows(p_first + (i_first.to(tl.int64) * B + i_b) * N * W, i_n, m_n, W, W0, W1, ACC)
    for t in tl.range(begin, end, disable_licm=True):
        i_tb = i_b + t * B.to(tl.int64)
        p_add, p_w = p_interface + i_tb * I + R * W, p_weights + i_tb * R * N
        if p_first_memory is not None:
            anew = tl.load(p_phase + i_tb) == ANEW
            m_anew = m_n & anew
            X = choose_rows(m_anew, load_rows(p_first_memory, i_n, m_anew, W, W0, W1, ACC), X)
            p_w = tl.where(anew, p_first_weights, p_w)
        mark = tl.load(p_marks + i_tb * N + i_n, mask=m_n, other=0).to(tl.int32)
        X, _ = lrua.write(X, mark, i_n, m_n, p_w, p_add + R * W, p_add, None, N, W, R, n, PER_HEAD, W0, W1, ACC)
        i_memory = i_b + (t - begin) * B.to(tl.int64)
        store_rows(p_memories + i_memory * N * W, X, i_n, m_n, W, W0, W1)


@triton.jit(do_not_specialize=["t", "i_memory", "B"])
def mann_step_backward(
    p_d_output, p_memories, p_interface, p_weights, p_marks, p_d_memory, p_d_weights, p_d_usage, p_d_interface,
    p_phase, p_first_weights, p_d_first, t, i_memory, B,
    N: tl.constexpr, W: tl.constexpr, R: tl.constexpr, D: tl.constexpr, STRENGTHS: tl.constexpr,
    n: tl.constexpr, PER_HEAD: tl.constexpr, DECAY: tl.constexpr,
    BN: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, BI: tl.constexpr, ACC: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    """Backward of step t of the memory, and of the activation of its interface vector.

    p_d_output (B, D + R W) is the gradient of the step's output, of which it reads the columns behind h. The memory
    after the step is at i_memory of p_memories. In place, on entry with respect to what the step gave, on exit to what
    it took: p_d_memory (B, N, W), p_d_weights (B, R, N) and p_d_usage (B, N). p_d_interface (T, B, I) gets the gradient
    before the activation. Where an episode starts anew, the gradient of its memory is added to p_d_first (B, N, W), and
    the others end.

    Bytes per episode in float32: memory read, its gradient read and written 12 N W; weights before and after read,
    their gradient read and written 16 R N; usage's gradient 8 N; the interface vector and its gradient, which is read
    again, 32 R W; marks N. FLOPs: N W (12 R + 10), and about 20 N R.
    """
    i_b = tl.program_id(0).to(tl.int64)
    i_n = tl.arange(0, BN)
    m_n = i_n < N
    I: tl.constexpr = 2 * R * W + (2 * R if STRENGTHS else R)
    i_tb = t.to(tl.int64) * B + i_b
    p_key = p_interface + i_tb * I
    p_d_key = p_d_interface + i_tb * I
    p_w = p_weights + i_tb * R * N
    p_w_after = p_weights + (i_tb + B) * R * N
    p_d_w = p_d_weights + i_b * R * N
    D_M = load_rows(p_d_memory + i_b * N * W, i_n, m_n, W, W0, W1, ACC)
    X = load_rows(p_memories + (i_memory.to(tl.int64) * B + i_b) * N * W, i_n, m_n, W, W0, W1, ACC)
    grad_usage = load_slots(p_d_usage + i_b * N, i_n, m_n, ACC)
    mark = tl.load(p_marks + i_tb * N + i_n, mask=m_n, other=0).to(tl.int32)
    i_i = tl.arange(0, BI)
    if p_d_first is not None:
        p_w = tl.where(tl.load(p_phase + i_tb) == ANEW, p_first_weights, p_w)
    follow(EARLY)
    if p_phase is None or tl.load(p_phase + i_tb) != ENDED:
        p_b = p_key + 2 * R * W + R if STRENGTHS else None
        p_d_b = p_d_key + 2 * R * W + R if STRENGTHS else None
        D_M = lrua.read_backward(
            D_M, X, i_n, m_n, grad_usage, p_d_output + i_b * (D + R * W) + D, p_d_w, None, p_key, p_b, p_w_after,
            p_d_key, p_d_b, N, W, R, W0, W1, ACC,
        )  # fmt: skip
        tl.debug_barrier()  # every thread has read the gradient of read weights
        D_M = lrua.write_backward(
            D_M, mark, i_n, m_n, grad_usage, None, p_w, p_key + 2 * R * W, p_key + R * W,
            p_d_w, p_d_key + 2 * R * W, p_d_key + R * W, N, W, R, n, PER_HEAD, W0, W1, ACC,
        )  # fmt: skip
        d_usage = DECAY * grad_usage
        if p_d_first is not None:
            if tl.load(p_phase + i_tb) == ANEW:
                p_first = p_d_first + i_b * N * W
                ones = tl.full((BN,), 1.0, ACC)
                D_first = add_scaled(load_rows(p_first, i_n, m_n, W, W0, W1, ACC), ones, D_M)
                store_rows(p_first, D_first, i_n, m_n, W, W0, W1)
                D_M, d_usage = zero_rows(BN, W0, W1, ACC), tl.zeros_like(d_usage)
                tl.debug_barrier()  # every thread has written the gradient of read weights
                for h in tl.range(R):
                    tl.store(p_d_w + h * N + i_n, tl.zeros_like(d_usage), mask=m_n)
        tl.store(p_d_usage + i_b * N + i_n, d_usage, mask=m_n)
        store_rows(p_d_memory + i_b * N * W, D_M, i_n, m_n, W, W0, W1)
        tl.debug_barrier()  # every thread has written the gradient of the interface vector
        y = tl.load(p_key + i_i, mask=i_i < I, other=0.0)
        slope = tl.where(i_i < 2 * R * W, 1 - y * y, 1.0)
        if STRENGTHS:
            slope = tl.where(i_i >= 2 * R * W + R, 1 - tl.exp(1 - y), slope)  # of softplus, from its value
        d_y = tl.load(p_d_key + i_i, mask=i_i < I, other=0.0)
        tl.debug_barrier()  # every thread has read it
        tl.store(p_d_key + i_i, d_y * slope, mask=i_i < I)
    else:
        tl.store(p_d_key + i_i, tl.zeros((BI,), ACC), mask=i_i < I)
