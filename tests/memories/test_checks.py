"""The error of every function for every wrong argument names it, what came and what is needed; empty batches work."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch

from mannkern import functional
from tests.helpers import (
    CASES,
    EVERY_CASE,
    SHAPES,
    Case,
    Shape,
    arguments,
    cotangents,
    evaluate,
    on_backends,
    operations,
    run_case,
)


def test_example() -> None:
    """Read weights over five slots beside a usage of six: the message has the name, what came and what is needed."""
    message = r"^read_weights: got shape \(2, 3, 5\), need \(B, R, N\) = \(2, 3, 6\)$"
    with pytest.raises(ValueError, match=message):
        functional.usage_update(torch.rand(2, 6), torch.rand(2, 3, 5), torch.rand(2, 3, 6))


SHAPE = Shape(2, 6, 4, 3, 2)
GIVEN = {name: arguments(Case(operation, True), SHAPE) for name, operation in operations().items()}
EVERY = [(function, name) for function, tensors in GIVEN.items() for name in tensors]
FLOATS = [(function, name) for function, name in EVERY if name != "reset"]
LETTERS = {
    function: {name: argument.letters for name, argument in operation.arguments.items()}
    for function, operation in operations().items()
}


def first_of(function: str) -> str:
    return next(iter(GIVEN[function]))


def apply(function: str, changes: dict[str, Any]) -> Any:
    required = {"n": 2} if function == "least_used_mask" else {}
    return getattr(functional, function)(**GIVEN[function] | required | changes)


def raises(error: type[Exception], name: str, came: str, needed: str) -> Any:
    return pytest.raises(error, match=f"^{name}: got .*{re.escape(came)}.*need .*{re.escape(needed)}")


@pytest.mark.parametrize(("function", "name"), EVERY)
@pytest.mark.parametrize("value", [1.0, [[1.0]], "text"], ids=lambda value: type(value).__name__)
def test_not_a_tensor(function: str, name: str, value: Any) -> None:
    with raises(TypeError, name, type(value).__name__, "tensor"):
        apply(function, {name: value})


@pytest.mark.parametrize(("function", "name"), [(f, n) for f, n in EVERY if not operations()[f].arguments[n].optional])
def test_none(function: str, name: str) -> None:
    with raises(TypeError, name, "NoneType", "tensor"):
        apply(function, {name: None})


@pytest.mark.parametrize(("function", "name"), EVERY)
def test_rank(function: str, name: str) -> None:
    x = GIVEN[function][name]
    for wrong in (x.unsqueeze(0), x[0]):
        with raises(ValueError, name, str(tuple(wrong.shape)), "(" + ", ".join(LETTERS[function][name])):
            apply(function, {name: wrong})


@pytest.mark.parametrize(
    ("function", "name", "axis"),
    [
        (function, name, axis)
        for function, name in EVERY
        for axis in range(len(LETTERS[function][name]))
        if name != first_of(function)
    ],
)
def test_size(function: str, name: str, axis: int) -> None:
    """One too many and one too few on each axis. Where an argument sets a size itself, the error names the next one."""
    x = GIVEN[function][name]
    letter = LETTERS[function][name][axis]
    others = [n for n in list(GIVEN[function]) if letter in LETTERS[function][n]]
    for wrong in (torch.cat([x, x.narrow(axis, 0, 1)], axis), x.narrow(axis, 1, x.shape[axis] - 1)):
        with pytest.raises(ValueError, match=f"^({'|'.join(others)}): got shape .*need") as error:
            apply(function, {name: wrong})
        if str(error.value).startswith(f"{name}:"):
            needed = "(2, 3, S) with S odd" if name == "shift" else str(tuple(x.shape))
            assert str(tuple(wrong.shape)) in str(error.value)
            assert needed in str(error.value)


@pytest.mark.parametrize(("function", "name"), EVERY)
def test_only_the_batch_may_be_empty(function: str, name: str) -> None:
    letters = LETTERS[function][name]
    for axis, letter in enumerate(letters):
        if letter in "NWRHS":
            with pytest.raises(ValueError, match=r"got shape .*need"):
                apply(function, {name: GIVEN[function][name].narrow(axis, 0, 0)})


@pytest.mark.parametrize(("function", "name"), FLOATS)
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, torch.float64])
def test_dtype(function: str, name: str, dtype: torch.dtype) -> None:
    if dtype == torch.float64 and name == first_of(function):
        named, came, needed = "[a-z_]+", "torch.float32", "float64"  # the others are to be as the first
        if function == "least_used_mask":
            return
    else:
        named, came, needed = name, str(dtype), "float32"
    with raises(TypeError, named, came, needed):
        apply(function, {name: GIVEN[function][name].to(dtype)})


@pytest.mark.parametrize(("function", "name"), [(f, n) for f, n in FLOATS if f != "least_used_mask"])
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_beside_float64(function: str, name: str, half: torch.dtype) -> None:
    tensors = {k: x.double() if x.is_floating_point() else x for k, x in GIVEN[function].items()}
    with pytest.raises(TypeError, match=r"^[a-z_]+: got torch\.\w+, need torch\.\w+"):
        apply(function, tensors | {name: GIVEN[function][name].to(half)})


@pytest.mark.parametrize(("function", "name"), [(f, n) for f, n in EVERY if f != "least_used_mask"])
def test_device(function: str, name: str) -> None:
    named = name if name != first_of(function) else "[a-z_]+"
    with pytest.raises(ValueError, match=f"^{named}: got device (meta|cpu), need (cpu|meta)"):
        apply(function, {name: GIVEN[function][name].to("meta")})


@pytest.mark.parametrize(("function", "name"), [(f, n) for f, n in EVERY if n.startswith("strength")])
def test_negative_strength(function: str, name: str) -> None:
    strength = GIVEN[function][name].clone()
    strength.view(-1)[-1] = -0.5
    with raises(ValueError, name, "-0.5", "0"):
        apply(function, {name: strength})


@pytest.mark.parametrize("function", ["shift_sharpen", "ntm_address"])
def test_sharpness_under_1(function: str) -> None:
    sharpness = GIVEN[function]["sharpness"].clone()
    sharpness.view(-1)[-1] = 0.75
    with raises(ValueError, "sharpness", "0.75", "at least 1"):
        apply(function, {"sharpness": sharpness})
    apply(function, {"sharpness": torch.ones_like(sharpness)})


@pytest.mark.parametrize("function", ["shift_sharpen", "ntm_address"])
@pytest.mark.parametrize("S", [2, 12])
def test_shifts_without_a_middle(function: str, S: int) -> None:
    with raises(ValueError, "shift", f"(2, 3, {S})", "S odd"):
        apply(function, {"shift": torch.rand(2, 3, S)})


@pytest.mark.parametrize("dtype", [torch.int32, torch.float32, torch.bool])
def test_dtype_of_reset(dtype: torch.dtype) -> None:
    with raises(TypeError, "reset", str(dtype), "int64"):
        apply("additive_write", {"reset": GIVEN["additive_write"]["reset"].to(dtype)})


@pytest.mark.parametrize("slot", [-1, 6])
def test_slot_of_reset(slot: int) -> None:
    with raises(ValueError, "reset", str(slot), "5"):
        apply("additive_write", {"reset": torch.tensor([0, slot])})


N_ARGUMENTS = [("least_used_mask", "n"), ("lrua_step", "num_least_used"), ("lrua_scan", "num_least_used")]


@pytest.mark.parametrize(("function", "name"), N_ARGUMENTS)
@pytest.mark.parametrize("n", [0, -1, 7])
def test_number_of_slots(function: str, name: str, n: int) -> None:
    with raises(ValueError, name, str(n), "6"):
        apply(function, {name: n})


@pytest.mark.parametrize(("function", "name"), N_ARGUMENTS)
@pytest.mark.parametrize("n", [True, 2.0, "2", torch.tensor(2)], ids=lambda n: type(n).__name__)
def test_type_of_number_of_slots(function: str, name: str, n: Any) -> None:
    with raises(TypeError, name, type(n).__name__, "int"):
        apply(function, {name: n})


@pytest.mark.parametrize("function", ["usage_update", "lrua_step", "lrua_scan"])
@pytest.mark.parametrize("decay", [-0.01, 1.01, math.inf, math.nan])
def test_decay(function: str, decay: float) -> None:
    with raises(ValueError, "decay", str(decay), "0 to 1"):
        apply(function, {"decay": decay})


@pytest.mark.parametrize("function", ["usage_update", "lrua_step", "lrua_scan"])
@pytest.mark.parametrize("decay", ["0.9", None, torch.tensor(0.9)], ids=lambda decay: type(decay).__name__)
def test_type_of_decay(function: str, decay: Any) -> None:
    with raises(TypeError, "decay", type(decay).__name__, "0 to 1"):
        apply(function, {"decay": decay})


@pytest.mark.parametrize("function", ["lrua_step", "lrua_scan"])
@pytest.mark.parametrize("value", ["Shared", "", None, 1])
def test_least_used(function: str, value: Any) -> None:
    with raises(ValueError, "least_used", repr(value), "'per_head'"):
        apply(function, {"least_used": value})


@pytest.mark.parametrize(
    "changes", [{"decay": 2.0}, {"num_least_used": 7}, {"least_used": ""}, {"strengths": 1}], ids=str
)
def test_a_scan_of_no_steps_checks_its_options(changes: dict[str, Any]) -> None:
    empty = {name: GIVEN["lrua_scan"][name][:0] for name in ("keys", "adds", "gates", "strengths")}
    with pytest.raises((ValueError, TypeError), match=f"^{next(iter(changes))}: got"):
        apply("lrua_scan", empty | changes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@on_backends(["scan"])
def test_a_scan_of_no_steps(case: str, backend: str, dtype: torch.dtype) -> None:
    widened = torch.float32 if dtype == torch.float16 else dtype
    tensors = arguments(CASES[case], SHAPE._replace(T=0), dtype)
    out = run_case(CASES[case], tensors, backend)
    assert out["reads"].shape == (0, 2, 3, 4)
    assert all(x.dtype == widened for x in out.values())
    for name in ("memory", "read_weights", "usage"):
        assert torch.equal(out[name], tensors[name].to(widened))


@on_backends(EVERY_CASE)
def test_no_episodes(case: str, backend: str) -> None:
    shape = SHAPES["no_episodes"]
    tensors = arguments(EVERY_CASE[case], shape)
    got = evaluate(EVERY_CASE[case], tensors, cotangents(EVERY_CASE[case], shape), backend, shape.n)
    assert all(0 in x.shape for x in got.values())
