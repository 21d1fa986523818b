"""Who is timed on a GPU, of the NTM: addressing and a write by its weights, forward and backward.

Beside the eager reference and torch.compile of it; the kernels also as a CUDA graph. The bound is the bytes that must
move if each of the four kernels reads and writes once what it must.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from mannkern.verification.cases import CASES, Shape, arguments
from torch import Tensor

from bench.gpu_contest import CHECKED, DRAWN, Bench, check, many
from bench.measure import Run, captured
from mannkern import functional
from mannkern.reference import ntm as reference

N, W, H, S = 128, 20, 2, 3  # the standard NTM: a write head and a read head
FORWARD_BYTES = 4 * (3 * N * W + 5 * H * N + N + H * (3 * W + 3 + S))
BACKWARD_BYTES = 4 * (5 * N * W + 8 * H * N + N + 2 * H * (3 * W + 3 + S))
Way = Callable[..., Sequence[Tensor]]


def step(address: Callable[..., Tensor], write: Callable[..., Tensor]) -> Way:
    """The weights, and the memory written with them."""

    def run(memory: Tensor, *asked: Tensor) -> Sequence[Tensor]:
        *heads, erase, add = asked
        weights = address(memory, *heads)
        return weights, write(memory, weights, erase, add)

    return run


def fused(memory: Tensor, *asked: Tensor) -> Sequence[Tensor]:
    """The public operations."""
    *heads, erase, add = asked
    weights = functional.ntm_address(memory, *heads, backend="cuda")
    return weights, functional.ntm_write(memory, weights, erase, add, backend="cuda")


def runs(way: Way, B: int, device: str, dtype: torch.dtype) -> tuple[Run, Run]:
    """Forward without gradients, and forward and backward."""
    shape = Shape(min(B, DRAWN), N, W, H, 1, S=S)
    given = arguments(CASES["ntm_address"], shape)
    given |= {k: x for k, x in arguments(CASES["ntm_write"], shape).items() if k in ("erase", "add")}
    leaves = [many(x.to(device, dtype), B).requires_grad_() for x in given.values()]
    g = torch.Generator().manual_seed(1)
    drawn = [torch.randn(shape.B, *size, generator=g) for size in ((H, N), (N, W))]
    gradients = [many(x.to(device, dtype), B) for x in drawn]

    def forward() -> Sequence[Tensor]:
        with torch.no_grad():
            return way(*leaves)

    def both() -> Sequence[Tensor]:
        outputs = way(*leaves)
        return [*outputs, *torch.autograd.grad(list(outputs), leaves, gradients)]

    return forward, both


def contest(bench: Bench, sizes: Sequence[int]) -> None:
    """Who obeys the rule of accuracy, by batch size."""
    eager = step(reference.ntm_address, reference.ntm_write)
    ways: dict[str, Way] = {"cuda": fused, "reference": eager, "compiled": torch.compile(eager, dynamic=False)}
    arguments_ = ("memory", "previous", "key", "strength", "gate", "shift", "sharpness", "erase", "add")
    names = ["weights", "memory", *(f"grad {name}" for name in arguments_)]
    truth, base = (runs(eager, CHECKED, bench.device, dtype)[1] for dtype in (torch.float64, torch.float32))
    good = check(names, {k: runs(w, CHECKED, bench.device, torch.float32)[1] for k, w in ways.items()}, truth, base)
    for B in sizes:
        torch._dynamo.reset()
        for i, (what, moved) in enumerate(
            (("ntm forward", FORWARD_BYTES), ("ntm with gradient", FORWARD_BYTES + BACKWARD_BYTES))
        ):
            makers: dict[str, Callable[[], Run]] = {
                k: lambda k=k, i=i, B=B: runs(ways[k], B, bench.device, torch.float32)[i]  # type: ignore[misc]
                for k in good
            }
            if bench.device == "cuda" and "cuda" in good:
                makers["cuda, graph"] = lambda i=i, B=B: captured(runs(fused, B, "cuda", torch.float32)[i])  # type: ignore[misc]
            bench.compare(what, B, makers, "cuda", moved)
