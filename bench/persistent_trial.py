"""A trial of the persistent kernels on a GPU: compiles them, compares them with the float64 reference, and times them.

    python bench/persistent_trial.py

It needs an sm_90 or sm_100 GPU and nvcc, and no compiled library of the package.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.append(str(Path(__file__).resolve().parents[1]))

from setup import find_nvcc
from tests.cuda.persistent import (
    Episode,
    Results,
    backward,
    cotangents,
    double,
    draw,
    fields,
    fits,
    forward,
    kernels,
    reference,
    reference_gradients,
    relative,
    sizes,
)

ROOT = Path(__file__).resolve().parents[1]
F, D, N, W, R, T = 405, 200, 128, 40, 4, 50
FORWARD = [
    "read product",
    "barrier",
    "selection",
    "wait",
    "interface product",
    "barrier",
    "interface",
    "wait",
    "memory",
]
FORWARD += ["rows", "wait"]
BACKWARD = ["wait", "memory", "loads", "wait", "interface product", "LSTM", "gates product"]


def build(folder: Path) -> ctypes.CDLL:
    library = folder / "persistent.so"
    major, minor = torch.cuda.get_device_capability()
    command = [str(find_nvcc()), "-std=c++17", "-O3", f"-arch=sm_{major}{minor}", "-Xptxas=-v", "-shared"]
    command += ["-DMANNKERN_PHASES", "-Xcompiler=-fPIC", str(ROOT / "bench/persistent_trial.cu"), "-o", str(library)]
    print("$", " ".join(command))
    done = subprocess.run(command, capture_output=True, text=True)
    print(done.stdout + done.stderr)
    done.check_returncode()
    loaded = ctypes.CDLL(str(library))
    for name in ("persistent_forward", "persistent_backward", "persistent_occupancy", "persistent_exchange"):
        getattr(loaded, name).restype = ctypes.c_char_p
    return loaded


Call = Callable[[Any], None]


def caller(function: Any) -> Call:
    def call(arguments: Any) -> None:
        error = function(arguments, ctypes.c_void_p(torch.cuda.current_stream().cuda_stream))
        if error:
            raise RuntimeError(f"launch: {error.decode()}")

    return call


def print_occupancy(library: ctypes.CDLL) -> None:
    args = draw(2, 16, F, D, N, W, R)
    shape = sizes(args.memory, args.read_weights, args.interface_weight, 2, R, 2, False, 0.99)
    arguments = fields(*shape, *[0] * 30)
    for is_backward, name in enumerate(("forward", "backward")):
        shared, clusters = ctypes.c_int64(), ctypes.c_int64()
        error = library.persistent_occupancy(arguments, is_backward, ctypes.byref(shared), ctypes.byref(clusters))
        text = error.decode() if error else "no error"
        print(f"{name}: shared memory {shared.value}, active clusters {clusters.value}, {text}")


def print_exchange(library: ctypes.CDLL) -> None:
    cycles = (ctypes.c_int64 * 3)()
    error = library.persistent_exchange(cycles)
    ways = zip(("one number a thread", "four numbers a thread", "stores and a barrier"), cycles)
    print(
        "exchange of 200 numbers of each block, cycles:",
        ", ".join(f"{way} {count}" for way, count in ways),
        error or "",
    )


def compare(B: int, steps: int, **options: Any) -> bool:
    """Whether all results agree with the float64 reference by the accuracy rule; prints those that do not."""
    args = draw(steps, B, F, D, N, W, R, device="cuda", **options)
    _, gap = reference(double(args))
    clear = gap > 1e-5
    print(f"B {B} T {steps} {options or ''}, {int(clear.sum())} episodes have no near-tie of usages and are compared")
    args = take(args, clear.nonzero().flatten())
    truth, single = reference(double(args))[0], reference(args)[0]
    saved = forward(args)
    torch.cuda.synchronize()
    good = [agree(*x) for x in zip(Results._fields, saved, truth, single)]
    again = forward(args)
    good += [same(*x) for x in zip(Results._fields, saved, again)]
    grads = cotangents(single)
    got = backward(args, saved, grads)
    torch.cuda.synchronize()
    right, of_single = reference_gradients(double(args), [x.double() for x in grads]), reference_gradients(args, grads)
    good += [agree("d_" + name, *x) for name, *x in zip(Episode._fields, got, right, of_single)]
    again_backward = backward(args, saved, grads)
    good += [same("d_" + name, *x) for name, *x in zip(Episode._fields, got, again_backward)]
    return all(good)


def take(args: Episode, places: Tensor) -> Episode:
    """The episodes at ``places``."""
    return args._replace(
        input=args.input[:, places],
        **{name: getattr(args, name)[places] for name in ("output", "cell", "memory", "read_weights", "usage")},
    )


def agree(name: str, ours: Tensor, truth: Tensor, single: Tensor) -> bool:
    right = fits(ours, truth, single)
    errors = f"error {relative(ours, truth):.2e}  float32 reference {relative(single, truth):.2e}"
    print(f"  {name:18} {errors}  {'' if right else 'DIFFERS'}")
    if not right:
        describe(ours, truth)
    return right


def same(name: str, x: Tensor, y: Tensor) -> bool:
    equal = torch.equal(x.nan_to_num(7.0), y.nan_to_num(7.0))
    if not equal:
        print(f"  {name}: a second run gives other bits")
    return equal


def describe(ours: Tensor, truth: Tensor) -> None:
    """Where two tensors differ: the largest error and the first places, by index."""
    gap = (ours.double() - truth).abs()
    wrong = ~(gap <= 1e-4 * truth.abs() + 1e-5)
    first = wrong.nonzero()[:4].tolist()
    largest = gap.nan_to_num(-1).max().item()
    print(f"    NaN {ours.isnan().sum().item()}, largest error {largest:.3e}, wrong {wrong.sum().item()}")
    for at in first:
        print(f"    at {at}: {ours[tuple(at)].item():.6g}, need {truth[tuple(at)].item():.6g}")
    if wrong.dim() == 3:
        print(f"    wrong by dim 0 {wrong.sum((1, 2)).tolist()[:32]} by dim 1 {wrong.sum((0, 2)).tolist()[:32]}")


def microseconds(run: Callable[[], Any], count: int = 20) -> float:
    """The median time of a run."""
    for _ in range(3):
        run()
    times = []
    for _ in range(count):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1000)
    return sorted(times)[count // 2]


def print_times(library: ctypes.CDLL, calls: tuple[Call, Call], B: int) -> None:
    """Microseconds a step, and cycles of the parts of a step as one thread of one block sees them."""
    args = draw(T, B, F, D, N, W, R, device="cuda")
    for save in (False, True):
        run = functools.partial(forward, args, save)
        print_kernel(library, f"B {B:4} forward, saved {save!s:5}", FORWARD, calls, 0, run)
    saved = forward(args)
    grads = cotangents(saved[:5])
    print_kernel(library, f"B {B:4} backward", BACKWARD, calls, 1, lambda: backward(args, saved, grads))
    lstm = torch.nn.LSTM(F + R * W, D).cuda()
    x = torch.randn(T, B, F + R * W, device="cuda", requires_grad=True)
    with torch.no_grad():
        print(f"B {B:4} nn.LSTM forward {microseconds(lambda: lstm(x)) / T:.2f} us a step")
    print(f"B {B:4} nn.LSTM forward and backward {microseconds(lambda: lstm(x)[0].sum().backward()) / T:.2f} us a step")


def print_kernel(
    library: ctypes.CDLL, name: str, phases: list[str], calls: tuple[Call, Call], which: int, run: Callable[[], Any]
) -> None:
    """Times of a kernel, and of it with the products and allocations around it; and the cycles of its parts."""
    prepared: list[Any] = []
    with kernels(prepared.append, prepared.append):
        results = run()  # nothing runs on the GPU but the products; the tensors stay alive
    kernel = microseconds(lambda: calls[which](prepared[0]))
    cycles = (ctypes.c_int64 * 16)()
    library.persistent_phases(cycles)  # sets them to zero
    calls[which](prepared[0])
    torch.cuda.synchronize()
    library.persistent_phases(cycles)
    print(f"{name} {kernel / T:.2f} us a step, with products and allocation {microseconds(run) / T:.2f}")
    print("       cycles: " + ", ".join(f"{name} {count / T:.0f}" for name, count in zip(phases, cycles)))
    del results


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=20, help="steps of the episodes that are compared")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    print(torch.cuda.get_device_name(), torch.__version__, torch.version.cuda)
    with tempfile.TemporaryDirectory() as folder:
        library = build(Path(folder))
        print_occupancy(library)
        print_exchange(library)
        calls = caller(library.persistent_forward), caller(library.persistent_backward)
        with kernels(*calls):
            good = [compare(1, 1), *(compare(B, options.steps) for B in (1, 16, 17, 256))]
            good.append(compare(5, options.steps, key_strength=True, least_used="per_head", num_least_used=3))
            print("all agree" if all(good) else "SOME DIFFER")
            for B in (16, 120, 256):
                print_times(library, calls, B)
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
