"""The README's code runs, and its equations are the library's."""

import re
from pathlib import Path

import pytest
import torch

from bench.table import gpu_table, gpu_tables, memory_table, table
from mannkern import functional
from tests.helpers import CASES, SHAPES, arguments

README = (Path(__file__).parents[1] / "README.md").read_text()
USE, EQUATIONS, NTM = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_figures_are_the_measured_ones() -> None:
    for measured in (table(), memory_table(), *gpu_tables()):
        assert measured in README


def test_table_of_a_gpu() -> None:
    named = {"triton": 2e-3, "triton, graph": 1e-3, "reference": 8e-3, "compiled": 3e-3}
    rows = [{"what": "step", "B": 16, "name": name, "seconds": x, "of_bound": 5e-4 / x} for name, x in named.items()]
    rows.append({"what": "step", "B": 64, "name": "reference", "seconds": 1.0, "of_bound": 0.1})  # alone: no ratio
    assert gpu_table({"gpu": "some-gpu", "rows": rows}).splitlines() == [
        "| some-gpu | B | mannkern | of the bound | reference | compiled |",
        "|---|---|---|---|---|---|",
        "| step | 16 | 1,000 us | 50% | 8.00 | 3.00 |",
    ]


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


def test_the_equations_as_pytorch_are_the_ntm() -> None:
    torch.manual_seed(0)
    tensors = arguments(CASES["ntm_address"], SHAPES["odd"], torch.float64)
    written = arguments(CASES["ntm_write"], SHAPES["odd"], torch.float64)
    erase, add = written["erase"], written["add"]
    scope: dict[str, object] = {"torch": torch, "S": SHAPES["odd"].S, "erase": erase, "add": add, **tensors}
    exec(NTM, scope)
    weights = functional.ntm_address(**tensors)
    torch.testing.assert_close(scope["weights"], weights)
    torch.testing.assert_close(scope["memory"], functional.ntm_write(tensors["memory"], weights, erase, add))
