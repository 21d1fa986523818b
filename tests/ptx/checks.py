"""What is asked of the kernels that the emulator runs: the accuracy rule, masks of ties, equal slots; no findings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from mannkern import MANN, NTM
from mannkern.memories import registry
from mannkern.memories.cases import Tensors, arguments, cast, cotangents
from mannkern.memories.lrua.verification import CASES as LRUA_CASES
from mannkern.memories.lrua.verification import EPISODE_OPTIONS
from mannkern.memories.ntm.verification import EPISODE_OPTIONS as NTM_EPISODE_OPTIONS
from mannkern.verification.accuracy import Error, errors, measure
from tests.cuda import persistent
from tests.long_slots import LENGTHS, OF_ANY_LENGTH, memory_gradient
from tests.ptx import cuda_kernels, cuda_lrua, cuda_persistent, ties, triton_kernels
from tests.ptx.session import SESSION
from tests.ptx.table import ENDS, NTM_EPISODE, ONE_BLOCK, TF32, Row

CASES = registry.cases()
ATTEMPTS = 100  # to draw inputs on which rounding chooses no slot
TF32_ERROR = 2**-9  # of a product: each of its factors loses the bits after the eleventh, and so at most 2^-10


def run(row: Row, arch: int = 90, perturb: int = 0, fused: bool = False) -> tuple[list[str], str, set[str]]:
    """The fields of :class:`tests.ptx.worker.Result`, of a row for a GPU."""
    SESSION.arch, SESSION.perturb, SESSION.fused = arch, perturb, fused
    SESSION.seed, SESSION.launched = 0, set()  # so that a row does not depend on those before it
    SESSION.take_findings()
    torch.set_num_threads(1)
    with torch.set_grad_enabled(row.gradient):
        wrong, figures = CHECKS[row.check](row)
    return wrong + SESSION.take_findings(), figures, SESSION.launched


def _accuracy(row: Row) -> tuple[list[str], str]:
    """Outputs and gradients keep the accuracy rule."""
    case, shape = CASES[row.case], row.shape
    wide = torch.float64 if row.dtype == torch.float64 else torch.float32
    gradients = cotangents(case, shape, wide) if row.gradient else {}
    n = min(shape.n, shape.N)
    if case.operation.family == "ntm":
        with cuda_kernels.emulated(1 if ONE_BLOCK in row.label else cuda_kernels.MANY_BLOCKS):
            found = measure(case, arguments(case, shape, row.dtype), gradients, "cuda")[1]
    elif row.is_cuda:
        with cuda_lrua.emulated(1 if ONE_BLOCK in row.label else cuda_lrua.AT_ONCE):
            found = measure(case, _settled(row, wide, n), gradients, "cuda", n)[1]
    else:
        tensors = _settled(row, wide, n)
        with triton_kernels.as_on_a_gpu(1 if ONE_BLOCK in row.label else triton_kernels.H100_PROGRAMS):
            found = measure(case, tensors, gradients, "triton", n)[1]
    return _judge(found)


def _long_slots(row: Row) -> tuple[list[str], str]:
    """The gradient of the memory keeps the accuracy rule where slots are of any length."""
    case, length = CASES[row.case], LENGTHS[OF_ANY_LENGTH]
    on_cuda = cuda_lrua.emulated if row.case in LRUA_CASES else cuda_kernels.emulated
    with on_cuda() if row.is_cuda else triton_kernels.as_on_a_gpu():
        error = memory_gradient(case, row.shape, length, "cuda" if row.is_cuda else "triton", row.shape.n)
    return _judge({"grad memory": error})


def _settled(row: Row, wide: torch.dtype, n: int) -> Tensors:
    """Inputs on which rounding chooses no slot."""
    case = CASES[row.case]
    for seed in range(ATTEMPTS):
        tensors = cast(case, arguments(case, row.shape, wide, seed), row.dtype)
        if case.operation.is_settled is None or case.operation.is_settled(case, tensors, n):
            return tensors
    raise RuntimeError(f"{row.name}: no inputs of {ATTEMPTS} that keep the choices of slots apart")


def _excess(error: Error) -> float:
    return error.measured / error.allowed if error.measured == error.measured else float("inf")


def _episode(row: Row) -> tuple[list[str], str]:
    """Outputs and last memory of a whole MANN or NTM, and all gradients, keep the accuracy rule."""
    B, N, W, R, n, T, _ = row.shape
    torch.manual_seed(0)
    module: Any = NTM if row.check == NTM_EPISODE else MANN
    sizes = {"memory_slots": N, "memory_width": W, "memory_init": "learned"}
    if module is MANN:
        options = {"num_reads": R, "num_least_used": n} | EPISODE_OPTIONS[row.case]
    else:
        options = {"num_read_heads": R} | NTM_EPISODE_OPTIONS[row.case]
    model, x = module(7, 12, **sizes, **options), torch.randn(T, B, 7)
    given: dict[str, Any] = {}
    if ENDS in row.label:
        given = {"lengths": [T, *[T // 2] * (B - 1)], "reset": torch.rand(T, B) < 0.4}

    def results(dtype: torch.dtype, backend: str) -> Tensors:
        same = module(7, 12, **sizes, **options, backend=backend).to(dtype)
        same.load_state_dict(model.state_dict())
        input = x.to(dtype, copy=True).requires_grad_()
        output, last = same(input, **given)
        (output.square().sum() + last.memory.sum()).backward()
        gradients = {name: p.grad for name, p in same.named_parameters()} | {"x": input.grad}
        outputs = {"output": output.detach(), "memory": last.memory.detach()}
        return outputs | {f"grad {name}": g for name, g in gradients.items() if g is not None}

    truth = results(torch.float64, "reference")
    with triton_kernels.as_on_a_gpu(tf32=TF32 in row.label), cuda_kernels.emulated_episodes():
        got = results(row.dtype, row.backend)
    found = errors(got, truth, None if row.dtype == torch.float64 else results(row.dtype, "reference"))
    if TF32 not in row.label:
        return _judge(found)
    wrong, figures = _judge({k: Error(x.measured, x.allowed + TF32_ERROR) for k, x in found.items()})
    exact = [name for name, x in found.items() if x.measured <= x.allowed]
    return wrong + [f"{name}: got the accuracy of float32, need that of TF32" for name in exact], figures


def _persistent(row: Row) -> tuple[list[str], str]:
    """The results of the persistent kernels, and all gradients, keep the accuracy rule."""
    sizes, options = persistent.EPISODES[row.label.replace(" ", "_")]
    for seed in range(ATTEMPTS):
        args = persistent.draw(*sizes, seed=seed, **options)
        truth, gap = persistent.reference(persistent.double(args))
        if gap.min() > 1e-6:
            break
    single, _ = persistent.reference(args)
    grads = persistent.cotangents(single)
    with cuda_persistent.emulated():
        results = persistent.forward(args)
        gradients = persistent.backward(args, results, grads)
    right = persistent.reference_gradients(persistent.double(args), [x.double() for x in grads])
    of_single = persistent.reference_gradients(args, grads)
    names = [*persistent.Results._fields[:5], *(f"grad {name}" for name in persistent.Episode._fields[:11])]
    got, truth, single = (
        dict(zip(names, x, strict=True)) for x in ([*results[:5], *gradients], [*truth, *right], [*single, *of_single])
    )
    return _judge(errors(got, truth, single))


def _judge(found: dict[str, Error]) -> tuple[list[str], str]:
    """A sentence for each error that is not allowed, and the worst error."""
    worst = max(found, key=lambda name: _excess(found[name]))
    wrong = [f"{name}: error {x.measured:.1e}, allowed {x.allowed:.1e}" for name, x in found.items() if _excess(x) > 1]
    return wrong, f"{found[worst].measured:.1e} of {found[worst].allowed:.1e} {worst}"


CHECKS: dict[str, Callable[[Row], tuple[list[str], str]]] = {
    "accuracy": _accuracy,
    "long slots": _long_slots,
    "episode": _episode,
    "persistent": _persistent,
    NTM_EPISODE: _episode,
    "mask": ties.mask,
    "equal rows": ties.equal_rows,
    "equal slots": ties.equal_slots,
    "ties of usage": ties.ties_of_usage,
}
