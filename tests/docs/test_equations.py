"""The equations of docs/equations.md: worked by hand, and as PyTorch code, beside the operations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mannkern import functional
from tests.docs.markdown import files, python_blocks, text
from tests.helpers import CASES, SHAPES, arguments

LRUA, NTM = python_blocks(text("docs/equations.md"))
BACKENDS = ["reference", "auto"]


def tensor(*numbers: object) -> Tensor:
    """A float64 tensor of one episode, (1, ...)."""
    return torch.tensor([list(numbers)], dtype=torch.float64)


@pytest.mark.parametrize("chosen", BACKENDS)
def test_lrua_step_by_hand(chosen: str) -> None:
    """One head, three slots of width 2: slot 0 is least used, and slot 2 was read last."""
    step = functional.lrua_step(
        memory=tensor([9, 9], [0, 1], [2, 0]),
        read_weights=tensor([0, 0, 1]),
        usage=tensor(0.2, 0.5, 0.9),
        key=tensor([5, 0]),
        add=tensor([2, 0]),
        gate=tensor(0),  # half to the slot that was read last, half to the least used
        strength=tensor(math.log(2)),
        decay=0.5,
        backend=chosen,
    )
    by_hand = {
        "write_weights": tensor([0.5, 0, 0.5]),
        "memory": tensor([1, 0], [0, 1], [3, 0]),  # slot 0 was set to zero first
        "read_weights": tensor([0.4, 0.2, 0.4]),  # cosines 1, 0, 1 give 2^1 : 2^0 : 2^1
        "read": tensor([1.6, 0.2]),  # 0.4 [1, 0] + 0.2 [0, 1] + 0.4 [3, 0]
        "usage": tensor(1.0, 0.45, 1.35),  # 0.5 u + read weights + write weights
    }
    for name, value in by_hand.items():
        torch.testing.assert_close(getattr(step, name), value, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("chosen", BACKENDS)
def test_ntm_step_by_hand(chosen: str) -> None:
    """One head, four slots of width 1: a closed gate keeps slot 0, and three quarters of it move one slot up."""
    memory = torch.ones(1, 4, 1, dtype=torch.float64)
    weights = functional.ntm_address(
        memory,
        previous=tensor([1, 0, 0, 0]),
        key=tensor([1]),
        strength=tensor(1),
        gate=tensor(0),
        shift=tensor([0, 0.25, 0.75]),  # none down, a quarter stays, three quarters up
        sharpness=tensor(2),
        backend=chosen,
    )
    torch.testing.assert_close(weights, tensor([0.1, 0.9, 0, 0]))  # (1/4)^2 : (3/4)^2 = 1 : 9
    written = functional.ntm_write(memory, weights, erase=tensor([1]), add=tensor([10]), backend=chosen)
    torch.testing.assert_close(written, tensor([1.9], [9.1], [1], [1]))  # 1 (1 - w) + 10 w


@pytest.mark.parametrize("n", [1, 3])
def test_the_code_of_lrua_is_the_step(n: int) -> None:
    torch.manual_seed(n)
    B, N, W, R = 3, 9, 5, 3
    options = {"dtype": torch.float64}
    inputs = {
        "memory": torch.randn(B, N, W, **options),
        "read_weights": torch.rand(B, R, N, **options),
        "usage": torch.rand(B, N, **options),
        "key": torch.randn(B, R, W, **options),
        "add": torch.randn(B, R, W, **options),
        "gate": torch.randn(B, R, **options),
        "strength": torch.rand(B, R, **options),
    }
    scope: dict[str, object] = {"torch": torch, "n": n, "W": W, "decay": 0.95, **inputs}
    exec(LRUA, scope)
    step = functional.lrua_step(**inputs, num_least_used=n, decay=0.95)
    for name, value in step._asdict().items():
        torch.testing.assert_close(value, scope[name], rtol=1e-12, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")


def test_the_code_of_the_ntm_is_the_step() -> None:
    torch.manual_seed(0)
    tensors = arguments(CASES["ntm_address"], SHAPES["odd"], torch.float64)
    written = arguments(CASES["ntm_write"], SHAPES["odd"], torch.float64)
    erase, add = written["erase"], written["add"]
    scope: dict[str, object] = {"torch": torch, "S": SHAPES["odd"].S, "erase": erase, "add": add, **tensors}
    exec(NTM, scope)
    weights = functional.ntm_address(**tensors)
    torch.testing.assert_close(scope["weights"], weights)
    torch.testing.assert_close(scope["memory"], functional.ntm_write(tensors["memory"], weights, erase, add))


def test_every_python_block_of_the_documents_is_run_by_a_test() -> None:
    """Those of the equations run here, those of the README in tests/test_readme.py, the others beside this file."""
    found = {str(path): len(python_blocks(text(path))) for path in files()}
    assert {path: count for path, count in found.items() if count} == {
        "README.md": 2,
        "docs/api/optim.md": 1,
        "docs/equations.md": 2,
        "docs/tutorial.md": 2,
        "docs/your-own-task.md": 4,
    }
