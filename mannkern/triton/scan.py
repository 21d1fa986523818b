"""Kernels of the operation ``lrua_scan``: a program holds the memory of an episode on the chip for all T steps.

Only keys, adds, gates and reads then move in each step; read weights pass from step to step through the buffer of the
result. No memory is saved for every step: the backward pass starts from checkpoints that are ``checkpoint_every``
steps apart, and computes the steps between two of them again.

Loops of the backward pass keep their address arithmetic inside (disable_licm), because hoisted it spills registers.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mannkern.triton import lrua
from mannkern.triton.block_math import load_rows, load_slots, store_rows, zero_rows
from mannkern.triton.least_used import smallest, sort_key


@triton.jit
def copy_weights(p_out, p_in, i_n, m_n, N: tl.constexpr, R: tl.constexpr, ACC: tl.constexpr):
    """Copy weights (R, N) from p_in to p_out; zeros, if p_in is None."""
    for h in range(R):
        tl.store(p_out + h * N + i_n, load_slots((p_in + h * N if p_in is not None else None), i_n, m_n, ACC), mask=m_n)


@triton.jit(do_not_specialize=["B", "T", "checkpoint_every"])
def scan_forward(
    p_memory, p_weights, p_usage, p_keys, p_adds, p_gates, p_strengths,
    p_reads, p_memory_out, p_weights_out, p_usage_out, p_marks, p_checkpoints, p_weights_checkpoints,
    B, T, checkpoint_every,
    N: tl.constexpr, W: tl.constexpr, R: tl.constexpr, n: tl.constexpr, PER_HEAD: tl.constexpr, DECAY: tl.constexpr,
    BN: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """T steps forward. Grid (B).

    For the backward pass it stores the marks of every step, p_marks (T, B, N), and checkpoints of memory and read
    weights, (ceil(T / checkpoint_every) - 1, B, ...): the state before steps checkpoint_every, 2 checkpoint_every, ...
    These pointers are None if there will be no backward pass.

    Bytes per episode and step in float32: key, add and read 12 R W; read weights written and read 8 R N, mostly in
    cache; marks N; checkpoints 4 N W / checkpoint_every. FLOPs: those of a step, N W (6 R + 4) and about 12 N R.
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
        if p_checkpoints is not None:
            if (t > 0) & (t % checkpoint_every == 0):
                i_checkpoint = i_b + (t // checkpoint_every - 1) * B.to(tl.int64)
                store_rows(p_checkpoints + i_checkpoint * N * W, X, i_n, m_n, W, W0, W1)
                copy_weights(p_weights_checkpoints + i_checkpoint * R * N, p_w, i_n, m_n, N, R, ACC)
        p_b = p_strengths + i_tb * R if p_strengths is not None else None
        mark = smallest(sort_key(usage, ACC), i_n, m_n, n, ACC)
        if p_marks is not None:
            tl.store(p_marks + i_tb * N + i_n, mark, mask=m_n)
        X, writes = lrua.write(
            X, mark, i_n, m_n, p_w, p_gates + i_tb * R, p_adds + i_tb * R * W, None,
            N, W, R, n, PER_HEAD, W0, W1, ACC,
        )  # fmt: skip
        tl.debug_barrier()  # every thread has read the weights
        reads = lrua.read(
            X, i_n, m_n, p_keys + i_tb * R * W, p_b, p_reads + i_tb * R * W, p_w,
            N, W, R, W0, W1, ACC,
        )  # fmt: skip
        usage = lrua.update_usage(usage, reads, writes, DECAY)
        tl.debug_barrier()  # every thread has written the weights
    store_rows(p_memory_out + i_b * N * W, X, i_n, m_n, W, W0, W1)
    tl.store(p_usage_out + i_b * N + i_n, usage, mask=m_n)


@triton.jit(do_not_specialize=["B", "T", "checkpoint_every"])
def scan_backward(
    p_grad_reads, p_grad_memory, p_grad_weights, p_grad_usage,
    p_memory, p_weights, p_keys, p_adds, p_gates, p_strengths, p_marks, p_checkpoints, p_weights_checkpoints,
    p_d_memory, p_d_weights, p_d_usage, p_d_keys, p_d_adds, p_d_gates, p_d_strengths,
    p_scratch, p_weights_scratch, B, T, checkpoint_every,
    N: tl.constexpr, W: tl.constexpr, R: tl.constexpr, n: tl.constexpr, PER_HEAD: tl.constexpr, DECAY: tl.constexpr,
    BN: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Backward of ``scan_forward``. Grid (programs), where each program takes every programs-th episode.

    Between two checkpoints it computes the steps again, last segment first, and stores their memories in p_scratch
    (programs, checkpoint_every, N, W) and their read weights in p_weights_scratch (programs, checkpoint_every + 1, R,
    N); then it goes back through them. p_d_weights has type ACC, because the gradient of read weights also passes from
    step to step through it.

    Bytes per episode and step in float32: memory to and from the scratch 8 N W; key, add, read and the gradients of
    each 24 R W; weights 20 R N, mostly in cache; marks 2 N. FLOPs: a step forward and backward, N W (18 R + 14).
    """
    i_p = tl.program_id(0).to(tl.int64)
    i_n = tl.arange(0, BN)
    m_n = i_n < N
    p_s = p_scratch + i_p * checkpoint_every * N * W
    p_ws = p_weights_scratch + i_p * (checkpoint_every + 1) * R * N
    for episode in tl.range(tl.program_id(0), B, tl.num_programs(0), disable_licm=True):
        i_b = episode + i_p * 0
        if p_grad_memory is not None:
            D = load_rows(p_grad_memory + i_b * N * W, i_n, m_n, W, W0, W1, ACC)
        else:
            D = zero_rows(BN, W0, W1, ACC)
        grad_usage = load_slots((p_grad_usage + i_b * N if p_grad_usage is not None else None), i_n, m_n, ACC)
        p_d_w = p_d_weights + i_b * R * N
        copy_weights(p_d_w, (p_grad_weights + i_b * R * N if p_grad_weights is not None else None), i_n, m_n, N, R, ACC)
        segments = (T + checkpoint_every - 1) // checkpoint_every
        for segments_after in tl.range(segments, disable_licm=True):
            segment = segments - 1 - segments_after
            begin = segment * checkpoint_every
            end = tl.minimum(begin + checkpoint_every, T)
            i_checkpoint = i_b + (segment - 1) * B.to(tl.int64)
            if segment > 0:
                X = load_rows(p_checkpoints + i_checkpoint * N * W, i_n, m_n, W, W0, W1, ACC)
                copy_weights(p_ws, p_weights_checkpoints + i_checkpoint * R * N, i_n, m_n, N, R, ACC)
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
            for steps_after in tl.range(end - begin, disable_licm=True):
                t = end - 1 - steps_after
                i_tb = i_b + t * B.to(tl.int64)
                p_grad_r = p_grad_reads + i_tb * R * W if p_grad_reads is not None else None
                p_b = p_strengths + i_tb * R if p_strengths is not None else None
                p_d_b = p_d_strengths + i_tb * R if p_d_strengths is not None else None
                p_w = p_ws + (t - begin) * R * N
                X = load_rows(p_s + (t - begin) * N * W, i_n, m_n, W, W0, W1, ACC)
                D = lrua.read_backward(
                    D, X, i_n, m_n, grad_usage, p_grad_r, p_d_w, None, p_keys + i_tb * R * W,
                    p_b, p_w + R * N, p_d_keys + i_tb * R * W, p_d_b,
                    N, W, R, W0, W1, ACC,
                )  # fmt: skip
                tl.debug_barrier()  # every thread has read the gradient of read weights
                mark = tl.load(p_marks + i_tb * N + i_n, mask=m_n, other=0).to(tl.int32)
                D = lrua.write_backward(
                    D, mark, i_n, m_n, grad_usage, None, p_w, p_gates + i_tb * R, p_adds + i_tb * R * W,
                    p_d_w, p_d_gates + i_tb * R, p_d_adds + i_tb * R * W,
                    N, W, R, n, PER_HEAD, W0, W1, ACC,
                )  # fmt: skip
                grad_usage = DECAY * grad_usage
                tl.debug_barrier()  # every thread has written it
        store_rows(p_d_memory + i_b * N * W, D, i_n, m_n, W, W0, W1)
        tl.store(p_d_usage + i_b * N + i_n, grad_usage, mask=m_n)
