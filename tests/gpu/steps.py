"""Checks of LRUA's step on a GPU: its accuracy in CUDA C++, and that equal slots stay equal."""

from __future__ import annotations

import torch

from mannkern import functional
from mannkern.memories.cases import SHAPES, Shape, arguments, cotangents
from mannkern.verification.accuracy import measure
from tests.gpu.operations import CASES, CUDA_SIZES, backends, on, shifted, takes


def cuda_step_accuracy() -> str | None:
    """LRUA's step and scan by CUDA C++ keep the accuracy rule at every size, and with views at any offset."""
    if "cuda" not in backends():
        return "not run: needs the compiled kernels"
    for name in ("step", "step_strength", "step_per_head", "scan", "scan_strength_per_head"):
        case = CASES[name]
        for shape in (*CUDA_SIZES.values(), *SHAPES.values(), Shape(2, 64, 128, 2, 40), Shape(3, 129, 60, 1, 20)):
            if not takes("cuda", case, shape):
                continue
            tensors = on("cuda", arguments(case, shape._replace(B=shape.B + 1)))
            batch = {"keys": 1, "adds": 1, "gates": 1, "strengths": 1}  # where it is not dimension 0
            views = {k: x.narrow(batch.get(k, 0), 1, shape.B) for k, x in tensors.items()}
            for held in (views, {k: shifted(x) for k, x in views.items()}):
                _, measured = measure(case, held, on("cuda", cotangents(case, shape)), "cuda", shape.n)
                wrong = {k: error for k, error in measured.items() if not error.measured <= error.allowed}
                assert not wrong, f"{name}, {shape}: {wrong}"
    return None


def equal_slots() -> None:
    """LRUA: slots of equal content and history stay equal to the bit, wherever they lie."""
    sizes = {
        "triton": ((128, 40, 4), (257, 9, 5), (2000, 40, 4)),
        "cuda": ((128, 40, 4), (77, 12, 3), (256, 40, 2)),
    }
    for backend in backends():
        for N, W, R in sizes[backend]:
            equal_slots_of(backend, N, W, R)


def equal_slots_of(backend: str, N: int, W: int, R: int) -> None:
    """Five steps from a memory that has each of three slots many times."""
    few = on("cuda", arguments(CASES["step"], Shape(2, 3, W, R, R)))
    kind = torch.arange(N, device="cuda") % 3
    memory, weights, usage = few["memory"][:, kind], few["read_weights"][..., kind], few["usage"][:, kind]
    for t in range(5):
        asked = on("cuda", arguments(CASES["step_strength"], Shape(2, 3, W, R, R), seed=t))
        asked = {k: x for k, x in asked.items() if k in ("key", "add", "gate", "strength")}
        slots = usage.sort(dim=-1, stable=True).indices[:, :R]
        rank = torch.zeros_like(usage).scatter(1, slots, torch.arange(1.0, R + 1, device="cuda").expand(2, R))
        before = torch.cat([memory, weights.mT, usage.unsqueeze(-1), rank.unsqueeze(-1)], -1)
        step = functional.lrua_step(memory, weights, usage, **asked, num_least_used=R, backend=backend)
        memory, _, weights, usage, write_weights = step
        after = torch.cat([memory, weights.mT, usage.unsqueeze(-1), write_weights.mT], -1)
        for b in range(2):
            _, group = torch.unique(before[b], dim=0, return_inverse=True)
            first = torch.stack([(group == g).nonzero()[0, 0] for g in range(int(group.max()) + 1)])[group]
            assert len(group.unique()) < N, "no two slots are alike"
            assert torch.equal(after[b], after[b, first]), f"{backend}, N = {N}, step {t}"


CHECKS = (cuda_step_accuracy, equal_slots)
