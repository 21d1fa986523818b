"""What a graph of an episode keeps: every tensor that a kernel uses, so that no replay writes into another's memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mannkern.memories.ntm.ops import step
from mannkern.triton.launch import controller
from mannkern.triton.launch import episode as launch_mann
from tests.cuda import emulated
from tests.memories.ends import ends
from tests.memories.sequences import episode
from tests.triton.episodes import BOTH, on_gpu
from tests.triton.episodes import kernels as kernels

pytestmark = pytest.mark.usefixtures("kernels")


@pytest.fixture
def operations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the loops that ran as a graph runs them, each after a check that it returned all that kernels used."""
    ran: list[str] = []
    used: dict[int, tuple[int, ...]] = {}  # the places of their memory, with their shapes

    def noting(run: Callable[..., None]) -> Callable[..., None]:
        def noted(*args: Any, **constants: Any) -> None:
            used.update((_place(x), tuple(x.shape)) for x in args if isinstance(x, Tensor) and x.numel())
            run(*args, **constants)

        return noted

    def replay(operation: Any, tensors: Any, options: Any) -> tuple[Tensor, ...]:
        tensors = tuple(None if x is None else x.contiguous().clone() for x in tensors)
        used.clear()
        results, scratch = operation(*tensors, *options)
        kept = {_place(x) for x in (*tensors, *results, *scratch) if x is not None}
        assert [shape for place, shape in used.items() if place not in kept] == []
        ran.append(operation.__name__)
        return results

    monkeypatch.setattr(controller, "replay", replay)
    for module in (controller, launch_mann):
        monkeypatch.setattr(module, "run", noting(module.run))
    for name in emulated.EPISODE_OPERATIONS:
        operation = getattr(step, name)
        monkeypatch.setitem(operation, "default", noting(operation["default"]))
    return ran


def _place(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()


@BOTH
@pytest.mark.parametrize("kind", ["lstm", "feedforward"])
@pytest.mark.parametrize("given", [{}, ends("both", 3)], ids=["whole", "ends"])
def test_all_that_kernels_use(module: Any, given: dict[str, Tensor], kind: str, operations: list[str]) -> None:
    """Without and with resets, which have a first weight and a gradient of the initial memory of their own."""
    model = on_gpu(module, (3, 4, 6, 4, 2), controller=kind, memory_init="learned")
    input, state = episode(model, 3, B=7)
    with torch.no_grad():
        model(input, state, **given)
    output, last = model(input, state, **given)
    (output.square().sum() + last.memory.square().sum()).backward()
    assert operations == ["_forward", "_forward", "_backward"]
