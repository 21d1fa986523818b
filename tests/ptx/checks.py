"""What is asked of the kernels that the emulator runs: the accuracy rule, masks of ties, equal slots; no findings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mannkern import MANN, NTM, functional
from mannkern.memories import registry
from mannkern.memories.cases import Tensors, arguments, cast, cotangents
from mannkern.memories.lrua.ops import step
from mannkern.memories.lrua.verification import CASES as LRUA_CASES
from mannkern.memories.lrua.verification import EPISODE_OPTIONS
from mannkern.memories.ntm.verification import EPISODE_OPTIONS as NTM_EPISODE_OPTIONS
from mannkern.verification.accuracy import Error, errors, measure
from tests.cuda import persistent
from tests.long_slots import LENGTHS, OF_ANY_LENGTH, memory_gradient
from tests.ptx import cuda_kernels, cuda_lrua, cuda_persistent, triton_kernels
from tests.ptx.session import SESSION
from tests.ptx.table import ENDS, NTM_EPISODE, ONE_BLOCK, Row

CASES = registry.cases()
ATTEMPTS = 100  # to draw inputs on which rounding chooses no slot


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


def _mask(row: Row) -> tuple[list[str], str]:
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


def _equal_rows(row: Row) -> tuple[list[str], str]:
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


def _equal_slots(row: Row) -> tuple[list[str], str]:
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


def _ties_of_usage(row: Row) -> tuple[list[str], str]:
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
    with triton_kernels.as_on_a_gpu(), cuda_kernels.emulated_episodes():
        got = results(row.dtype, row.backend)
    found = errors(got, truth, None if row.dtype == torch.float64 else results(row.dtype, "reference"))
    return _judge(found)


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
    "mask": _mask,
    "equal rows": _equal_rows,
    "equal slots": _equal_slots,
    "ties of usage": _ties_of_usage,
}
