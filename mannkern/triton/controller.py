"""Kernels of an episode's controller, an LSTM or one tanh layer, and of the layer that gives the interface vector.

Each is one matrix product of a step with the activation behind it, or its gradient. A program owns BB episodes and a
few columns of the result. Letters: D hidden units, O = D + R W columns of an output [h, r], I columns of the interface
vector, G columns of gates. Buffers of all steps are (T, B, ...), ``t`` is the step, ``p_phase`` is as in ``phases``.

What stands in front of ``product`` may run beside the kernel before, and so reads nothing of that (block_math.follow).
"""

from __future__ import annotations

import triton
import triton.language as tl

from mannkern.triton.activations import strength, tanh
from mannkern.triton.block_math import sigmoid
from mannkern.triton.phases import ANEW, ENDED, load_phase
from mannkern.triton.product import block, product


@triton.jit(do_not_specialize=["t", "t_before", "slot", "slot_after", "B"])
def lstm_forward(
    p_before, p_w, p_gates, p_cells, p_outputs, p_phase, t, t_before, slot, slot_after, B,
    D: tl.constexpr, O: tl.constexpr, BB: tl.constexpr, BO: tl.constexpr, S: tl.constexpr, BK: tl.constexpr,
    ACC: tl.constexpr, PRECISION: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """The LSTM of step t, for BO / 4 units. Grid (blocks of units, blocks of episodes).

    p_gates (T, B, 4D) holds the products with the input plus biases on entry, the activated gates on exit. p_before
    (., B, O) holds [h, r] of the step before, at t_before; p_w (4D, O) is the recurrent weight. p_cells (., B, D) has c
    before the step at ``slot`` and gets that after it at ``slot_after``. h goes to p_outputs (T, B, O).

    Bytes in float32: weights 16 D O once, from the cache for each block of episodes; an episode's gates 32 D, c 8 D,
    [h, r] 4 O for each block of units, h 4 D. FLOPs: 8 D O an episode.
    """
    i_b, m_b = block(tl.program_id(1) * BB, B, BB)
    i_o = tl.arange(0, BO)
    i_unit = tl.program_id(0) * (BO // 4) + i_o // 4  # the four gates of a unit lie side by side
    m_o = i_unit < D
    i_gate = (i_o % 4) * D + i_unit
    m_gates = m_b[:, None] & m_o[None, :]
    p_g = p_gates + t.to(tl.int64) * B * (4 * D) + i_b[:, None] * (4 * D) + i_gate[None, :]
    x = tl.load(p_g, mask=m_gates, other=0.0)
    i_d, m_d = block(tl.program_id(0) * (BO // 4), D, BO // 4)
    m = m_b[:, None] & m_d[None, :]
    i_cell = i_b[:, None] * D + i_d[None, :]
    c = tl.load(p_cells + slot.to(tl.int64) * B * D + i_cell, mask=m, other=0.0)
    m_x = m_b
    if p_phase is not None:
        phase = load_phase(p_phase, t, B, i_b, m_b)
        m_x = m_b & (phase != ANEW)
        c = tl.where((phase == ANEW)[:, None], 0.0, c)
    p_x = p_before + t_before.to(tl.int64) * B * O
    x += product(p_x, p_w, i_b, m_x, i_gate, m_o, O, 1, O, O, S, BK, ACC, PRECISION, EARLY)
    y = tl.where((i_o % 4 == 2)[None, :], tanh(x, ACC), sigmoid(x))
    tl.store(p_g, y, mask=m_gates)
    i, f, g, o = split_gates(y)
    c_after = f * c + i * g
    h = o * tanh(c_after, ACC)
    if p_phase is not None:
        ended = (phase == ENDED)[:, None]
        c_after, h = tl.where(ended, c, c_after), tl.where(ended, 0.0, h)
    tl.store(p_cells + slot_after.to(tl.int64) * B * D + i_cell, c_after, mask=m)
    tl.store(p_outputs + t.to(tl.int64) * B * O + i_b[:, None] * O + i_d[None, :], h, mask=m)


@triton.jit
def split_gates(x):
    """Columns (BB, 4 U), where the gates i, f, g, o of a unit lie side by side, as four blocks (BB, U)."""
    even, odd = tl.split(tl.reshape(x, (x.shape[0], x.shape[1] // 4, 2, 2)))
    i, g = tl.split(even)
    f, o = tl.split(odd)
    return i, f, g, o


@triton.jit(do_not_specialize=["t", "t_before", "B"])
def layer_forward(
    p_before, p_w, p_gates, p_outputs, p_phase, t, t_before, B,
    D: tl.constexpr, O: tl.constexpr, BB: tl.constexpr, BO: tl.constexpr, S: tl.constexpr, BK: tl.constexpr,
    ACC: tl.constexpr, PRECISION: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """The tanh layer of step t. Grid (blocks of units, blocks of episodes). p_w (D, O - D) is its weight for r.

    p_gates (T, B, D) holds the products with the input plus bias. h goes to p_outputs (T, B, O).

    Bytes in float32: weights 4 D (O - D) once, from the cache for each block of episodes; an episode's products and h
    8 D, r 4 (O - D) for each block of units. FLOPs: 2 D (O - D) an episode.
    """
    i_b, m_b = block(tl.program_id(1) * BB, B, BB)
    i_d, m_d = block(tl.program_id(0) * BO, D, BO)
    p_r = p_before + t_before.to(tl.int64) * B * O + D
    m = m_b[:, None] & m_d[None, :]
    x = tl.load(p_gates + t.to(tl.int64) * B * D + i_b[:, None] * D + i_d[None, :], mask=m, other=0.0)
    m_x = m_b
    if p_phase is not None:
        phase = load_phase(p_phase, t, B, i_b, m_b)
        m_x = m_b & (phase != ANEW)
    x += product(p_r, p_w, i_b, m_x, i_d, m_d, O, 1, O - D, O - D, S, BK, ACC, PRECISION, EARLY)
    h = tanh(x, ACC)
    if p_phase is not None:
        h = tl.where((phase == ENDED)[:, None], 0.0, h)
    tl.store(p_outputs + t.to(tl.int64) * B * O + i_b[:, None] * O + i_d[None, :], h, mask=m)


@triton.jit(do_not_specialize=["t", "slot", "B"])
def interface_forward(
    p_outputs, p_w, p_bias, p_interface, t, slot, B,
    D: tl.constexpr, O: tl.constexpr, I: tl.constexpr, TANH: tl.constexpr, RAW: tl.constexpr,
    BB: tl.constexpr, BO: tl.constexpr, S: tl.constexpr, BK: tl.constexpr,
    ACC: tl.constexpr, PRECISION: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """The interface vectors of step t, at ``slot`` of p_interface (., B, I). Grid (blocks of I, blocks of episodes).

    The first TANH columns, keys and adds, are activated by tanh; the next RAW, gates, stay; the others are strengths.

    Bytes in float32: weights 4 I D once, from the cache for each block of episodes; an episode's h 4 D for each block
    of columns, interface vector 4 I. FLOPs: 2 I D an episode.
    """
    i_b, m_b = block(tl.program_id(1) * BB, B, BB)
    i_o, m_o = block(tl.program_id(0) * BO, I, BO)
    p_h = p_outputs + t.to(tl.int64) * B * O
    bias = tl.load(p_bias + i_o, mask=m_o, other=0.0)
    x = product(p_h, p_w, i_b, m_b, i_o, m_o, O, 1, D, D, S, BK, ACC, PRECISION, EARLY) + bias[None, :]
    y = tl.where((i_o < TANH)[None, :], tanh(x, ACC), x)
    if TANH + RAW < I:
        y = tl.where((i_o >= TANH + RAW)[None, :], strength(x), y)
    p = p_interface + slot.to(tl.int64) * B * I + i_b[:, None] * I + i_o[None, :]
    tl.store(p, y, mask=m_b[:, None] & m_o[None, :])


@triton.jit
def hidden_gradient(
    p_d_interface, p_w, p_grad_h, p_phase, t, t_grad, B, i_b, m_b, i_d, m_d,
    D: tl.constexpr, O: tl.constexpr, I: tl.constexpr, S: tl.constexpr, BK: tl.constexpr,
    ACC: tl.constexpr, PRECISION: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """The gradient of h at step t: through the interface vector, plus that at t_grad of p_grad_h; 0 behind an end."""
    d_h = tl.zeros((i_b.shape[0], i_d.shape[0]), ACC)
    if p_grad_h is not None:
        p = p_grad_h + t_grad.to(tl.int64) * B * O + i_b[:, None] * O + i_d[None, :]
        d_h = tl.load(p, mask=m_b[:, None] & m_d[None, :], other=0.0)
    p_d_i = p_d_interface + t.to(tl.int64) * B * I
    d_h += product(p_d_i, p_w, i_b, m_b, i_d, m_d, I, D, 1, I, S, BK, ACC, PRECISION, EARLY)
    if p_phase is not None:
        d_h = tl.where((load_phase(p_phase, t, B, i_b, m_b) == ENDED)[:, None], 0.0, d_h)
    return d_h


@triton.jit(do_not_specialize=["t", "t_grad", "B"])
def lstm_backward(
    p_d_interface, p_w, p_grad_h, p_gates, p_cells, p_d_cell, p_d_gates, p_phase, t, t_grad, B,
    D: tl.constexpr, O: tl.constexpr, I: tl.constexpr,
    BB: tl.constexpr, BO: tl.constexpr, S: tl.constexpr, BK: tl.constexpr,
    ACC: tl.constexpr, PRECISION: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Backward of the interface's product and of the LSTM at step t, for BO units. Grid (units, episodes), in blocks.

    p_d_interface (T, B, I) is the gradient before the interface's activation, p_w (I, D) the interface's weight,
    p_gates the activated gates, p_cells (T + 1, B, D) the cells with the first one in front. p_d_cell (B, D) is updated
    in place; p_d_gates (T, B, 4D) gets the gradients before the gates' activation.

    Bytes in float32: weights 4 I D once, from the cache for each block of episodes; an episode's gates and their
    gradients 32 D, cells and their gradient 16 D, the gradient of the interface vector 4 I for each block of units.
    FLOPs: 2 I D an episode.
    """
    i_b, m_b = block(tl.program_id(1) * BB, B, BB)
    i_d, m_d = block(tl.program_id(0) * BO, D, BO)
    m = m_b[:, None] & m_d[None, :]
    i_gate = t.to(tl.int64) * B * (4 * D) + i_b[:, None] * (4 * D) + i_d[None, :]
    i = tl.load(p_gates + i_gate, mask=m, other=0.0)
    f = tl.load(p_gates + i_gate + D, mask=m, other=0.0)
    g = tl.load(p_gates + i_gate + 2 * D, mask=m, other=0.0)
    o = tl.load(p_gates + i_gate + 3 * D, mask=m, other=0.0)
    i_cell = i_b[:, None] * D + i_d[None, :]
    p_c = p_cells + t.to(tl.int64) * B * D + i_cell
    c = tl.load(p_c, mask=m, other=0.0)
    squashed = tanh(tl.load(p_c + B.to(tl.int64) * D, mask=m, other=0.0), ACC)
    d_c = tl.load(p_d_cell + i_cell, mask=m, other=0.0)
    d_h = hidden_gradient(
        p_d_interface, p_w, p_grad_h, p_phase, t, t_grad, B, i_b, m_b, i_d, m_d, D, O, I, S, BK, ACC, PRECISION, EARLY
    )
    d_c_after, d_c = d_c, d_c + d_h * o * (1 - squashed * squashed)
    d_c_before = d_c * f
    if p_phase is not None:
        phase = load_phase(p_phase, t, B, i_b, m_b)
        ended, anew = (phase == ENDED)[:, None], (phase == ANEW)[:, None]
        d_c, d_c_before = tl.where(ended, 0.0, d_c), tl.where(ended, d_c_after, d_c_before)
        c, d_c_before = tl.where(anew, 0.0, c), tl.where(anew, 0.0, d_c_before)
    tl.store(p_d_cell + i_cell, d_c_before, mask=m)
    tl.store(p_d_gates + i_gate, d_c * g * i * (1 - i), mask=m)
    tl.store(p_d_gates + i_gate + D, d_c * c * f * (1 - f), mask=m)
    tl.store(p_d_gates + i_gate + 2 * D, d_c * i * (1 - g * g), mask=m)
    tl.store(p_d_gates + i_gate + 3 * D, d_h * squashed * o * (1 - o), mask=m)


@triton.jit(do_not_specialize=["t", "t_grad", "B"])
def layer_backward(
    p_d_interface, p_w, p_grad_h, p_outputs, p_d_gates, p_phase, t, t_grad, B,
    D: tl.constexpr, O: tl.constexpr, I: tl.constexpr,
    BB: tl.constexpr, BO: tl.constexpr, S: tl.constexpr, BK: tl.constexpr,
    ACC: tl.constexpr, PRECISION: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Backward of the interface's product and of the tanh layer at step t. Grid as in ``lstm_backward``.

    p_outputs (T, B, O) has h; p_d_gates (T, B, D) gets the gradients before tanh.

    Bytes in float32: weights 4 I D once, from the cache for each block of episodes; an episode's h and gradients 12 D,
    the gradient of the interface vector 4 I for each block of units. FLOPs: 2 I D an episode.
    """
    i_b, m_b = block(tl.program_id(1) * BB, B, BB)
    i_d, m_d = block(tl.program_id(0) * BO, D, BO)
    m = m_b[:, None] & m_d[None, :]
    h = tl.load(p_outputs + t.to(tl.int64) * B * O + i_b[:, None] * O + i_d[None, :], mask=m, other=0.0)
    d_h = hidden_gradient(
        p_d_interface, p_w, p_grad_h, p_phase, t, t_grad, B, i_b, m_b, i_d, m_d, D, O, I, S, BK, ACC, PRECISION, EARLY
    )
    tl.store(p_d_gates + t.to(tl.int64) * B * D + i_b[:, None] * D + i_d[None, :], d_h * (1 - h * h), mask=m)


@triton.jit(do_not_specialize=["t", "B"])
def output_backward(
    p_d_gates, p_w, p_grad_outputs, p_d_output, p_phase, t, B,
    G: tl.constexpr, O: tl.constexpr, FIRST: tl.constexpr,
    BB: tl.constexpr, BO: tl.constexpr, S: tl.constexpr, BK: tl.constexpr,
    ACC: tl.constexpr, PRECISION: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Backward of the recurrent product at step t. Grid (blocks of columns, blocks of episodes).

    p_d_gates (T, B, G) are the gradients before the gates' activation, p_w (G, O - FIRST) the recurrent weight of the
    columns of [h, r] from FIRST on. p_d_output (B, O) gets there the whole gradient of the output of step t - 1: what
    the product gives plus p_grad_outputs (T, B, O) at t - 1.

    Bytes in float32: weights 4 G (O - FIRST) once, from the cache for each block of episodes; an episode's gradients of
    the outputs 8 (O - FIRST), of the gates 4 G for each block of columns. FLOPs: 2 G (O - FIRST) an episode.
    """
    i_b, m_b = block(tl.program_id(1) * BB, B, BB)
    i_o, m_o = block(tl.program_id(0) * BO, O - FIRST, BO)
    p_d_g = p_d_gates + t.to(tl.int64) * B * G
    m = m_b[:, None] & m_o[None, :]
    i_x = i_b[:, None] * O + FIRST + i_o[None, :]
    d_x = tl.zeros((BB, BO), ACC)
    if p_grad_outputs is not None:
        d_x = tl.load(p_grad_outputs + (t.to(tl.int64) - 1) * B * O + i_x, mask=m & (t > 0), other=0.0)
    m_x = m_b
    if p_phase is not None:
        m_x = m_b & (load_phase(p_phase, t, B, i_b, m_b) != ANEW)
    d_x += product(p_d_g, p_w, i_b, m_x, i_o, m_o, G, O - FIRST, 1, G, S, BK, ACC, PRECISION, EARLY)
    tl.store(p_d_output + i_x, d_x, mask=m)
