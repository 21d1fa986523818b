"""Models whose episode is one operation of the GPU, run on the CPU: a MANN on Triton, an NTM with CUDA's kernels too.

Triton's kernels run in its interpreter, those of CUDA C++ in the emulator of tests/cuda.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from mannkern import MANN, NTM
from mannkern.memories.ntm.ops import step
from mannkern.triton.launch import common
from mannkern.triton.launch import controller as launch_controller
from mannkern.triton.launch import episode as launch_mann
from mannkern.triton.launch import ntm_episode as launch_ntm
from tests.cuda import emulated
from tests.helpers import Tensors
from tests.memories.sequences import Sequence, build, evaluate
from tests.triton.recorder import Recorder

SMALL = (3, 5, 7, 4, 2)  # F, D, N, W, R
BACKENDS: dict[type[Sequence], str] = {MANN: "triton", NTM: "cuda"}
LAUNCHERS = {MANN: launch_mann, NTM: launch_ntm}
needs_compiler = pytest.mark.skipif(not emulated.HAS_COMPILER, reason="needs a C++ compiler and Linux")
MODULES = (MANN, pytest.param(NTM, marks=needs_compiler))
BOTH = pytest.mark.parametrize("module", MODULES)


def mann(sizes: tuple[int, ...] = SMALL, dtype: torch.dtype = torch.float64, **options: Any) -> Any:
    return build(MANN, sizes, dtype, backend="triton", **options)


def on_gpu(
    module: type[Sequence], sizes: tuple[int, ...] = SMALL, dtype: torch.dtype = torch.float64, **options: Any
) -> Any:
    """A model on the backend whose episode is one operation; an NTM needs ``kernels``."""
    return build(module, sizes, dtype, backend=BACKENDS[module], **options)


@pytest.fixture
def kernels() -> Iterator[None]:
    """NTM's episodes run the emulated kernels of CUDA C++."""
    if not emulated.HAS_COMPILER:
        yield
        return
    with emulated.episodes(emulated.EpisodeOperations(emulated.library())):
        yield


def once(model: Any, input: Tensor, state: Any) -> Tensors:
    """``evaluate``, which must have called the operation and its gradient once each, and no other."""
    name = f"{type(model).__name__.lower()}_episode"
    with Recorder() as recorder:
        got = evaluate(model, "whole", input, state)
    assert {name: len(calls) for name, calls in recorder.calls.items()} == {name: 1, name + "_backward": 1}
    return got


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Counts the launches of each kernel."""
    launched: Counter[str] = Counter()

    def run(kernel: Any, *args: Any, **constants: Any) -> None:
        launched[kernel.__name__] += 1
        common.run(kernel, *args, **constants)

    def counting(name: str, operation: Any) -> Any:
        def call(*args: Any) -> None:
            launched[name] += 1
            operation(*args)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for module in (launch_mann, launch_controller):
            patch.setattr(module, "run", run)
        for name in emulated.EPISODE_OPERATIONS:
            operation = getattr(step, name)
            patch.setitem(operation, "default", counting(name, operation["default"]))
        yield launched
