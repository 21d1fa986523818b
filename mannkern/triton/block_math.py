"""Block mathematics: loads, stores, dot products and norms of the block of slots that a program holds.

Nothing here knows about LRUA, so every kernel shares these functions. A block of rows (BN, W) is a tuple of one or two
parts, (BN, W0) and (BN, W1), because Triton's sizes are powers of two: W = 40 is 32 + 8, where padding to 64 would
waste a third. One row (W) is a tuple in the same way. All arithmetic is in the type ACC, float32 or float64; loads and
stores convert other types. The columns of the second part are declared less aligned than they are (multiple_of), so
that Triton spreads them over as many lanes as the first part and moves nothing between lanes where the two meet.

Equal rows give equal bits wherever they lie, because the order in which columns are summed does not depend on the row,
and because products and sums are fused where the source says so, and nowhere else (``launch.common.compile_options``).
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit
def load_rows(p, i_n, m_n, W: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, ACC: tl.constexpr):
    """Load rows i_n of p (., W); a row is 0 where m_n is false."""
    i_0 = tl.arange(0, W0)
    part = tl.load(p + i_n[:, None] * W + i_0[None, :], mask=m_n[:, None] & (i_0 < W)[None, :], other=0.0).to(ACC)
    if W1 == 0:
        return (part,)
    else:
        i_1 = tl.multiple_of(W0 + tl.arange(0, W1), tl.constexpr(max(1, 4 * W1 // W0)))
        rest = tl.load(p + i_n[:, None] * W + i_1[None, :], mask=m_n[:, None] & (i_1 < W)[None, :], other=0.0).to(ACC)
        return part, rest


@triton.jit
def zero_rows(BN: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, ACC: tl.constexpr):
    """A block of rows that are 0."""
    part = tl.zeros((BN, W0), ACC)
    if W1 == 0:
        return (part,)
    else:
        return part, tl.zeros((BN, W1), ACC)


@triton.jit
def load_slots(p, i_n, m_n, ACC: tl.constexpr):
    """Load elements i_n of p (N); an element is 0 where m_n is false, or everywhere if p is None."""
    if p is None:
        return tl.zeros_like(i_n).to(ACC)
    else:
        return tl.load(p + i_n, mask=m_n, other=0.0).to(ACC)


@triton.jit
def store_rows(p, rows, i_n, m_n, W: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr):
    """Store rows i_n of p (., W) where m_n is true."""
    i_0 = tl.arange(0, W0)
    tl.store(p + i_n[:, None] * W + i_0[None, :], rows[0], mask=m_n[:, None] & (i_0 < W)[None, :])
    if W1 > 0:
        i_1 = tl.multiple_of(W0 + tl.arange(0, W1), tl.constexpr(max(1, 4 * W1 // W0)))
        tl.store(p + i_n[:, None] * W + i_1[None, :], rows[1], mask=m_n[:, None] & (i_1 < W)[None, :])


@triton.jit
def load_row(p, W: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr, ACC: tl.constexpr):
    """Load the row (W) at p."""
    i_0 = tl.arange(0, W0)
    part = tl.load(p + i_0, mask=i_0 < W, other=0.0).to(ACC)
    if W1 == 0:
        return (part,)
    else:
        i_1 = W0 + tl.arange(0, W1)
        return part, tl.load(p + i_1, mask=i_1 < W, other=0.0).to(ACC)


@triton.jit
def zero_row(W0: tl.constexpr, W1: tl.constexpr, ACC: tl.constexpr):
    """A row of zeros."""
    part = tl.zeros((W0,), ACC)
    if W1 == 0:
        return (part,)
    else:
        return part, tl.zeros((W1,), ACC)


@triton.jit
def store_row(p, row, W: tl.constexpr, W0: tl.constexpr, W1: tl.constexpr):
    """Store the row (W) at p."""
    i_0 = tl.arange(0, W0)
    tl.store(p + i_0, row[0], mask=i_0 < W)
    if W1 > 0:
        i_1 = W0 + tl.arange(0, W1)
        tl.store(p + i_1, row[1], mask=i_1 < W)


@triton.jit
def halves_of_columns(x):
    """The even and the odd columns of a block or row."""
    AXIS: tl.constexpr = len(x.shape) - 1
    return tl.split(tl.reshape(x, x.shape[:AXIS] + [x.shape[AXIS] // 2, 2]))


@triton.jit
def add_products(total, x, y):
    """total + x y, where each column of total takes the sum over as many neighbouring columns as x has for it."""
    if x.shape[-1] == total.shape[-1]:
        return tl.fma(x, y, total)
    else:
        x_even, x_odd = halves_of_columns(x)
        y_even, y_odd = halves_of_columns(y)
        return add_products(add_products(total, x_even, y_even), x_odd, y_odd)


@triton.jit
def sum_products(x, y, ACC: tl.constexpr):
    """The sum over columns of x y: (BN) of blocks, a number of rows. A thread adds its columns before lanes do."""
    AXIS: tl.constexpr = len(x[0].shape) - 1
    W0: tl.constexpr = x[0].shape[AXIS]
    LANES: tl.constexpr = W0 if ACC == tl.float64 else max(W0 // 4, 1)  # a thread loads 16 bytes; float64 would spill
    total = add_products(tl.full(x[0].shape[:AXIS] + [LANES], 0.0, ACC), x[0], y[0])
    if len(x) == 1:
        return tl.sum(total, AXIS)
    elif x[1].shape[AXIS] >= LANES:
        return tl.sum(add_products(total, x[1], y[1]), AXIS)
    else:
        folded = tl.reshape(total, x[1].shape + [LANES // x[1].shape[AXIS]])
        return tl.sum(tl.fma(x[1], y[1], tl.sum(folded, AXIS + 1)), AXIS)


@triton.jit
def dot(rows, row, ACC: tl.constexpr):
    """The dot product of each row with one row: (BN)."""
    if len(rows) == 1:
        return sum_products(rows, (tl.broadcast_to(row[0][None, :], rows[0].shape),), ACC)
    else:
        first = tl.broadcast_to(row[0][None, :], rows[0].shape)
        return sum_products(rows, (first, tl.broadcast_to(row[1][None, :], rows[1].shape)), ACC)


@triton.jit
def weighted_sum(rows, weights):
    """sum_i weights(i) rows(i): one row."""
    part = tl.sum(rows[0] * weights[:, None], 0)
    if len(rows) == 1:
        return (part,)
    else:
        return part, tl.sum(rows[1] * weights[:, None], 0)


@triton.jit
def add_outer(rows, weights, row):
    """rows(i) + weights(i) row."""
    part = tl.fma(weights[:, None], row[0][None, :], rows[0])
    if len(rows) == 1:
        return (part,)
    else:
        return part, tl.fma(weights[:, None], row[1][None, :], rows[1])


@triton.jit
def add_scaled(rows, weights, others):
    """rows(i) + weights(i) others(i)."""
    part = tl.fma(weights[:, None], others[0], rows[0])
    if len(rows) == 1:
        return (part,)
    else:
        return part, tl.fma(weights[:, None], others[1], rows[1])


@triton.jit
def clear(rows, m_clear):
    """Set the rows where m_clear is true to 0."""
    part = tl.where(m_clear[:, None], 0.0, rows[0])
    if len(rows) == 1:
        return (part,)
    else:
        return part, tl.where(m_clear[:, None], 0.0, rows[1])


@triton.jit
def choose_rows(m_first, rows, others):
    """The rows where m_first is true, the others elsewhere."""
    part = tl.where(m_first[:, None], rows[0], others[0])
    if len(rows) == 1:
        return (part,)
    else:
        return part, tl.where(m_first[:, None], rows[1], others[1])


@triton.jit
def scale_row(row, x):
    """x times a row."""
    if len(row) == 1:
        return (row[0] * x,)
    else:
        return row[0] * x, row[1] * x


@triton.jit
def scale_rows(rows, weights):
    """weights(i) rows(i)."""
    if len(rows) == 1:
        return (rows[0] * weights[:, None],)
    else:
        return rows[0] * weights[:, None], rows[1] * weights[:, None]


@triton.jit
def subtract_scaled(row, x, other):
    """row - x other."""
    if len(row) == 1:
        return (tl.fma(-x, other[0], row[0]),)
    else:
        return tl.fma(-x, other[0], row[0]), tl.fma(-x, other[1], row[1])


@triton.jit
def eps(ACC: tl.constexpr):
    """The eps of torch.nn.functional.cosine_similarity, under which a norm counts as eps."""
    return tl.full((), 1e-8, ACC)


@triton.jit
def norm(x, ACC: tl.constexpr):
    """max(|x|, eps) of each row of a block, or of one row. If the squares overflow, they are summed scaled down."""
    DOWN: tl.constexpr = 2.0**-600 if ACC == tl.float64 else 2.0**-70
    square = sum_products(x, x, ACC)
    size = tl.sqrt(square)
    if has_infinity(square):
        y = scale_row(x, DOWN)
        size = tl.where(square < float("inf"), size, tl.sqrt(sum_products(y, y, ACC)) * (1 / DOWN))
    return tl.maximum(size, eps(ACC))


@triton.jit
def has_infinity(x):
    """Whether a number, or one of the numbers (BN), is infinite."""
    if len(x.shape) == 0:
        return x == float("inf")
    else:
        return tl.max(x, 0) == float("inf")


@triton.jit
def sigmoid(x):
    """1 / (1 + exp(-x)). The exponent is never positive, so that no number overflows into NaN."""
    e = tl.exp(-tl.abs(x))
    return tl.where(x < 0, e, 1.0) / (1 + e)


@triton.jit
def follow(EARLY: tl.constexpr):
    """Wait for the kernel before, then let the one behind begin: with EARLY, a kernel starts before its turn.

    What stands in front of this call may read only what was written two kernels before, or earlier. It then runs beside
    the kernel before (programmatic dependent launch, from sm_90 on).
    """
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()
