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
from tests.cuda.persistent import (
    Episode,
    Results,
    backward,
    cotangents,
    double,
    draw,
    fits,
    forward,
    reference,
    reference_gradients,
)

pytestmark = [
    pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="needs a C++ compiler and Linux"),
    pytest.mark.slow,
]
Emulate = Callable[[str, bool], Callable[[Any], None]]
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
    """The compiled kernels: (name, whether threads run in reverse) -> a call with the fields of a struct."""
    library = tmp_path_factory.mktemp("persistent") / "emulated.so"
    flags = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-shared", "-fPIC"]
    source = str(Path(__file__).with_name("emulate_persistent.cpp"))
    subprocess.run([str(COMPILER), *flags, source, "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    return lambda name, backwards: lambda arguments: getattr(loaded, name)(arguments, int(backwards))


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("shape", EPISODES)
def test_accuracy_in_any_order(shape: str, options: str, emulate: Emulate) -> None:
    """Results and gradients are accurate, and bit-equal with threads in reverse."""
    args = draw(*EPISODES[shape], **OPTIONS[options])
    (truth, gap), (single, _) = reference(double(args)), reference(args)
    assert gap.min() > 1e-6
    saved = forward(emulate("persistent_forward", False), args)
    assert [name for name, *x in zip(Results._fields, saved, truth, single) if not fits(*x)] == []
    grads = cotangents(single)
    got = backward(emulate("persistent_backward", False), args, saved, grads)
    right, of_single = reference_gradients(double(args), [x.double() for x in grads]), reference_gradients(args, grads)
    assert [name for name, *x in zip(Episode._fields, got, right, of_single) if not fits(*x)] == []

    again = forward(emulate("persistent_forward", True), args)
    assert [name for name, x, y in zip(Results._fields, again, saved) if not same(x, y)] == []
    again_backward = backward(emulate("persistent_backward", True), args, saved, grads)
    assert [name for name, x, y in zip(Episode._fields, again_backward, got) if not same(x, y)] == []


def same(x: torch.Tensor, y: torch.Tensor) -> bool:
    return torch.equal(x.nan_to_num(7.0), y.nan_to_num(7.0))
