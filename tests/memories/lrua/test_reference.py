"""LRUA equals steps that are computed by hand, and its equations as loops over numbers.

Strengths of 5 ln 2 make every exponential a power of two, and all norms are 5, so that weights are fractions.
"""

from __future__ import annotations

import ast
import math
from pathlib import Path

import pytest
import torch

from mannkern import functional, memories
from tests.helpers import CASES, SMALL, Shape, arguments, run_case

LN2_5 = 5 * math.log(2)
NAN, INF = math.nan, math.inf


def tensor(values: list) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def assert_equal(got: torch.Tensor, expected: list) -> None:
    torch.testing.assert_close(got, tensor(expected), rtol=1e-14, atol=1e-15)


def test_example(backend: str) -> None:
    """Half of the usage [1, 2], read weights [3/4, 5/4] and write weights [1, 1] add up to [9/4, 13/4]."""
    usage = functional.usage_update(
        tensor([[1, 2]]), tensor([[[0.25, 0.75], [0.5, 0.5]]]), tensor([[[0, 1], [1, 0]]]), 0.5, backend=backend
    )
    assert_equal(usage, [[2.25, 3.25]])


@pytest.mark.parametrize(
    ("usage", "n", "expected"),
    [
        ([3.0, 1.0, 2.0], 1, [0, 1, 0]),
        ([3.0, 1.0, 2.0], 2, [0, 1, 1]),
        ([3.0, 1.0, 2.0], 3, [1, 1, 1]),
        ([0.0, 0.0, 0.0, 0.0], 2, [1, 1, 0, 0]),  # a fresh memory: exactly n, the lower index first
        ([2.0, 1.0, 1.0, 1.0], 2, [0, 1, 1, 0]),
        ([1.0, 0.0, -0.0, 0.0], 2, [0, 1, 1, 0]),  # -0 equals 0
        ([-0.0, 0.0], 1, [1, 0]),
        ([0.0, -0.0], 1, [1, 0]),
        ([-1.0, -2.0, 0.0], 1, [0, 1, 0]),
        ([NAN, 5.0, INF], 1, [0, 1, 0]),
        ([NAN, 5.0, INF], 2, [0, 1, 1]),  # NaN is larger than infinity
        ([NAN, 5.0, -INF], 1, [0, 0, 1]),
        ([NAN, -NAN, NAN], 2, [1, 1, 0]),
        ([-NAN, NAN, 5.0], 2, [1, 0, 1]),  # whatever its sign bit
        ([NAN, -NAN, -INF], 2, [1, 0, 1]),
        ([5e-324, 0.0], 1, [0, 1]),  # a subnormal number is larger than 0
    ],
)
@pytest.mark.parametrize("padding", [0, 9, 40], ids="{}_more_slots".format)
def test_least_used(backend: str, usage: list[float], n: int, expected: list[int], padding: int) -> None:
    """The same in longer rows, which kernels read by vectors, and beside an episode that chooses other slots."""
    rows = tensor([usage + [NAN] * padding, list(range(len(usage) + padding, 0, -1))])
    mask = functional.least_used_mask(rows, n, backend=backend)
    assert mask.dtype == torch.float64
    assert mask[0].tolist() == expected + [0] * padding
    assert mask[1].tolist() == [0] * (len(usage) + padding - n) + [1] * n


def test_least_used_by_sorting(backend: str) -> None:
    """Kernels search for many least used slots in another way than for few; the rule is the same."""
    usage = tensor([[NAN, 1.0, 0.0, -0.0, 1.0, -1.0, 1.0, INF, NAN, 1.0, 0.0, 2.0, 1.0, 1.0]])
    for n, chosen in [(9, {5, 2, 3, 10, 1, 4, 6, 9, 12}), (11, {5, 2, 3, 10, 1, 4, 6, 9, 12, 13, 11})]:
        mask = functional.least_used_mask(usage, n, backend=backend)
        assert {i for i, one in enumerate(mask[0].tolist()) if one} == chosen
    assert functional.least_used_mask(usage, 13, backend=backend)[0].tolist() == [1] * 8 + [0] + [1] * 5


@pytest.mark.parametrize(
    ("reset", "expected"),
    [
        (None, [[12.0, 24.0], [3.5, 5.0]]),  # [1, 2] + [2, 4] / 2 + [10, 20] and [3, 4] + [2, 4] / 4
        (0, [[11.0, 22.0], [3.5, 5.0]]),
        (1, [[12.0, 24.0], [0.5, 1.0]]),
    ],
)
def test_additive_write(backend: str, reset: int | None, expected: list) -> None:
    memory = functional.additive_write(
        tensor([[[1, 2], [3, 4]]]),
        tensor([[[0.5, 0.25], [1, 0]]]),
        tensor([[[2, 4], [10, 20]]]),
        None if reset is None else torch.tensor([reset]),
        backend=backend,
    )
    assert_equal(memory, [expected])


def test_cosine_read(backend: str) -> None:
    """Cosines of [3, 4]: 0.6, 0.8, 1, 0, so weights are as 8 : 16 : 32 : 1. A zero key reads the mean."""
    memory = tensor([[[1, 0], [0, 2], [6, 8], [-4, 3]]])
    read, weights = functional.cosine_read(memory, tensor([[[3, 4], [0, 0]]]), tensor([[LN2_5, 7.0]]), backend=backend)
    assert_equal(weights, [[[8 / 57, 16 / 57, 32 / 57, 1 / 57], [0.25] * 4]])
    assert_equal(read, [[[196 / 57, 291 / 57], [0.75, 3.25]]])  # 8 + 6 * 32 - 4 and 2 * 16 + 8 * 32 + 3


def test_cosine_read_without_strength(backend: str) -> None:
    """Cosines 1 and -1: e : 1 / e, that is 1 / (1 + e^-2) = 0.8807970779778823."""
    _, weights = functional.cosine_read(tensor([[[0, 1], [0, -3]]]), tensor([[[0, 2]]]), backend=backend)
    assert_equal(weights, [[[0.8807970779778823, 0.11920292202211755]]])


def test_strong_and_opposite(backend: str) -> None:
    """Cosines -1 with a strength whose exponential vanishes: only differences count."""
    memory, key = tensor([[[0, -1], [0, -3]]]), tensor([[[0, 2], [0, 2]]])
    read, weights = functional.cosine_read(memory, key, tensor([[2000.0, 2000.0]]), backend=backend)
    assert_equal(weights, [[[0.5, 0.5]] * 2])
    assert_equal(read, [[[0, -2]] * 2])


def test_norm_under_eps(backend: str) -> None:
    """A key of norm 5e-9 against a slot of norm 1: cosine 5e-9 / 1e-8 = 1/2, and 0 against a zero slot: 3 to 1."""
    memory, key = tensor([[[0.6, 0.8], [0, 0]]]), tensor([[[3e-9, 4e-9]]])
    _, weights = functional.cosine_read(memory, key, tensor([[2 * math.log(3)]]), backend=backend)
    assert_equal(weights, [[[0.75, 0.25]]])


# usage [0.5, 0.1, 0.2]: slots 1 and 2 are least used, slot 1 is zeroed. The gates let sigmoid = 1/2 or 3/4 through.
# Either way the memory becomes [[3, 4], [-4, -3], [0, 5]]; [1, 0] has cosines 0.6, -0.8, 0 with it and [0, 2] has
# 0.8, -0.6, 1, so read weights are in the proportion 128 : 1 : 16 and 128 : 1 : 256.
STEPS = {
    "shared": (
        [[2, 2], [7, 9], [4, 8]],
        [[2, 4], [-8, -8]],
        [0, math.log(3)],
        [[0.5, 0.5, 0.5], [0, 0.625, 0.625]],  # [1, 0, 0] / 2 + [0, 1, 1] / 2; [0, 3/8, 3/8] + [0, 1, 1] / 4
        [0.95, 1.215, 1.305],  # [0.45, 0.09, 0.18] and the write weights
    ),
    "per_head": (
        [[2, 2], [7, 9], [15, 20]],
        [[2, 4], [-20, -20]],
        [0, 0],
        [[0.5, 0.5, 0], [0, 0.25, 0.75]],  # [1, 0, 0] / 2 + [0, 1, 0] / 2; [0, 1/4, 1/4] + [0, 0, 1] / 2
        [0.95, 0.84, 0.93],
    ),
}


@pytest.mark.parametrize("least_used", STEPS)
def test_step(backend: str, least_used: str) -> None:
    memory, add, gate, write_weights, usage = STEPS[least_used]
    step = functional.lrua_step(
        tensor([memory]),
        tensor([[[1, 0, 0], [0, 0.5, 0.5]]]),
        tensor([[0.5, 0.1, 0.2]]),
        tensor([[[1, 0], [0, 2]]]),
        tensor([add]),
        tensor([gate]),
        tensor([[LN2_5, LN2_5]]),
        least_used=least_used,
        decay=0.9,
        backend=backend,
    )
    first, second = [128 / 145, 1 / 145, 16 / 145], [128 / 385, 1 / 385, 256 / 385]
    assert_equal(step.memory, [[[3, 4], [-4, -3], [0, 5]]])
    assert_equal(step.write_weights, [write_weights])
    assert_equal(step.read_weights, [[first, second]])
    assert_equal(step.read, [[[380 / 145, 589 / 145], [380 / 385, 1789 / 385]]])
    assert_equal(step.usage, [[u + x + y for u, x, y in zip(usage, first, second)]])


def spec_step(M, w_r, u, k, a, g, b, n, per_head, gamma):
    """The equations on lists of numbers, for one episode: M', r, w_r', u', w_w."""
    slots, width, heads = range(len(M)), range(len(M[0])), range(len(k))
    L = sorted(slots, key=lambda i: (math.isnan(u[i]), u[i] if not math.isnan(u[i]) else 0, i))[:n]
    w_w = []
    for h in heads:
        open_gate = 1 / (1 + math.exp(-g[h]))
        marked = [L[h % n]] if per_head else L
        w_w.append([open_gate * w_r[h][i] + (1 - open_gate) * (i in marked) for i in slots])
    M = [[0 if i == L[0] else M[i][j] for j in width] for i in slots]
    M = [[M[i][j] + sum(w_w[h][i] * a[h][j] for h in heads) for j in width] for i in slots]
    w, r = [], []
    for h in heads:
        scores = []
        for i in slots:
            dot = sum(k[h][j] * M[i][j] for j in width)
            scores.append(math.exp(b[h] * dot / (max(math.hypot(*k[h]), 1e-8) * max(math.hypot(*M[i]), 1e-8))))
        w.append([score / sum(scores) for score in scores])
        r.append([sum(w[h][i] * M[i][j] for i in slots) for j in width])
    return M, r, w, [gamma * u[i] + sum(w[h][i] + w_w[h][i] for h in heads) for i in slots], w_w


@pytest.mark.parametrize("shape", [SMALL, Shape(2, 7, 4, 3, 1), Shape(1, 4, 1, 5, 3), Shape(2, 1, 2, 2, 1)], ids=str)
@pytest.mark.parametrize("case", ["step", "step_strength", "step_per_head"])
def test_step_against_loops(backend: str, case: str, shape: Shape) -> None:
    tensors = arguments(CASES[case], shape, torch.float64)
    tensors["usage"][:, -2:] = tensors["usage"][:, :1]  # some ties
    got = run_case(CASES[case], tensors, backend, shape.n)
    lists = {name: x.tolist() for name, x in tensors.items()}
    strength = lists.get("strength", [[1.0] * shape.R] * shape.B)
    for episode in range(shape.B):
        state = (lists[name][episode] for name in ("memory", "read_weights", "usage", "key", "add", "gate"))
        options = CASES[case].options
        expected = spec_step(
            *state, strength[episode], shape.n, options.get("least_used") == "per_head", options.get("decay", 0.99)
        )
        for (name, x), y in zip(got.items(), expected, strict=True):
            torch.testing.assert_close(x[episode], tensor(y), rtol=1e-12, atol=1e-14, msg=name)


@pytest.mark.parametrize("case", ["scan", "scan_strength_per_head"])
def test_scan_is_steps(backend: str, case: str) -> None:
    shape, scan = Shape(2, 9, 5, 3, 2, T=6), CASES[case]
    tensors = arguments(scan, shape, torch.float64)
    state = {name: tensors[name] for name in ("memory", "read_weights", "usage")}
    reads = []
    for t in range(shape.T):
        inputs = {name[:-1]: x[t] for name, x in tensors.items() if name not in state}
        step = functional.lrua_step(**state, **inputs, num_least_used=2, **scan.options, backend="reference")
        state = {name: getattr(step, name) for name in state}
        reads.append(step.read)
    got = run_case(scan, tensors, backend, 2)
    for name, expected in {"reads": torch.stack(reads), **state}.items():
        torch.testing.assert_close(got[name], expected, rtol=1e-12, atol=1e-14)


def test_default_options_are_the_papers(backend: str) -> None:
    tensors = arguments(CASES["step"], SMALL, torch.float64)
    implicit = functional.lrua_step(**tensors, backend=backend)
    explicit = functional.lrua_step(
        **tensors,
        strength=torch.ones(SMALL.B, SMALL.R, dtype=torch.float64),
        num_least_used=min(SMALL.R, SMALL.N),
        least_used="shared",
        decay=0.99,
        backend=backend,
    )
    for x, y in zip(implicit, explicit, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-14, atol=0)


def test_references_import_nothing_of_the_rest_of_the_package() -> None:
    """They define the equations, so they share with kernels not even a helper; ``onnx`` tells who traces a call."""
    allowed = {"mannkern.memories.content", "mannkern.backends.onnx"}
    content = Path(memories.__file__).with_name("content.py")
    for path in [content, *content.parent.glob("*/reference.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.startswith("mannkern") and name not in allowed for name in names), path
            assert not (isinstance(node, ast.ImportFrom) and node.level), path
