"""What is asked of equal slots and equal usages: the reference's choice of slots, and equal bits for equal slots."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mannkern import functional
from mannkern.memories import registry
from mannkern.memories.cases import arguments
from mannkern.memories.lrua.ops import step
from tests.ptx import cuda_lrua, triton_kernels
from tests.ptx.table import Row

CASES = registry.cases()


def mask(row: Row) -> tuple[list[str], str]:
    """The mask of the least used slots is the reference's, with ties, infinities and NaN among the usages."""
    usage, n = usages(row.shape.N, row.dtype), row.shape.n
    if row.is_cuda:
        asked = arguments(CASES[row.case], row.shape) | {"usage": usage}
        with cuda_lrua.emulated():
            *_, slots = step.lrua_step["default"](*asked.values(), None, n, False, 0.99)
        got = torch.zeros_like(usage).scatter(1, slots, 1)
    else:
        with triton_kernels.as_on_a_gpu():
            got = functional.least_used_mask(usage, n, backend="triton")
    same = torch.equal(got, functional.least_used_mask(usage, n, backend="reference").to(got.dtype))
    return [] if same else ["the mask is not the reference's"], "equal to the reference's" if same else ""


def usages(N: int, dtype: torch.dtype) -> Tensor:
    """Rows with many ties, signed zeros, infinities and NaN; one of ties alone, one of NaN alone, one without ties."""
    g = torch.Generator().manual_seed(N)
    mixed = torch.randint(-4, 5, (2, N), generator=g).to(dtype) / 4
    mixed[torch.rand(2, N, generator=g) < 0.1] = torch.nan
    mixed[torch.rand(2, N, generator=g) < 0.1] = torch.inf
    mixed[1, torch.rand(N, generator=g) < 0.1] = -torch.inf
    mixed[:, ::7] *= -0.0
    alone = torch.stack([torch.full((N,), x, dtype=dtype) for x in (1.0, torch.nan)])
    return torch.cat([mixed, alone, torch.randn(1, N, generator=g).to(dtype)])


def equal_rows(row: Row) -> tuple[list[str], str]:
    """Slots of equal content get bit-equal read weights."""
    B, N, W, R, *_ = row.shape
    g, slots, reads = torch.Generator().manual_seed(0), set[int](), 24 // B
    with triton_kernels.as_on_a_gpu():
        for _ in range(reads):
            memory = torch.randn(1, 1, W, dtype=row.dtype, generator=g).expand(B, N, W).contiguous()
            key = torch.randn(B, R, W, dtype=row.dtype, generator=g)
            strength = 10 * torch.rand(B, R, dtype=row.dtype, generator=g)
            _, weights = functional.cosine_read(memory, key, strength, backend="triton")
            slots |= set((weights != weights[..., :1]).any(0).any(0).nonzero().flatten().tolist())
    wrong = [f"equal slots have other weights than slot 0: {sorted(slots)[:8]}"] if slots else []
    return wrong, f"{reads} reads of {B} memories of equal slots"


def equal_slots(row: Row) -> tuple[list[str], str]:
    """Slots of equal content that a step does not erase get bit-equal results and gradients."""
    B, N, W, R, n, *_ = row.shape
    g, steps = torch.Generator().manual_seed(0), 4
    wrong: set[str] = set()
    for _ in range(steps):
        state = {
            "memory": torch.randn(B, 1, W, generator=g).expand(B, N, W).contiguous().requires_grad_(),
            "read_weights": torch.full((B, R, N), 1 / N).requires_grad_(),
            "usage": torch.ones(B, N).requires_grad_(),
        }
        interface = {name: torch.randn(B, R, W, generator=g) for name in ("key", "add")}
        scalars = {name: torch.rand(B, R, generator=g) for name in ("gate", "strength")}
        with cuda_lrua.emulated():
            out = functional.lrua_step(**state, **interface, **scalars, num_least_used=n, backend="cuda")
            sum((x * x).sum() for x in out).backward()
        results = out._asdict() | {f"grad {name}": x.grad for name, x in state.items()}
        kept = slice(n, N)  # of equally used slots the first ones are the least used
        for name, x in results.items():
            slots = x[:, kept] if x.shape[1] == N else x.transpose(1, -1)[:, kept]
            wrong |= set() if name == "read" or torch.equal(slots, slots[:, :1].expand_as(slots)) else {name}
    sentences = [f"{name}: equal slots get other bits" for name in sorted(wrong)]
    return sentences, f"{steps} steps of {B} memories of equal slots"


def ties_of_usage(row: Row) -> tuple[list[str], str]:
    """Episodes that begin with equal slots write to the reference's slots, by steps and by a scan."""
    B, N, W, R, n, T, _ = row.shape
    g = torch.Generator().manual_seed(0)
    state: dict[str, Any] = {
        "memory": torch.full((B, N, W), 1e-6),
        "read_weights": torch.full((B, R, N), 1 / N),
        "usage": torch.zeros(B, N),
    }
    sequences: dict[str, Any] = {
        "keys": torch.randn(T, B, R, W, generator=g),
        "adds": torch.randn(T, B, R, W, generator=g).tanh(),
        "gates": torch.randn(T, B, R, generator=g) - 2,
        "strengths": 10 * torch.rand(T, B, R, generator=g),
    }

    def by_steps(dtype: torch.dtype, backend: str) -> Tensor:
        now: dict[str, Any] = {name: x.to(dtype) for name, x in state.items()}
        for t in range(T):
            interface: dict[str, Any] = {name.removesuffix("s"): x[t].to(dtype) for name, x in sequences.items()}
            out = functional.lrua_step(**now, **interface, num_least_used=n, backend=backend)
            now = {name: getattr(out, name) for name in now}
        return now["memory"]

    truth = by_steps(torch.float64, "reference")
    with cuda_lrua.emulated() if row.is_cuda else triton_kernels.as_on_a_gpu():
        scanned = functional.lrua_scan(**state, **sequences, num_least_used=n, backend=row.backend).memory
        results = {"steps": by_steps(torch.float32, row.backend), "scan": scanned}
    wrong = []
    for name, memory in results.items():
        errors = (memory.double() - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)
        if count := int((errors > 1e-3).sum()):  # rounding alone changes far less
            wrong.append(f"{name}: {count} of {B} episodes wrote to other slots than the reference")
    return wrong, f"{B} episodes of {T} steps that begin with equal slots"
