"""Wrong calls of the compiled operations are refused by name, before they touch memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mannkern import MANN, NTM, functional
from tests.csrc.right_calls import right_calls

FILE = Path(__file__).with_name("wrong_calls.py")
RIGHT = {
    (call.operation, call.arguments.get("cell") is None): call
    for call in right_calls()
    if call.arguments.get("lengths") is None
}
ENDS = {call.operation: call for call in right_calls() if call.arguments.get("lengths") is not None}


def test_an_error_names_the_argument_what_came_and_what_is_needed() -> None:
    scan, mann = RIGHT["lrua_scan_backward", True], RIGHT["mann_episode_backward", False]
    for wrong, said in (
        (scan.change("num_least_used", 0), "mannkern: num_least_used: got 0, need 1 to 5"),
        (scan.change("usage", torch.rand(2, 6)), "mannkern: usage: got shape [2, 6], need [2, 5]"),
        (scan.change("usage", torch.rand(2, 5).double()), "mannkern: usage: got float64, need float32"),
        (mann.change("rows", mann.arguments["rows"][0]), "mannkern: rows: got shape [2, 5, "),
        (mann.change("memory", torch.rand(2)), "mannkern: memory: got shape [2], need (B, N, W), each under 2^31;"),
        (mann.change("least_used", torch.full((7, 2, 2), 5)), "mannkern: least_used: got slot 5, need 0 to N - 1 = 4"),
    ):
        with pytest.raises(RuntimeError) as error:
            wrong()
        assert str(error.value).startswith(said)


@pytest.mark.parametrize("operation", ENDS)
def test_lengths_and_resets_are_checked(operation: str) -> None:
    right = ENDS[operation]
    for argument, value, said in (
        ("lengths", torch.tensor([8, 1]), "lengths: got 8, need 0 to 7"),
        ("lengths", torch.tensor([7, -1]), "lengths: got -1, need 0 to 7"),
        ("lengths", torch.tensor([3, 4]), "lengths: got 4 behind 3, need the longest first"),
        ("lengths", torch.tensor([3]), "lengths: got shape [1], need [2]"),
        ("lengths", torch.ones(2), "lengths: got float32, need int64"),
        ("reset", torch.ones(2, 7).bool(), "reset: got shape [2, 7], need [7, 2]"),
        ("reset", torch.ones(7, 2), "reset: got float32, need bool"),
        ("reset", None, "initial_memory: got a tensor, need None where there is no reset"),
        ("initial_memory", None, "initial_memory: got None, need a tensor (N, W)"),
        ("initial_memory", torch.ones(5, 4), "initial_memory: got shape [5, 4], need [5, 3]"),
    ):
        with pytest.raises(RuntimeError) as error:
            right.change(argument, value)()
        assert str(error.value).startswith(f"mannkern: {said}")


def test_every_change_of_one_argument_is_refused_or_right() -> None:
    """In a process of its own, so that a crash is a failed test."""
    root = FILE.parents[2]
    small_too = {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}  # see tests/allocations.py
    command = [sys.executable, "-m", "tests.csrc.wrong_calls"]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, env=small_too)
    assert run.returncode == 0, run.stderr[-2000:]
    calls = [tuple(call) for call in json.loads(run.stdout)]
    assert len(calls) > 5000
    assert [call for call in calls if call[3] not in ("refused", "finite")] == []
    assert [call for call in calls if call[2].startswith("right") and call[3] == "refused"] == []
    assert [call for call in calls if call[3] == "finite" and not call[4]] == []


@pytest.mark.parametrize("operation", ["mann_episode", "ntm_episode"])
def test_an_episode_without_steps_has_the_sizes_that_the_fake_says(operation: str) -> None:
    right = RIGHT[operation, False]
    call = right.change("input", right.arguments["input"][:0])
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(getattr(torch.ops.mannkern, operation).default, [*call.arguments.values()], test_utils=checks)


@pytest.mark.parametrize(
    ("operation", "argument", "value", "said"),
    [
        ("usage_update", "decay", float("nan"), "decay: got nan, need 0 to 1"),
        ("lrua_scan", "decay", 1.5, "decay: got 1.500000, need 0 to 1"),
        ("mann_cell", "hidden", None, "hidden: got None, need a tensor, for an LSTM"),
        ("ntm_cell", "recurrent_weight", None, "hidden: got a tensor, need None where recurrent_weight is None"),
        ("lrua_step_backward", "memory", None, "memory: got None, need a tensor"),
        ("additive_write_backward", "grad", torch.ones(2), "grad: got shape [2], need (B, N, W), each under 2^31"),
        ("mann_cell_backward", "memory_out", torch.ones(2), "memory_out: got shape [2], need (B, N, W), each under"),
        ("cell_weight_gradients", "hidden_size", 0, "hidden_size: got 0, need 1 to 2147483647"),
    ],
)
def test_the_argument_is_named_as_in_the_schema(operation: str, argument: str, value: Any, said: str) -> None:
    right = next(call for call in right_calls() if call.operation == operation)
    with pytest.raises(RuntimeError) as error:
        right.change(argument, value)()
    assert str(error.value).startswith(f"mannkern: {said}")


def test_none_is_refused_where_a_batch_is_empty() -> None:
    """PyTorch has None as a tensor of shape [0], which is the right one of a buffer for no episodes."""
    for right in right_calls(B=0):
        if "saved" in right.arguments:
            with pytest.raises(RuntimeError, match="mannkern: saved: got None"):
                right.change("saved", None)()


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "dtype": lambda x: x.double(),
    "half": lambda x: x.half(),
    "rank": lambda x: x[None],
    "size": lambda x: x[..., :-1],
    "larger": lambda x: torch.cat([x, x]),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("module", [MANN, NTM])
@pytest.mark.parametrize("controller", ["lstm", "feedforward"])
def test_a_hook_that_changes_saved_tensors_is_refused(change: str, module: type[MANN | NTM], controller: str) -> None:
    model = module(3, 4, 5, 3, 2, controller=controller)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x, CHANGES[change]):
        output, _ = model(torch.rand(7, 2, 3))
    with pytest.raises(RuntimeError, match="mannkern: "):
        output.sum().backward()


@pytest.mark.parametrize("change", CHANGES)
def test_a_hook_around_a_scan_and_a_read_is_refused(change: str) -> None:
    memory, keys, gates = torch.rand(2, 5, 3, requires_grad=True), torch.rand(7, 2, 2, 3), torch.rand(7, 2, 2)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x, CHANGES[change]):
        outputs = (
            functional.lrua_scan(memory, torch.rand(2, 2, 5), torch.rand(2, 5), keys, keys, gates)[0],
            functional.cosine_read(memory, keys[0])[0],
        )
    for output in outputs:
        with pytest.raises(RuntimeError, match="mannkern: "):
            output.sum().backward()
