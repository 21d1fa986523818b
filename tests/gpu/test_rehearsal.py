"""The checks of models as users call them, rehearsed on the CPU: with stand-ins for what only a GPU has."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mannkern.triton import graph
from tests.gpu import episodes, users
from tests.helpers import pretend_gpu

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="tests/gpu/test_gpu.py runs them")


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models stay on the CPU, where they run the C++ kernels whatever backend they ask for."""
    pretend_gpu(monkeypatch)
    monkeypatch.setattr(Tensor, "cuda", lambda x: x)
    monkeypatch.setattr(nn.Module, "cuda", lambda x: x)
    build = episodes.build

    def build_here(*args: Any, backend: str | None = None, **options: Any) -> Any:
        return build(*args, **options)

    for module in (episodes, users):
        monkeypatch.setattr(module, "build", build_here)
    monkeypatch.setattr(episodes, "why_not", lambda *args, **sizes: "")
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "MemPool", object)
    monkeypatch.setattr(torch.cuda, "use_mem_pool", lambda pool: nullcontext())
    monkeypatch.setattr(graph, "Graph", Captured)


class Captured:
    """Stands in for a captured graph, whose last replay is over."""

    done = SimpleNamespace(synchronize=lambda: None)


class Profile:
    """Stands in for a profile, in which these kernels and an operation of the CPU were seen."""

    def __init__(self, *kernels: str) -> None:
        seen = [(name, torch.autograd.DeviceType.CUDA) for name in kernels]
        self.seen = [*seen, ("mannkern::mann_persistent_kernel", torch.autograd.DeviceType.CPU)]

    def __call__(self, activities: list[Any]) -> Any:
        return nullcontext(self)

    def events(self) -> list[Any]:
        return [SimpleNamespace(name=name, device_type=device) for name, device in self.seen]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch about itself
def test_torch_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check holds; it fails where the compiled model is another one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # else the compiler looks at the GPU
    compile_ = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda model, fullgraph: compile_(model, fullgraph=fullgraph, backend="eager")
    )
    users.compiled()
    monkeypatch.setattr(torch, "compile", lambda model, fullgraph: type(model)(*episodes.SMALL, memory_init="learned"))
    with pytest.raises(AssertionError, match="MANN"):
        users.compiled()


def test_resets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks hold, the first one only if there was a graph; they fail where resets are not heeded."""
    monkeypatch.setattr(graph, "_graphs", OrderedDict())
    with pytest.raises(AssertionError):
        users.resets_with_batch_first()
    monkeypatch.setattr(graph, "_graphs", OrderedDict(shape=Captured()))
    users.resets_with_batch_first()
    users.within_a_memory_pool()
    assert not graph._graphs
    step, count = users.step, itertools.count()

    def forgetful(model: Any, x: Tensor, reset: Tensor) -> Any:
        return step(model, x, **({} if next(count) == 2 else {"reset": reset}))

    monkeypatch.setattr(users, "step", forgetful)
    with pytest.raises(AssertionError, match="MANN"):
        users.within_a_memory_pool()


def test_what_writes_into_the_pool_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call writes into a tensor that lies in the pool."""
    full = Tensor.new_full
    monkeypatch.setattr(Tensor, "new_full", lambda x, *args: full(x, *args).index_fill_(0, torch.tensor([0]), 0.0))
    with pytest.raises(AssertionError):
        users.within_a_memory_pool()


def test_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU has no TF32, which the check notices. It leaves PyTorch's setting as it was."""
    before = torch.backends.cuda.matmul.allow_tf32
    with pytest.raises(AssertionError, match="TF32 was not used"):
        users.tf32()
    monkeypatch.setattr(users, "TF32_ERRORS", (0.0, 4e-3))
    assert users.tf32() is None
    assert torch.backends.cuda.matmul.allow_tf32 == before
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert users.tf32() == "not run: needs a GPU with TF32"


def test_the_persistent_kernel_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both kernels have to be among those of the GPU; the operation that launches them has nearly their name."""
    names = [f"void mannkern::mann_persistent{x}_kernel(Args)" for x in ("", "_backward")]
    monkeypatch.setattr(torch.profiler, "profile", Profile(*names))
    assert users.persistent_kernel() is None
    monkeypatch.setattr(torch.profiler, "profile", Profile(names[1], "lrua_step_kernel"))
    with pytest.raises(AssertionError, match="mann_persistent_kernel"):
        users.persistent_kernel()
    monkeypatch.setattr(torch.profiler, "profile", Profile())
    assert users.persistent_kernel() == "not run: needs a profiler that sees kernels"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    assert users.persistent_kernel() == "not run: needs a GPU of compute capability 9.0 or 10.0"
