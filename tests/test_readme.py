"""The README's code runs, and its equations are the library's."""

import re
from pathlib import Path

import pytest
import torch

from bench.table import table
from mannkern import functional

README = (Path(__file__).parents[1] / "README.md").read_text()
USE, EQUATIONS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_figures_are_the_measured_ones() -> None:
    assert table() in README


def test_ten_lines_of_use_train() -> None:
    scope: dict[str, object] = {}
    exec(USE, scope)
    cell = scope["cell"]
    assert isinstance(cell, torch.nn.Module)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in cell.parameters())


@pytest.mark.parametrize("n", [1, 3])
def test_the_equations_as_pytorch_are_the_step(n: int) -> None:
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
    exec(EQUATIONS, scope)
    step = functional.lrua_step(**inputs, num_least_used=n, decay=0.95)
    for name, value in step._asdict().items():
        torch.testing.assert_close(value, scope[name], rtol=1e-12, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")
