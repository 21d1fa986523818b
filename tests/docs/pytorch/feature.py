"""A row of docs/pytorch.md, and what the checks of the rows share."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mannkern import MANN, NTM

COMPILED, STEPS, YES, UNTESTED, NONE = "compiled loop", "step by step", "yes", "not tested", "-"
SAME = "same code"  # nothing of it depends on the backend
MANN_ALONE, NTM_ALONE = "compiled loop, MANN", "compiled loop, NTM"
MODULES = (MANN, NTM)
Check = Callable[[Any, str], None]


class Feature(NamedTuple):
    """A row: what works on each backend, and the check that shows it.

    cpp, reference: COMPILED, STEPS or YES, which ``check`` must show; "no: why", where it must raise ``error``;
                    UNTESTED or NONE, where it does not run
    check:          (module, backend) -> None; None where the tests of ``evidence`` show it
    evidence:       what shows the words that no check shows: "path::function" of tests that exist
    slow:           the backends on which the check takes over a second
    modules:        those that have the feature
    """

    name: str
    text: str
    cpp: str
    reference: str
    check: Check | None = None
    triton: str = UNTESTED
    cuda: str = UNTESTED
    evidence: tuple[str, ...] = ()
    error: str = ""
    slow: tuple[str, ...] = ()
    modules: tuple[Any, ...] = MODULES


SIZES = (3, 5, 8, 4, 2)  # F, D, N, W, R


def build(module: Any, backend: str, sizes: tuple[int, ...] = SIZES, **options: Any) -> Any:
    torch.manual_seed(0)
    return module(*sizes, **{"backend": backend, "dtype": torch.float64} | options)


def draw(*sizes: int) -> Tensor:
    return torch.randn(*sizes, dtype=torch.float64)


def twin(model: Any) -> Any:
    """A copy on the reference."""
    model = copy.deepcopy(model)
    for part in model.modules():
        if hasattr(part, "memory_slots"):
            part.backend = "reference"
    return model


def close(got: Any, expected: Any) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


def trained(model: Any, x: Tensor, run: Any = None, **ends: Any) -> list[Tensor]:
    """The output, the last memory, and the gradients of the sum of their squares; ``run`` calls the model."""
    output, state = (model if run is None else run)(x, **ends)
    loss = output.square().sum() + state.memory.square().sum()
    return [output.detach(), state.memory.detach(), *torch.autograd.grad(loss, list(model.parameters()))]


def agrees(model: Any, x: Tensor, run: Any = None, **ends: Any) -> None:
    """Used in the way ``run``, the model gives what the reference gives when it is called."""
    plain = twin(model)
    close(trained(model, x, run, **ends), trained(plain, x, **ends))


def found(check: Check, module: Any, backend: str) -> str:
    """COMPILED or STEPS: how the loop over time ran in a check, by the operations that PyTorch's profiler saw."""
    with torch.autograd.profiler.profile() as profile:
        check(module, backend)
    events = profile.kineto_results.events()  # raw ones, since those of function_events take seconds
    names = {event.name() for event in events if event.name().startswith("mannkern::")}
    episodes = {name for name in names if "_episode" in name}
    assert backend == "cpp" or not names, names
    assert not episodes or not any("lrua_step" in name or "ntm_" in name for name in names - episodes), names
    return COMPILED if episodes else STEPS
