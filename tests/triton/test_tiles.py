"""Memories larger than a program holds, and those at the border: every path against the float64 reference."""

from __future__ import annotations

import pytest
import torch

from mannkern import functional
from mannkern.triton import tiling
from tests.helpers import CASES, SHAPES, Case, Shape, arguments, call, check_kernel, cotangents, same

pytestmark = pytest.mark.usefixtures("nan_filled_allocations")

WHOLE = {
    "most_slots": Shape(2, 128, 30, 2, 2),
    "widest": Shape(1, 16, 512, 2, 2),
    "most_heads": Shape(1, 20, 5, 16, 16),
    "every_slot": Shape(1, 40, 6, 2, 40),
}
TILED = {
    "one_slot_in_the_last_tile": Shape(2, 129, 30, 2, 2),
    "many_tiles": Shape(1, 700, 30, 2, 2),
    "two_widths": Shape(1, 150, 40, 3, 3),
    "widest": Shape(1, 40, 512, 2, 2),
    "most_heads": Shape(1, 20, 300, 16, 16),
    "every_slot": Shape(1, 40, 200, 2, 40),
}
STEPS = ["step", "step_strength", "step_per_head"]


def check(case: Case, shape: Shape, dtype: torch.dtype = torch.float32) -> None:
    check_kernel(case, arguments(case, shape, dtype), cotangents(case, shape, dtype), "triton", shape.n)


@pytest.mark.parametrize("case", [*STEPS, "read_strength", "write_reset"])
@pytest.mark.parametrize("shape", WHOLE)
def test_whole(case: str, shape: str) -> None:
    N, W = WHOLE[shape].N, WHOLE[shape].W
    assert tiling.memory_blocks(N, W, torch.float32).whole
    check(CASES[case], WHOLE[shape])


@pytest.mark.parametrize("case", [*STEPS, "read_strength", "write_reset"])
@pytest.mark.parametrize("shape", TILED)
def test_tiles(case: str, shape: str) -> None:
    N, W = TILED[shape].N, TILED[shape].W
    assert not tiling.memory_blocks(N, W, torch.float32).whole
    check(CASES[case], TILED[shape])


@pytest.mark.parametrize("case", [*STEPS, "read_strength", "write_reset"])
def test_float64_takes_tiles_earlier(case: str) -> None:
    shape = SHAPES["standard"]._replace(B=1)
    assert tiling.memory_blocks(shape.N, shape.W, torch.float32).whole
    assert not tiling.memory_blocks(shape.N, shape.W, torch.float64).whole
    check(CASES[case], shape, torch.float64)


@pytest.mark.parametrize(("case", "n"), [("step_strength", 3), ("step_per_head", 16), ("step", 20)])
def test_slots_selected_in_tiles_or_sorted(case: str, n: int) -> None:
    shape = Shape(1, 9000, 3, 1, n)
    assert tiling.search_path(shape.N, n) == ("tiles" if n <= 16 else "sort")
    assert not tiling.memory_blocks(shape.N, shape.W, torch.float32).whole
    check(CASES[case], shape)


def test_most_slots() -> None:
    shape = Shape(1, tiling.MAX_SLOTS, 1, 1, 3)
    check(CASES["step_strength"], shape, torch.float64)


@pytest.mark.parametrize("shape", [Shape(2, 40, 5, 3, 20), Shape(1, 40, 200, 3, 20)], ids=["whole", "tiles"])
@pytest.mark.parametrize("n", [16, 17, 40])
@pytest.mark.parametrize("case", ["step_per_head", "scan_strength_per_head"])
def test_slots_of_heads_where_more_are_asked_for(case: str, n: int, shape: Shape) -> None:
    """A head's slot is found by its rank, whatever the way in which n slots are found."""
    assert tiling.memory_blocks(shape.N, shape.W, torch.float32).whole == (shape.W == 5)
    check(CASES[case], shape._replace(n=n, T=2))


@pytest.mark.parametrize("shape", [Shape(1, 20, 5, 5, 3), Shape(1, 20, 300, 5, 3)], ids=["whole", "tiles"])
def test_heads_that_share_slots(shape: Shape) -> None:
    assert tiling.memory_blocks(shape.N, shape.W, torch.float32).whole == (shape.W == 5)
    check(CASES["step_per_head"], shape)


@pytest.mark.parametrize("case", ["step_strength", "step_per_head"])
def test_equal_slots_of_different_tiles_stay_equal(case: str) -> None:
    """Three kinds of slots in turn, alike within each but for the least used ones."""
    shape = Shape(1, 150, 40, 3, 4)
    blocks = tiling.memory_blocks(shape.N, shape.W, torch.float32)
    assert blocks.tiles > 2
    assert blocks.BN % 3, "the kinds begin anew in each tile"
    few = arguments(CASES[case], shape._replace(N=3))
    kind = torch.arange(shape.N) % 3
    state = few["memory"][:, kind], few["read_weights"][..., kind], few["usage"][:, kind]
    marked: set[int] = set()
    for t in range(2):
        marked |= set(state[2][0].argsort(stable=True)[: shape.n].tolist())
        asked = ("key", "add", "gate", "strength")
        inputs = {k: x for k, x in arguments(CASES[case], shape, seed=t).items() if k in asked}
        tensors = dict(zip(("memory", "read_weights", "usage"), state)) | inputs
        step = call(CASES[case], tensors, "triton", shape.n)
        state = step["memory"], step["read_weights"], step["usage"]
        for i in range(3):
            alike = [slot for slot in range(i, shape.N, 3) if slot not in marked]
            for x in (step["memory"].mT, step["read_weights"], step["usage"], step["write_weights"]):
                assert same(x[..., alike], x[..., alike[:1]].expand_as(x[..., alike]))


def test_permuting_slots_across_tiles() -> None:
    """Weights and usage go with their slots, bit for bit; what is summed over slots, to rounding."""
    case, shape = CASES["step_strength"], Shape(1, 300, 30, 2, 4)
    assert tiling.memory_blocks(shape.N, shape.W, torch.float32).tiles > 2
    order = torch.randperm(shape.N, generator=torch.Generator().manual_seed(3))
    tensors = arguments(case, shape)
    permuted = tensors | {
        "memory": tensors["memory"][:, order],
        "read_weights": tensors["read_weights"][..., order],
        "usage": tensors["usage"][:, order],
    }
    expected, got = (call(case, t, "triton", shape.n) for t in (tensors, permuted))
    assert same(got["memory"], expected["memory"][:, order])
    assert same(got["write_weights"], expected["write_weights"][..., order])
    for name in ("read", "read_weights", "usage"):
        x = expected[name] if name == "read" else expected[name][..., order]
        torch.testing.assert_close(got[name], x, rtol=2e-6, atol=1e-7)


def usages(N: int, dtype: torch.dtype) -> torch.Tensor:
    """Many ties, signed zeros, infinities and NaN; then ties alone, NaN alone; then no ties."""
    g = torch.Generator().manual_seed(N)
    mixed = torch.randint(-4, 5, (2, N), generator=g).to(dtype) / 4
    mixed[torch.rand(2, N, generator=g) < 0.1] = torch.nan
    mixed[torch.rand(2, N, generator=g) < 0.1] = torch.inf
    mixed[1, torch.rand(N, generator=g) < 0.1] = -torch.inf
    mixed[:, ::7] *= -0.0
    alone = torch.stack([torch.full((N,), x, dtype=dtype) for x in (1.0, torch.nan)])
    return torch.cat([mixed, alone, torch.randn(1, N, generator=g, dtype=dtype)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(
    ("N", "n"),
    [(N, n) for N in (1, 40, 8192, 8193, 20000) for n in (1, 2, 16, 17, N - 1, N) if 1 <= n <= N],
)
def test_least_used_mask(N: int, n: int, dtype: torch.dtype) -> None:
    usage = usages(N, dtype)
    got, expected = (functional.least_used_mask(usage, n, backend=name) for name in ("triton", "reference"))
    assert same(got, expected)
    assert (got.sum(-1) == n).all()


def test_least_used_mask_takes_every_path() -> None:
    assert [tiling.search_path(*sizes) for sizes in ((8192, 17), (20000, 16), (20000, 17))] == ["row", "tiles", "sort"]
