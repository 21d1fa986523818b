"""The persistent kernels of a MANN's episode, run thread by thread on the CPU."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cuda.emulated import COMPILER
from tests.cuda.persistent import Results, converted, draw, forward, gaps

pytestmark = [
    pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="needs a C++ compiler and Linux"),
    pytest.mark.slow,
]
Emulate = Callable[[int], Callable[[Any], None]]
EPISODES = {  # T, B, F, D, N, W, R
    "standard": (3, 3, 7, 200, 128, 40, 4),
    "odd_sizes": (4, 17, 5, 50, 33, 13, 3),
    "small": (6, 2, 3, 9, 20, 3, 1),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "paper": {},
    "per_head": {"key_strength": True, "least_used": "per_head", "num_least_used": 2},
}


@pytest.fixture(scope="module")
def emulate(tmp_path_factory: pytest.TempPathFactory) -> Emulate:
    library = tmp_path_factory.mktemp("persistent") / "emulated.so"
    flags = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-shared", "-fPIC"]
    source = str(Path(__file__).with_name("emulate_persistent.cpp"))
    subprocess.run([str(COMPILER), *flags, source, "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    return lambda backwards: lambda arguments: loaded.emulate_persistent(arguments, backwards)


def relative(got: torch.Tensor, right: torch.Tensor) -> float:
    return float((got.double() - right).norm() / right.norm())


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("shape", EPISODES)
def test_accuracy_in_any_order(shape: str, options: str, emulate: Emulate) -> None:
    """Results are accurate, and bit-equal with threads in reverse."""
    mann, args, state = draw(*EPISODES[shape], **OPTIONS[options])
    with torch.no_grad():
        assert gaps(mann, args.input.double(), state).min() > 1e-5
        outputs, last = mann(args.input.double(), state)
        single, single_last = mann.float()(args.input, converted(state, torch.float32))
    got = forward(emulate(0), args)
    right = (outputs, *last[1:4], last.controller[1])
    for name, truth, reference in zip(Results._fields, right, (single, *single_last[1:4], single_last.controller[1])):
        assert relative(getattr(got, name), truth) <= 4 * relative(reference, truth) + 1e-6, name
    again = forward(emulate(1), args)
    for name, x, y in zip(Results._fields, again, got):
        assert torch.equal(x.nan_to_num(7.0), y.nan_to_num(7.0)), name
