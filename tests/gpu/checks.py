"""Checks on a GPU: accuracy, determinism, streams, CUDA graphs. Plain functions, so that they need no pytest."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from functools import partial

import torch

from mannkern import MANN, MANNCell
from mannkern.benchmark.timing import captured
from mannkern.memories.cases import Shape, arguments, cotangents
from mannkern.verification.accuracy import evaluate
from mannkern.verification.verify import verify
from tests.gpu import episodes, steps, users
from tests.gpu.operations import (
    CASES,
    CUDA_SIZES,
    OPERATIONS,
    SIZES,
    backends,
    evaluate_quietly,
    expect_same,
    inputs,
    on,
    reason,
)
from tests.gpu.sanitizer import sanitizer


def every_backend() -> str | None:
    """Both Triton's and the compiled kernels run here; a PyTorch for other GPUs than NVIDIA's has no compiled ones."""
    missing = [
        f"{backend}: {reason(backend, names)}" for backend, names in OPERATIONS.items() if reason(backend, names)
    ]
    assert not missing or torch.version.cuda is None, missing
    return f"not run: needs an NVIDIA GPU ({'; '.join(missing)})" if missing else None


def accuracy() -> None:
    """The table of ``python -m mannkern verify``, at real sizes."""
    wrong = [row for backend in backends() for row in verify(backend, "cuda", seed=0) if not row.good]
    assert not wrong, wrong


def determinism() -> None:
    """Repeated runs give bit-equal results."""
    for backend, case, tensors, gradients in inputs():
        expected = evaluate(case, tensors, gradients, backend)
        for _ in range(5):
            expect_same(evaluate(case, tensors, gradients, backend), expected, case.operation.name)


def split_batch() -> None:
    """An episode's results do not depend on the others in its batch."""
    shape = SIZES["whole"]
    half = shape.B // 2
    for backend, name in [(b, name) for b in backends() for name in OPERATIONS[b] if name != "scan"]:
        case = CASES[name]
        tensors, gradients = on("cuda", arguments(case, shape)), on("cuda", cotangents(case, shape))
        whole = evaluate(case, tensors, gradients, backend, shape.n)
        parts = [{k: x[i : i + half] for k, x in t.items()} for i in (0, half) for t in (tensors, gradients)]
        found = [evaluate(case, *parts[i : i + 2], backend, shape.n) for i in (0, 2)]
        expect_same({k: torch.cat([x[k] for x in found]) for k in whole}, whole, name)


def nothing_recompiles() -> None:
    """Triton compiles no kernel again for another batch size or length, or for a view at another offset."""
    from mannkern.triton import scan, step

    case, shape = CASES["scan"], Shape(4, 20, 8, 2, 2, T=5)
    step_case = CASES["step"]

    def compiled() -> int:
        kernels = (step.step_forward, step.step_backward, scan.scan_forward, scan.scan_backward)
        return sum(len(caches[0]) for kernel in kernels for caches in kernel.device_caches.values())

    def run(B: int, T: int) -> None:
        sized = shape._replace(B=B, T=T)
        evaluate(case, on("cuda", arguments(case, sized)), on("cuda", cotangents(case, sized)), "triton")
        views = {k: x[1:] for k, x in on("cuda", arguments(step_case, sized._replace(B=B + 1))).items()}
        evaluate(step_case, views, on("cuda", cotangents(step_case, sized)), "triton")

    run(4, 5)
    before = compiled()
    for B, T in ((1, 5), (4, 1), (16, 17), (33, 2)):
        run(B, T)
    assert before > 0
    assert compiled() == before, f"{compiled() - before} kernels compiled anew"


def cuda_graph() -> None:
    """A CUDA graph of an operation and its gradients, replayed on other values, gives the same results as a call."""
    for backend, case, tensors, gradients in inputs():
        static = {k: x.clone() for k, x in tensors.items()}
        run = partial(evaluate_quietly, backend, case, static, gradients)
        names = list(run())
        replay = captured(lambda run=run: list(run().values()))
        for name, x in static.items():
            if x.is_floating_point():
                x.copy_(tensors[name].flip(0))
        got = [x.clone() for x in replay()]
        expect_same(dict(zip(names, got)), run(), case.operation.name)


def other_stream() -> None:
    """Work is queued on the current stream, also if it is not the default one."""
    for backend, case, tensors, gradients in inputs():
        expected = evaluate(case, tensors, gradients, backend)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            late = {k: torch.full_like(x, 0) for k, x in tensors.items()}
            torch.cuda._sleep(10_000_000)  # what runs on another stream would see the zeros
            for name, x in late.items():
                x.copy_(tensors[name])
            got = evaluate_quietly(backend, case, late, gradients)
        stream.synchronize()
        expect_same(got, {k: expected[k] for k in got}, case.operation.name)


def other_device() -> str | None:
    """Tensors may be on a device that is not the current one."""
    if torch.cuda.device_count() < 2:
        return "not run: needs two devices"
    for backend, case, tensors, gradients in inputs():
        got = evaluate(case, on("cuda:1", tensors), on("cuda:1", gradients), backend)
        assert {x.device.index for x in got.values()} == {1}
        expect_same(on("cuda:0", got), evaluate(case, tensors, gradients, backend), case.operation.name)
    return None


def misuse() -> str | None:
    """The compiled operations raise for tensors that they would read or write out of bounds."""
    if "cuda" not in backends():
        return "not run: needs the compiled kernels"
    case = CASES["ntm_write"]
    tensors = on("cuda", arguments(case, SIZES["other"]))
    for wrong in ({"add": tensors["add"].cpu()}, {"add": tensors["add"][..., 1:]}, {"add": tensors["add"].double()}):
        said = "nothing"
        try:
            torch.ops.mannkern.ntm_write(*(tensors | wrong).values())
        except RuntimeError as error:
            said = str(error)
        assert "mannkern: add" in said, said
    tensors = on("cuda", arguments(CASES["step"], CUDA_SIZES["even"]))
    for name, wrong in (
        ("add", tensors["add"].cpu()),
        ("usage", tensors["usage"][:, 1:]),
        ("key", tensors["key"].double()),
        ("memory", tensors["memory"].double()),
        ("memory", torch.zeros(5, 70, 13, device="cuda")),
    ):
        said = "nothing"
        try:
            torch.ops.mannkern.lrua_step(*(tensors | {name: wrong}).values(), None, 3, False, 0.99)
        except RuntimeError as error:
            said = str(error)
        assert f"mannkern: {name}" in said, said
    return None


def modules() -> None:
    """``MANNCell.cuda()`` runs on Triton and equals the CPU; autocast keeps a float32 state; a training step learns."""
    torch.manual_seed(0)
    mann, x = MANN(6, 16, 20, 8, 2, memory_init="uniform").double(), torch.randn(7, 3, 6).double()
    expected, _ = mann(x)
    got, state = mann.cuda()(x.cuda())
    torch.testing.assert_close(got.cpu(), expected)
    cell = MANNCell(6, 16, 20, 8, 2).cuda()
    with torch.autocast("cuda", torch.bfloat16):
        output, state = cell(torch.randn(3, 6, device="cuda"))
        output, state = cell(torch.randn(3, 6, device="cuda"), state)
    assert {part.dtype for part in state[1:4]} == {torch.float32}
    output.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in cell.parameters())


CHECKS: dict[str, Callable[[], str | None]] = {
    f.__name__: f
    for f in (
        every_backend,
        accuracy,
        determinism,
        *steps.CHECKS,
        split_batch,
        nothing_recompiles,
        cuda_graph,
        other_stream,
        other_device,
        misuse,
        modules,
        *episodes.CHECKS,
        *users.CHECKS,
        sanitizer,
    )
}


def answer(name: str, check: Callable[[], str | None]) -> str:
    """The result of a check: "holds", "not run: ..." or a traceback. Also prints it."""
    begin = time.monotonic()
    try:
        found = check() or "holds"
    except Exception:  # whatever goes wrong is the answer
        found = traceback.format_exc()
    print(f"{name}: {found} ({time.monotonic() - begin:.0f} s)", flush=True)
    return found


def run(checks: Iterable[str]) -> dict[str, str]:
    """The answer of each check by name."""
    return {name: answer(name, CHECKS[name]) for name in checks}
