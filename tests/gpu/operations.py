"""The operations that are checked on a GPU, their sizes and inputs, and how results are compared."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from mannkern.backends import BACKENDS, why_not
from mannkern.memories import registry
from mannkern.memories.cases import Case, Shape, Tensors, arguments, cotangents, run_case
from mannkern.verification.accuracy import same

CASES = registry.cases()
SIZES = {"whole": Shape(64, 128, 40, 4, 4), "tiles": Shape(2, 2000, 40, 4, 4), "other": Shape(5, 33, 17, 3, 3)}
CUDA_SIZES = SIZES | {"even": Shape(5, 70, 12, 3, 5), "most": Shape(3, 256, 40, 4, 6)}  # in other sizes Triton compiles
OPERATIONS = {
    "triton": ("write_reset", "read_strength", "usage", "step_strength", "step_per_head", "scan"),
    "cuda": ("shift_sharpen", "ntm_address", "ntm_write", "step", "step_strength", "step_per_head", "scan"),
}


def backends() -> list[str]:
    """The backends that run here; ``every_backend`` says why the others do not."""
    return [backend for backend, names in OPERATIONS.items() if not reason(backend, names)]


def reason(backend: str, names: tuple[str, ...]) -> str:
    """Why a backend does not run, or "" where it does."""
    return why_not(BACKENDS[backend], CASES[names[0]].operation.family, "cuda")


def on(device: str, tensors: Tensors) -> Tensors:
    """The tensors on a device."""
    return {name: x.to(device) for name, x in tensors.items()}


def inputs(device: str = "cuda") -> Iterator[tuple[str, Case, Tensors, Tensors]]:
    """Every operation at every size, with its backend."""
    for backend in backends():
        for case in (CASES[name] for name in OPERATIONS[backend]):
            for shape in (CUDA_SIZES if backend == "cuda" else SIZES).values():
                if takes(backend, case, shape):
                    yield backend, case, on(device, arguments(case, shape)), on(device, cotangents(case, shape))


def takes(backend: str, case: Case, shape: Shape) -> bool:
    """Whether the backend's kernels of the case take these sizes."""
    operation = case.operation
    return not why_not(BACKENDS[backend], operation.family, "cuda", shape.N, shape.W, shape.R, operation.name)


def expect_same(got: Tensors, expected: Tensors, what: str) -> None:
    """Raise AssertionError unless all results are bit-equal."""
    different = [name for name in expected if not same(got[name], expected[name])]
    assert not different, f"{what}: {different}"


def evaluate_quietly(backend: str, case: Case, tensors: Tensors, gradients: Tensors) -> Tensors:
    """As ``evaluate``, but without reading values, which a CUDA graph forbids."""
    leaves = {k: x.detach().requires_grad_(x.is_floating_point()) for k, x in tensors.items()}
    outputs = run_case(case, leaves, backend)
    wanted = [x for x in leaves.values() if x.requires_grad]
    names = [k for k, x in leaves.items() if x.requires_grad]
    found = torch.autograd.grad(list(outputs.values()), wanted, [gradients[k] for k in outputs])
    return {k: x.detach() for k, x in outputs.items()} | {f"grad {k}": x for k, x in zip(names, found)}


def shifted(x: torch.Tensor) -> torch.Tensor:
    """The values of x from the second number of a storage on, where no row begins at a multiple of 16 bytes."""
    return torch.cat([x.new_zeros(1), x.flatten()])[1:].view_as(x)
