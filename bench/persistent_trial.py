"""A trial of the persistent kernels on a GPU: compiles them, compares them with the float64 reference, and times them.

    python bench/persistent_trial.py [--out FILE]

It needs an sm_90 or sm_100 GPU and nvcc, and no compiled library of the package.
"""

from __future__ import annotations

import argparse
import ctypes
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
from tests.cuda.persistent import Episode, Results, converted, draw, fields, forward, gaps, sizes

ROOT = Path(__file__).resolve().parents[1]
F, D, N, W, R, T = 405, 200, 128, 40, 4, 50
PHASES = ["read product", "barrier", "LSTM", "wait", "interface product", "barrier", "interface", "hidden product"]
PHASES += ["wait", "memory", "rows", "selection", "wait"]


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
    for name in ("persistent_forward", "persistent_occupancy"):
        getattr(loaded, name).restype = ctypes.c_char_p
    return loaded


def relative(got: Tensor, right: Tensor) -> float:
    return ((got.double() - right).norm() / right.norm().clamp_min(1e-300)).item()


def call_on_gpu(library: ctypes.CDLL) -> Callable[[Any], None]:
    def call(arguments: Any) -> None:
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        error = library.persistent_forward(arguments, stream)
        if error:
            raise RuntimeError(f"launch: {error.decode()}")

    return call


def compare(call: Callable[[Any], None], B: int, steps: int, **options: Any) -> bool:
    """Whether all results agree with the float64 reference by the accuracy rule; prints those that do not."""
    mann, args, state = draw(steps, B, F, D, N, W, R, device="cuda", **options)
    with torch.no_grad():
        clear = gaps(mann, args.input.double(), state) > 1e-5
        right = results(*mann(args.input.double(), state))
        single = results(*mann.float()(args.input, converted(state, torch.float32)))
        got = forward(call, args)
        torch.cuda.synchronize()
        again = forward(call, args)
        torch.cuda.synchronize()
    good = True
    print(f"B {B} T {steps} {options or ''}, {int(clear.sum())} episodes without a near-tie of usages are compared")
    for name, truth in right.items():
        axis = int(name == "outputs")
        places = clear.nonzero().flatten()
        ours, truth, reference = (x.index_select(axis, places) for x in (getattr(got, name), truth, single[name]))
        error, of_reference = relative(ours, truth), relative(reference, truth)
        fits = error <= 4 * of_reference + 1e-6
        good &= fits
        print(f"  {name:13} error {error:.2e}  float32 reference {of_reference:.2e}  {'' if fits else 'DIFFERS'}")
        if not fits:
            describe(ours, truth)
    for name, x, y in zip(Results._fields, got, again):
        if not torch.equal(x.nan_to_num(7.0), y.nan_to_num(7.0)):
            print(f"  {name}: a second run gives other bits")
            good = False
    return good


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
        print(f"    wrong by dim 0 {wrong.sum((1, 2)).tolist()[:50]} by dim 1 {wrong.sum((0, 2)).tolist()[:32]}")


def results(outputs: Tensor, state: Any) -> dict[str, Tensor]:
    return {
        "outputs": outputs,
        "memory": state.memory,
        "read_weights": state.read_weights,
        "usage": state.usage,
        "cell": state.controller[1],
    }


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


def time_one(call: Callable[[Any], None], args: Episode, save: bool) -> tuple[float, float]:
    """Microseconds a step of the kernel, and with the input's product and the allocation of the results."""
    prepared: list[Any] = []
    results = forward(prepared.append, args, save)  # nothing runs; the tensors stay alive
    kernel = microseconds(lambda: call(prepared[0]))
    del results
    return kernel / T, microseconds(lambda: forward(call, args, save)) / T


def print_phases(library: ctypes.CDLL, call: Callable[[Any], None], B: int) -> None:
    """Cycles of each part of a step, as one thread of one block sees them."""
    _, args, _ = draw(T, B, F, D, N, W, R, device="cuda")
    cycles = (ctypes.c_int64 * 16)()
    library.persistent_phases(cycles)  # sets them to zero
    forward(call, args)
    torch.cuda.synchronize()
    library.persistent_phases(cycles)
    print(f"B {B:4} cycles a step:", ", ".join(f"{name} {count / T:.0f}" for name, count in zip(PHASES, cycles)))


def time_forward(call: Callable[[Any], None], B: int) -> None:
    _, args, _ = draw(T, B, F, D, N, W, R, device="cuda")
    lstm = torch.nn.LSTM(F + R * W, D).cuda()
    x = torch.randn(T, B, F + R * W, device="cuda")
    for save in (False, True):
        kernel, whole = time_one(call, args, save)
        print(f"B {B:4} save {save!s:5}: kernel {kernel:.2f} us a step, with product and allocation {whole:.2f}")
    with torch.no_grad():
        print(f"B {B:4} nn.LSTM forward {microseconds(lambda: lstm(x)) / T:.2f} us a step")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=20, help="steps of the episodes that are compared")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    print(torch.cuda.get_device_name(), torch.__version__, torch.version.cuda)
    with tempfile.TemporaryDirectory() as folder:
        library = build(Path(folder))
        _, args, _ = draw(2, 16, F, D, N, W, R, device="cuda")
        shape = fields(*sizes(args), *[0] * 20)
        bytes_, clusters = ctypes.c_int64(), ctypes.c_int64()
        error = library.persistent_occupancy(shape, ctypes.byref(bytes_), ctypes.byref(clusters))
        print(
            f"shared memory {bytes_.value}, active clusters {clusters.value}, {error.decode() if error else 'no error'}"
        )
        call = call_on_gpu(library)
        agree = [compare(call, 1, 1), *(compare(call, B, options.steps) for B in (1, 16, 17, 256))]
        agree.append(compare(call, 5, options.steps, key_strength=True, least_used="per_head", num_least_used=3))
        good = all(agree)
        print("all agree" if good else "SOME DIFFER")
        for B in (16, 256):
            print_phases(library, call, B)
            time_forward(call, B)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
