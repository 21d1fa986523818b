"""The NTM's operations equal values and gradients computed by hand, and the equations of the paper as loops.

Strengths of 5 ln 2 make every exponential a power of two, and all norms are 5, so that weights are fractions.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mannkern import functional
from tests.helpers import CASES, SMALL, Shape, arguments, convert, run_case

LN2_5 = 5 * math.log(2)
ROW, ROW_SHIFT = [1 / 2, 1 / 4, 1 / 4], [1 / 4, 1 / 4, 1 / 2]


def tensor(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def assert_equal(got: Tensor, expected: list, rtol: float = 1e-14) -> None:
    torch.testing.assert_close(got, tensor(expected), rtol=rtol, atol=2e-15)


def focus(weights: list, shift: list, sharpness: float, backend: str) -> list[float]:
    """shift_sharpen of one row of one head."""
    return functional.shift_sharpen(
        tensor([[weights]]), tensor([[shift]]), tensor([[sharpness]]), backend=backend
    ).tolist()[0][0]


def test_example(backend: str) -> None:
    """w_s(0) = 1/4 1/4 + 1/4 1/2 + 1/2 1/4 = 5/16, w_s(1) = 6/16, w_s(2) = 5/16; their squares are as 25 : 36 : 25."""
    assert focus(ROW, ROW_SHIFT, 2.0, backend) == pytest.approx([25 / 86, 36 / 86, 25 / 86], rel=1e-14)


def gradients(weights: list, shift: list, sharpness: float, grad: list, backend: str) -> list[Tensor]:
    """Gradients of weights, shift and sharpness of one row, from the gradient ``grad`` of the result."""
    leaves = [tensor(x).requires_grad_() for x in ([[weights]], [[shift]], [[sharpness]])]
    out = functional.shift_sharpen(*leaves, backend=backend)
    return [x.flatten() for x in torch.autograd.grad(out, leaves, tensor([[grad]]))]


@pytest.mark.parametrize(
    ("shift", "expected"),
    [
        ([1], [1, 2, 3, 4]),  # S = 1 leaves every place
        ([0, 1, 0], [1, 2, 3, 4]),  # the middle one stays
        ([0, 0, 1], [4, 1, 2, 3]),  # the next moves to the higher index, around the end
        ([1, 0, 0], [2, 3, 4, 1]),
        ([0, 0, 0, 0, 1], [3, 4, 1, 2]),
        ([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [2, 3, 4, 1]),  # 5 down, of 4 places: 1 down
        ([0] * 9 + [1, 0], [1, 2, 3, 4]),  # 4 up: around
        ([1 / 2, 0, 1 / 2], [3, 2, 3, 2]),
    ],
)
def test_shift_of_a_row(backend: str, shift: list, expected: list) -> None:
    assert focus([0.1, 0.2, 0.3, 0.4], shift, 1.0, backend) == pytest.approx([x / 10 for x in expected], rel=1e-15)


@pytest.mark.parametrize("N", [1, 2, 3, 8, 9, 33])
@pytest.mark.parametrize("S", [1, 3, 7, 19])
def test_one_hot_shift_is_roll(backend: str, N: int, S: int) -> None:
    weights = torch.rand(1, S, N, dtype=torch.float64)
    weights /= weights.sum(-1, keepdim=True)
    shift, sharpness = torch.eye(S, dtype=torch.float64).unsqueeze(0), torch.ones(1, S, dtype=torch.float64)
    got = functional.shift_sharpen(weights, shift, sharpness, backend=backend)
    rolled = torch.stack([weights[0, j].roll(j - S // 2) for j in range(S)]).unsqueeze(0)
    torch.testing.assert_close(got, rolled, rtol=1e-14, atol=0)


def test_gradients_of_shift_and_sharpen(backend: str) -> None:
    """Of the first weight of test_example, 25/86.

    By w_s: v(i) = 2 w_s(i) / (86/256) (d(i) - 25/86) = [2440, -1200, -1000] / 1849. By w(k): sum_j s_j v(k + j - 1);
    by s_j: sum_i v(i) w(i - j + 1); by y: 25/86 36/86 (ln 5 - ln 6).
    """
    weights, shift, sharpness = gradients(ROW, ROW_SHIFT, 2.0, [1, 0, 0], backend)
    assert_equal(weights, [-240 / 1849, -190 / 1849, 670 / 1849], 1e-13)
    assert_equal(shift, [-190 / 1849, 670 / 1849, -240 / 1849], 1e-13)
    assert_equal(sharpness, [225 / 1849 * math.log(5 / 6)], 1e-13)


@pytest.mark.parametrize("sharpness", [1.0, 1.5, 2.0, 1000.0])
@pytest.mark.parametrize("shift", [[1], [0, 1, 0]], ids=["S1", "S3"])
def test_gradients_at_one_hot_weights(backend: str, shift: list, sharpness: float) -> None:
    """At w_s = 0: 1 0^0 (d - d(1)) for y = 1, else 0; the 1 itself moves nothing, as w^y / w^y is 1; 0 log 0 = 0."""
    grad = [1, 2, 4, 8]
    got = gradients([0, 1, 0, 0], shift, sharpness, grad, backend)
    by_shifted = [-1, 0, 2, 6] if sharpness == 1 else [0, 0, 0, 0]
    assert_equal(got[0], by_shifted)
    assert_equal(got[1], [0] if len(shift) == 1 else by_shifted[:3])  # the 1 moved down, kept, moved up
    assert_equal(got[2], [0])


@pytest.mark.parametrize("sharpness", [1.0, 1.5, 3.0, 1000.0])
def test_gradients_beside_zeros(backend: str, sharpness: float) -> None:
    """A 1 spread as 1/4 and 3/4, zeros beside: y w_s^(y-1) / Z (d - sum d w) in each place, with 0^0 = 1."""
    shifted, grad, s = [0, 1 / 4, 3 / 4, 0], [1, 2, 4, 8], [0, 1 / 4, 3 / 4]
    powers = [(4 / 3 * x) ** sharpness for x in shifted]  # of w_s / max w_s
    w = [x / sum(powers) for x in powers]
    mean = sum(d * x for d, x in zip(grad, w))
    slope = [sharpness * (4 / 3 * x) ** (sharpness - 1) / sum(powers) * 4 / 3 for x in shifted]
    by_shifted = [k * (d - mean) for k, d in zip(slope, grad)]
    by_sharpness = sum(x * math.log(z) * (d - mean) for x, z, d in zip(w, shifted, grad) if z)
    got = gradients([0, 1, 0, 0], s, sharpness, grad, backend)
    assert focus([0, 1, 0, 0], s, sharpness, backend) == pytest.approx(w, rel=1e-13)
    assert_equal(got[0], [s[1] * by_shifted[k] + s[2] * by_shifted[(k + 1) % 4] for k in range(4)], 1e-12)
    assert_equal(got[1], by_shifted[:3], 1e-12)
    assert_equal(got[2], [by_sharpness], 1e-12)
    if sharpness == 1:  # the same in numbers: mean 3.5
        assert_equal(got[0], [-1.75, 0, 3.5, -0.75], 1e-13)
        assert_equal(got[2], [0.375 * math.log(3)], 1e-13)


def test_a_thousandfold_sharpness(backend: str) -> None:
    """2^(-1/1000) to the power of 1000 is 1/2. All are about 0.25^1000 = 1e-602, under what float64 holds."""
    row = [1.0, 2 ** (-1 / 1000), 2 ** (-2 / 1000), 0.5]
    got = focus([x / sum(row) for x in row], [1], 1000.0, backend)
    assert got[:3] == pytest.approx([4 / 7, 2 / 7, 1 / 7], rel=1e-12)
    assert got[3] == pytest.approx(0.5**1000 * 4 / 7, rel=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_subnormal_weights(backend: str, dtype: torch.dtype) -> None:
    """1 and 2 and 4 units of the smallest number there is: squares as 1 : 4 : 16, though each square is 0."""
    unit = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    weights = torch.tensor([[[1, 2, 4, 0]]], dtype=dtype) * unit
    got = functional.shift_sharpen(
        weights, torch.ones(1, 1, 1, dtype=dtype), torch.full((1, 1), 2, dtype=dtype), backend=backend
    )
    torch.testing.assert_close(got, torch.tensor([[[1 / 21, 4 / 21, 16 / 21, 0]]], dtype=dtype), rtol=2e-6, atol=0)


def test_address(backend: str) -> None:
    """Cosines of [3, 4]: 0.6, 0.8, 1, 0, so content is as 8 : 16 : 32 : 1; gate 1/2; a step up, half of the time.

    w_g 114: [8, 16, 32, 58]; w_s 228: [8 + 58, 16 + 8, 32 + 16, 58 + 32] = 6 [11, 4, 8, 15], squares 121, 16, 64, 225.
    """
    weights = functional.ntm_address(
        tensor([[[1, 0], [0, 2], [6, 8], [-4, 3]]]),
        tensor([[[0, 0, 0, 1]]]),
        tensor([[[3, 4]]]),
        tensor([[LN2_5]]),
        tensor([[0.5]]),
        tensor([[[0, 0.5, 0.5]]]),
        tensor([[2]]),
        backend=backend,
    )
    assert_equal(weights, [[[121 / 426, 16 / 426, 64 / 426, 225 / 426]]])


def test_address_by_place_alone_and_by_content_alone(backend: str) -> None:
    memory, key = tensor([[[1, 0], [0, 2], [6, 8], [-4, 3]]]), tensor([[[3, 4]] * 2])
    weights = functional.ntm_address(
        memory,
        tensor([[[0.5, 0, 0.5, 0]] * 2]),
        key,
        tensor([[LN2_5] * 2]),
        tensor([[0, 1]]),  # the gates of two heads
        tensor([[[0, 0, 1]] * 2]),
        tensor([[1, 1]]),
        backend=backend,
    )
    assert_equal(weights, [[[0, 0.5, 0, 0.5], [1 / 57, 8 / 57, 16 / 57, 32 / 57]]])


def test_write_of_two_heads(backend: str) -> None:
    """Factors (1 - 1/2 e) (1 - w e'): what both heads keep is multiplied, not their erases added up; adds add up.

    Slot 0: [4, 8] [1/2 1/2, 1 1/2] + [1, 0] / 2 + [0, 2] = [1.5, 6]. Slot 1: [4, 8] [1/2, 1] + [1, 0] / 2.
    """
    memory = functional.ntm_write(
        tensor([[[4, 8], [4, 8]]]),
        tensor([[[0.5, 0.5], [1, 0]]]),
        tensor([[[1, 0], [0.5, 0.5]]]),
        tensor([[[1, 0], [0, 2]]]),
        backend=backend,
    )
    assert_equal(memory, [[[1.5, 6], [2.5, 8]]])


def test_gradients_of_a_slot_that_two_heads_erase(backend: str) -> None:
    """M' = M (1 - w e) (1 - v f) + w a + v b at M = 3, w = e = f = 1, v = 1/2: the first factor is 0, the second 1/2.

    By M 0; by w -e M/2 + a; by e -w M/2; by v and f only a and b: what they would erase is erased already.
    """
    values = ([[[3]]], [[[1], [0.5]]], [[[1], [1]]], [[[7], [5]]])
    leaves = [tensor(x).requires_grad_() for x in values]
    out = functional.ntm_write(*leaves, backend=backend)
    assert_equal(out, [[[9.5]]])
    memory, weights, erase, add = torch.autograd.grad(out, leaves, torch.ones_like(out))
    assert_equal(memory, [[[0]]])
    assert_equal(weights, [[[5.5], [5]]])
    assert_equal(erase, [[[-1.5], [0]]])
    assert_equal(add, [[[1], [0.5]]])


def graves_weights(M, w_prev, k, b, g, s, y):
    """The weights of one head, on lists of numbers; s has a value for each of N shifts, as in the paper."""
    slots = range(len(M))

    def K(u, v):  # equation 6
        return sum(p * q for p, q in zip(u, v)) / math.sqrt(sum(p * p for p in u) * sum(q * q for q in v))

    scores = [math.exp(b * K(k, M[i])) for i in slots]
    w_c = [score / sum(scores) for score in scores]  # 5
    w_g = [g * w_c[i] + (1 - g) * w_prev[i] for i in slots]  # 7
    w_s = [sum(w_g[j] * s[(i - j) % len(M)] for j in slots) for i in slots]  # 8
    powers = [w**y for w in w_s]
    return [power / sum(powers) for power in powers]  # 9


def over_all_places(shift: list[float], N: int) -> list[float]:
    """Shares of shifts by 0, 1, ... N - 1 slots, from those of shifts by -(S // 2) to S // 2."""
    s = [0.0] * N
    for j, share in enumerate(shift):
        s[(j - len(shift) // 2) % N] += share
    return s


def graves_memory(M, w, e, a):
    """Erase and add, every head's erase before any head's add."""
    M = [list(row) for row in M]
    for head in range(len(w)):
        for i in range(len(M)):
            M[i] = [m * (1 - w[head][i] * e[head][j]) for j, m in enumerate(M[i])]
    for head in range(len(w)):
        for i in range(len(M)):
            M[i] = [m + w[head][i] * a[head][j] for j, m in enumerate(M[i])]
    return M


SHAPES = [SMALL, Shape(2, 7, 4, 3, 1, S=5), Shape(1, 3, 2, 5, 1, S=7), Shape(2, 1, 2, 2, 1), Shape(1, 20, 3, 1, 1, S=1)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_graves_equations(backend: str, shape: Shape) -> None:
    address, write = (arguments(CASES[name], shape, torch.float64, 3) for name in ("ntm_address", "ntm_write"))
    weights = run_case(CASES["ntm_address"], address, backend)["weights"]
    memory = run_case(CASES["ntm_write"], write, backend)["memory"]
    for b in range(shape.B):
        M, *heads = (x[b].tolist() for x in address.values())
        for h, (w, k, strength, g, s, y) in enumerate(zip(*heads)):
            expected = graves_weights(M, w, k, strength, g, over_all_places(s, shape.N), y)
            torch.testing.assert_close(weights[b, h], tensor(expected), rtol=1e-12, atol=1e-15)
        expected = graves_memory(*(x[b].tolist() for x in write.values()))
        torch.testing.assert_close(memory[b], tensor(expected), rtol=1e-12, atol=1e-14)


def one_hot_rows(case: str, sharpness: float) -> dict[str, Tensor]:
    tensors = arguments(CASES[case], SMALL._replace(S=3), torch.float64)
    name = "weights" if case == "shift_sharpen" else "previous"
    tensors[name] = torch.eye(SMALL.N, dtype=torch.float64)[: SMALL.H].expand(SMALL.B, SMALL.H, SMALL.N).clone()
    tensors["shift"] = tensor([0, 1, 0]).expand_as(tensors["shift"]).clone()
    if "gate" in tensors:
        tensors["gate"].zero_()
    return tensors | {"sharpness": torch.full_like(tensors["sharpness"], sharpness)}


@pytest.mark.parametrize("sharpness", [1.0, 1.25, 2.0, 7.5, 1000.0])
@pytest.mark.parametrize("case", ["shift_sharpen", "ntm_address"])
def test_no_nan_at_one_hot_weights(backend: str, case: str, sharpness: float) -> None:
    """Every sequence starts with one-hot weights."""
    for dtype in (torch.float32, torch.float64):
        tensors = convert(one_hot_rows(case, sharpness), dtype)
        leaves = {name: x.requires_grad_() for name, x in tensors.items()}
        weights = run_case(CASES[case], leaves, backend)["weights"]
        assert weights.detach().equal(tensors["weights" if case == "shift_sharpen" else "previous"])
        for name, x in zip(leaves, torch.autograd.grad(weights.cos().sum(), list(leaves.values()))):
            assert x.isfinite().all(), name


@pytest.mark.parametrize("sharpness", [2.0, 3.5])
@pytest.mark.parametrize("case", ["shift_sharpen", "ntm_address"])
def test_gradcheck_beside_zeros(backend: str, case: str, sharpness: float) -> None:
    """Where w_s is 0 on both sides of which the power is defined: differences over the sharpness and what is not 0."""
    tensors = one_hot_rows(case, sharpness)
    tensors["shift"] = tensor([0.2, 0.5, 0.3]).expand_as(tensors["shift"]).clone()
    names = [name for name in tensors if name not in ("weights", "previous", "gate")]

    def weights(*values: Tensor) -> Tensor:
        return run_case(CASES[case], tensors | dict(zip(names, values)), backend)["weights"]

    assert torch.autograd.gradcheck(weights, [tensors[name].requires_grad_() for name in names])
