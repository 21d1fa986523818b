"""Checks of models on a GPU as users call them: compiled, with resets, in a memory pool, in TF32. As in checks.py."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch

from mannkern import MANN, NTM
from mannkern.memories.cases import Tensors
from mannkern.triton import graph
from mannkern.verification.accuracy import relative_errors
from tests.gpu.episodes import COPY, REPEATS, SMALL, STANDARD, build, draw, ends, no_ntm, step, with_persistent

COMPILED_TOLERANCE = 1e-5  # of float32: the same kernels, but torch.compile may add and scale in another order
TF32_ERRORS = (1e-6, 4e-3)  # of an output at least, which float32 does not have, and of any result at most
PERSISTENT_GPUS = ((9, 0), (10, 0))
PERSISTENT_KERNELS = ("mann_persistent_kernel", "mann_persistent_backward_kernel")


def compiled() -> None:
    """torch.compile(fullgraph=True) of a model changes neither outputs nor gradients, at every call of a shape."""
    for model in with_persistent(SMALL):
        torch._dynamo.reset()
        model_compiled = torch.compile(model, fullgraph=True)
        for seed in range(REPEATS):
            x = draw(model, 3, 5, seed)
            got = {name.replace("_orig_mod.", ""): y for name, y in step(model_compiled, x).items()}
            errors = relative_errors(got, step(model, x))
            assert max(errors.values()) < COMPILED_TOLERANCE, (type(model).__name__, model.backend, seed, errors)


def resets_with_batch_first() -> None:
    """In float64, resets (B, T) give what they give on the CPU: as they are, captured and replayed."""
    for model in batch_first():
        for got, expected in zip(calls(model), calls(copy.deepcopy(model).cpu())):
            expect_exact(got, expected, type(model).__name__)
    assert any(isinstance(captured, graph.Graph) for captured in graph._graphs.values())


def within_a_memory_pool() -> None:
    """The same within ``torch.cuda.use_mem_pool``. No replay writes into what the pool holds beside its graph."""
    for model in batch_first():
        graph.clear()
        pool = torch.cuda.MemPool()
        found = results_in(pool, model)
        graph.clear()  # before its pool goes
        for got, expected in zip(found, calls(copy.deepcopy(model).cpu()), strict=True):
            expect_exact(got, expected, type(model).__name__)


def results_in(pool: Any, model: Any) -> list[Tensors]:
    """The results of calls in a pool, read after the last of them; between them other tensors take what is free."""
    found, others = [], []
    with torch.cuda.use_mem_pool(pool):
        for got in calls(model):
            found.append(got)
            others += [got["output"].new_full((4**k,), torch.nan) for k in range(10)]
    assert all(x.isnan().all() for x in others)
    return [{name: x.cpu() for name, x in got.items()} for got in found]


def batch_first() -> list[Any]:
    """A MANN, and an NTM if its kernels run here, of float64, whose inputs are (B, T, F)."""
    modules = (MANN,) if no_ntm() else (MANN, NTM)
    return [build(module, SMALL, torch.float64, batch_first=True) for module in modules]


def calls(model: Any) -> Iterator[Tensors]:
    """Results of calls of one shape with resets, on the device of the model."""
    device = model.cell.interface.weight.device
    for seed in range(REPEATS):
        x, reset = draw(model, 9, 5, seed).transpose(0, 1), ends(9, 5, seed)["reset"].t()
        yield step(model, x.to(device), reset=reset.to(device))


def expect_exact(got: Tensors, expected: Tensors, what: str) -> None:
    """Raise AssertionError unless results of a GPU are those of the CPU but for rounding of float64."""
    errors = relative_errors({name: x.cpu() for name, x in got.items()}, expected)
    assert max(errors.values()) < 1e-9, (what, errors)


def tf32() -> str | None:
    """Where PyTorch's products are in TF32, those of an episode are too, with the errors that TF32 has.

    A MANN has one step, because in a second one rounding might choose other slots.
    """
    if torch.cuda.get_device_capability() < (8, 0):
        return "not run: needs a GPU with TF32"
    cases: list[tuple[Any, tuple[int, ...], dict[str, Any], int]] = [
        (MANN, STANDARD, {}, 1),
        (MANN, STANDARD, {"controller": "feedforward"}, 1),
    ]
    if not no_ntm():
        cases.append((NTM, COPY, {}, 3))
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        for module, sizes, options, T in cases:
            model = build(module, sizes, **options)
            x = draw(model, T, 80)  # more than FEW_EPISODES
            expected = step(copy.deepcopy(model).cpu().double(), x.cpu().double())
            for _ in range(REPEATS):
                got = {name: y.cpu() for name, y in step(model, x).items()}
                errors, (least, most) = relative_errors(got, expected), TF32_ERRORS
                assert errors["output"] > least, (module.__name__, options, "TF32 was not used", errors)
                assert max(errors.values()) < most, (module.__name__, options, errors)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return None


def persistent_kernel() -> str | None:
    """On a GPU that has clusters, an episode of ``backend="cuda"`` is one kernel forward and one backward."""
    if torch.cuda.get_device_capability() not in PERSISTENT_GPUS:
        return "not run: needs a GPU of compute capability 9.0 or 10.0"
    model = build(MANN, STANDARD, backend="cuda")
    x = draw(model, 4, 3)
    step(model, x)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        step(model, x)
        torch.cuda.synchronize()
    names = {event.name for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA}
    if not names:
        return "not run: needs a profiler that sees kernels"
    missing = [kernel for kernel in PERSISTENT_KERNELS if not any(kernel in name for name in names)]
    assert not missing, f"{missing} not among {sorted(names)}"
    return None


CHECKS = (compiled, resets_with_batch_first, within_a_memory_pool, tf32, persistent_kernel)
