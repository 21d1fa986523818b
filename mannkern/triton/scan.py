"""Kernels of a whole scan: a program keeps the memory of an episode on the chip for all T steps.

Read weights pass from step to step through device memory, in the buffer of the result. The backward pass keeps no
memory of every step: it starts from copies that are ``span`` steps apart, and computes the steps between again.

Loops of the backward passes keep their address arithmetic inside (disable_licm): hoisted, it spills registers.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mannkern.triton import lrua
from mannkern.triton.blocks import load_rows, load_slots, order, smallest, store_rows, zero_rows


@triton.jit
def copy_weights(p_to, p_from, i_n, m_n, N: tl.constexpr, R: tl.constexpr, ACC: tl.constexpr):
    """Weights (R, N) from one place to another, zeros from None."""
    for h in range(R):
        tl.store(
            p_to + h * N + i_n, load_slots((p_from + h * N if p_from is not None else None), i_n, m_n, ACC), mask=m_n
        )


@triton.jit(do_not_specialize=["B", "T", "span"])
def scan_forward(
    p_memory, p_weights, p_usage, p_keys, p_adds, p_gates, p_strengths,
    p_reads, p_memory_out, p_weights_out, p_usage_out, p_marks, p_copies, p_weights_copies, B, T, span,
    N: tl.constexpr, W: tl.constexpr, R: tl.constexpr, n: tl.constexpr, PER_HEAD: tl.constexpr, DECAY: tl.constexpr,
    BN: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Grid (B). p_marks (T, B, N), and p_copies and p_weights_copies (ceil(T / span) - 1, B, ...), the state before
    steps span, 2 span, ...: what the backward pass needs; None without one.

    Bytes of an episode and step, float32: key, add and read 12 R W; read weights written and read 8 R N, mostly in
    cache; marks N; copies 4 N W / span. FLOPs: those of a step, N W (6 R + 4) and about 12 N R.
    """
    i_b = tl.program_id(0).to(tl.int64)
    i_n = tl.arange(0, BN)
    m_n = i_n < N
    X = load_rows(p_memory + i_b * N * W, i_n, m_n, W, W0, W1, ACC)
    usage = load_slots(p_usage + i_b * N, i_n, m_n, ACC)
    p_w = p_weights_out + i_b * R * N
    copy_weights(p_w, p_weights + i_b * R * N, i_n, m_n, N, R, ACC)
    tl.debug_barrier()
    for t in range(T):
        i_tb = i_b + t * B.to(tl.int64)
        if p_copies is not None:
            if (t > 0) & (t % span == 0):
                i_copy = i_b + (t // span - 1) * B.to(tl.int64)
                store_rows(p_copies + i_copy * N * W, X, i_n, m_n, W, W0, W1)
                copy_weights(p_weights_copies + i_copy * R * N, p_w, i_n, m_n, N, R, ACC)
        p_b = p_strengths + i_tb * R if p_strengths is not None else None
        mark = smallest(order(usage, ACC), i_n, m_n, n, ACC)
        if p_marks is not None:
            tl.store(p_marks + i_tb * N + i_n, mark, mask=m_n)
        X, writes = lrua.write(
            X, mark, i_n, m_n, p_w, p_gates + i_tb * R, p_adds + i_tb * R * W, None,
            N, W, R, n, PER_HEAD, W0, W1, ACC,
        )  # fmt: skip
        tl.debug_barrier()  # all of the weights are read
        reads = lrua.read(
            X, i_n, m_n, p_keys + i_tb * R * W, p_b, p_reads + i_tb * R * W, p_w,
            N, W, R, W0, W1, ACC,
        )  # fmt: skip
        usage = DECAY * usage + reads + writes
        tl.debug_barrier()  # all of the weights are written
    store_rows(p_memory_out + i_b * N * W, X, i_n, m_n, W, W0, W1)
    tl.store(p_usage_out + i_b * N + i_n, usage, mask=m_n)


@triton.jit(do_not_specialize=["B", "T", "span"])
def scan_backward(
    p_grad_reads, p_grad_memory, p_grad_weights, p_grad_usage,
    p_memory, p_weights, p_keys, p_adds, p_gates, p_strengths, p_marks, p_copies, p_weights_copies,
    p_to_memory, p_to_weights, p_to_usage, p_to_keys, p_to_adds, p_to_gates, p_to_strengths,
    p_scratch, p_weights_scratch, B, T, span,
    N: tl.constexpr, W: tl.constexpr, R: tl.constexpr, n: tl.constexpr, PER_HEAD: tl.constexpr, DECAY: tl.constexpr,
    BN: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Grid (programs): each takes every programs-th episode. p_to_weights, in ACC, is also where the gradient of read
    weights passes from step to step. Scratch (programs, span, N, W) and (programs, span + 1, R, N) holds the steps
    between two copies.

    Bytes of an episode and step, float32: memory to and from the scratch 8 N W; key, add, read and the gradients of
    each 24 R W; weights 20 R N, mostly in cache; marks 2 N. FLOPs: a step forward and backward, N W (18 R + 14).
    """
    i_p = tl.program_id(0).to(tl.int64)
    i_n = tl.arange(0, BN)
    m_n = i_n < N
    p_s = p_scratch + i_p * span * N * W
    p_ws = p_weights_scratch + i_p * (span + 1) * R * N
    for episode in range(tl.program_id(0), B, tl.num_programs(0)):
        i_b = episode + i_p * 0
        if p_grad_memory is not None:
            D = load_rows(p_grad_memory + i_b * N * W, i_n, m_n, W, W0, W1, ACC)
        else:
            D = zero_rows(BN, W0, W1, ACC)
        grad_usage = load_slots((p_grad_usage + i_b * N if p_grad_usage is not None else None), i_n, m_n, ACC)
        p_dw = p_to_weights + i_b * R * N
        copy_weights(p_dw, (p_grad_weights + i_b * R * N if p_grad_weights is not None else None), i_n, m_n, N, R, ACC)
        segments = (T + span - 1) // span
        for later in tl.range(segments, disable_licm=True):
            segment = segments - 1 - later
            begin = segment * span
            end = tl.minimum(begin + span, T)
            i_copy = i_b + (segment - 1) * B.to(tl.int64)
            if segment > 0:
                X = load_rows(p_copies + i_copy * N * W, i_n, m_n, W, W0, W1, ACC)
                copy_weights(p_ws, p_weights_copies + i_copy * R * N, i_n, m_n, N, R, ACC)
            else:
                X = load_rows(p_memory + i_b * N * W, i_n, m_n, W, W0, W1, ACC)
                copy_weights(p_ws, p_weights + i_b * R * N, i_n, m_n, N, R, ACC)
            tl.debug_barrier()
            for t in tl.range(begin, end, disable_licm=True):
                i_tb = i_b + t * B.to(tl.int64)
                p_b = p_strengths + i_tb * R if p_strengths is not None else None
                p_w = p_ws + (t - begin) * R * N
                mark = tl.load(p_marks + i_tb * N + i_n, mask=m_n, other=0).to(tl.int32)
                X, _ = lrua.write(
                    X, mark, i_n, m_n, p_w, p_gates + i_tb * R, p_adds + i_tb * R * W, None,
                    N, W, R, n, PER_HEAD, W0, W1, ACC,
                )  # fmt: skip
                store_rows(p_s + (t - begin) * N * W, X, i_n, m_n, W, W0, W1)
                lrua.read(
                    X, i_n, m_n, p_keys + i_tb * R * W, p_b, None, p_w + R * N,
                    N, W, R, W0, W1, ACC,
                )  # fmt: skip
                tl.debug_barrier()
            for back in tl.range(end - begin, disable_licm=True):
                t = end - 1 - back
                i_tb = i_b + t * B.to(tl.int64)
                p_dr = p_grad_reads + i_tb * R * W if p_grad_reads is not None else None
                p_b = p_strengths + i_tb * R if p_strengths is not None else None
                p_db = p_to_strengths + i_tb * R if p_to_strengths is not None else None
                p_w = p_ws + (t - begin) * R * N
                X = load_rows(p_s + (t - begin) * N * W, i_n, m_n, W, W0, W1, ACC)
                D = lrua.read_backward(
                    D, X, i_n, m_n, grad_usage, p_dr, p_dw, None, p_keys + i_tb * R * W,
                    p_b, p_w + R * N, p_to_keys + i_tb * R * W, p_db,
                    N, W, R, W0, W1, ACC,
                )  # fmt: skip
                tl.debug_barrier()  # all of the gradient of read weights is read
                mark = tl.load(p_marks + i_tb * N + i_n, mask=m_n, other=0).to(tl.int32)
                D = lrua.write_backward(
                    D, mark, i_n, m_n, grad_usage, None, p_w, p_gates + i_tb * R, p_adds + i_tb * R * W,
                    p_dw, p_to_gates + i_tb * R, p_to_adds + i_tb * R * W,
                    N, W, R, n, PER_HEAD, W0, W1, ACC,
                )  # fmt: skip
                grad_usage = DECAY * grad_usage
                tl.debug_barrier()  # and all of it is written
        store_rows(p_to_memory + i_b * N * W, D, i_n, m_n, W, W0, W1)
        tl.store(p_to_usage + i_b * N + i_n, grad_usage, mask=m_n)
