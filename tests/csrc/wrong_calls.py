"""Wrong calls of the compiled operations: right calls in which one argument is changed, and what must come of them.

A compiled graph, a hook on saved tensors and a direct call of ``torch.ops.mannkern`` reach the C++ code without checks
of Python. So the C++ code itself must refuse what it cannot compute, by name, before it touches memory.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from tests.allocations import fill_with_nan
from tests.csrc.right_calls import Call, right_calls

INTEGERS = (0, -1, 3, 4, 6, 7, 2**31, 2**62, -(2**62), 1.5, "two", None)
FLOATS = (-1.0, 1.5, 1e300, math.nan, math.inf, "two", None)
SMALL = ("0", "3", "4", "6", "7")
FLOAT = ("torch.float32", "torch.float64")
# changes of an argument that may be right: of a size, a number or a dtype that no other argument fixes
FREE = {
    ("least_used_mask", "usage"): ("size", *FLOAT),
    ("least_used_mask", "n"): SMALL,
    ("usage_update_backward", "grad"): ("size", *FLOAT),
    ("usage_update_backward", "num_heads"): SMALL,
    ("cosine_read", "memory"): ("size 1",),
    ("shift_sharpen", "weights"): ("size 2",),
    ("lrua_step_backward", "least_used"): ("size 1",),
    ("mann_cell_backward", "least_used"): ("size 1",),
    ("mann_episode", "input"): ("size 0",),
    ("ntm_episode", "input"): ("size 0",),
    ("mann_episode_backward", "least_used"): ("size 2",),
    ("cell_weight_gradients", "rows"): ("size 0", *FLOAT),
}
# an episode in float32 takes weights in bfloat16, which it widens
FREE |= {
    (f"{family}_episode{pass_}", f"{name}_weight"): ("torch.bfloat16",)
    for family in ("mann", "ntm")
    for pass_ in ("", "_backward")
    for name in ("input", "recurrent", "interface")
}
SIZES = ("num_least_used", "num_gates", "interface_size", "input_size", "recurrent_size", "hidden_size")
# inputs of which backward checks the sizes and reads no number
UNREAD = {
    ("mann_episode_backward", "memory"),
    ("ntm_episode_backward", "memory"),
    ("ntm_episode_backward", "weights"),
    ("mann_episode_backward", "input_weight"),
    ("ntm_episode_backward", "input_weight"),
}


def without_storage(x: Tensor) -> Tensor:
    """A copy whose storage was freed, as sharded training frees the storage of parameters."""
    copy = x.clone()
    copy.untyped_storage().resize_(0)
    return copy


def resized(x: Tensor, dim: int, size: int) -> Tensor:
    """A contiguous copy with another size of one dimension; what is new is one."""
    out = x.new_ones([*x.shape[:dim], size, *x.shape[dim + 1 :]])
    common = min(size, x.shape[dim])
    out.narrow(dim, 0, common).copy_(x.narrow(dim, 0, common))
    return out


def changed_tensors(x: Tensor) -> Iterator[tuple[str, Any]]:
    """Other values of a tensor argument, each with its name. The right ones begin with "right"."""
    yield "no tensor", None
    yield "a number", 1.0
    yield "a scalar", x.sum()
    yield "flat", x.flatten()
    yield "a dimension in front", x[None]
    yield "a dimension behind", x[..., None]
    if x.numel():
        yield "without the first dimension", x[0]
        yield "without storage", without_storage(x)
        yield "right, wide strides", torch.stack([x, x], -1)[..., 0]
        yield "right, column-major", x.permute(*range(x.dim())[::-1]).contiguous().permute(*range(x.dim())[::-1])
    for dim, size in enumerate(x.shape):
        for other in (size + 1, size - 1, 0):
            if 0 <= other != size:
                yield f"size {dim} is {other}", resized(x, dim, other)
        if size:
            yield (
                f"size {dim} is 2^40",
                x.narrow(dim, 0, 1).expand([2**40 if d == dim else n for d, n in enumerate(x.shape)]),
            )
    for dtype in (torch.float32, torch.float64, torch.int32, torch.int64, torch.bool, torch.bfloat16, torch.complex64):
        if dtype != x.dtype:
            yield str(dtype), x.to(dtype)
    yield "meta", x.to("meta")
    yield "sparse", x.to_sparse()
    if x.dtype == torch.int64 and x.numel():
        for slot in (-1, 2**40):
            yield f"slot {slot}", x.clone().fill_(slot)


def changed_values(value: Any) -> Iterator[tuple[str, Any]]:
    """Other values of an argument, each with its name."""
    if isinstance(value, Tensor):
        yield from changed_tensors(value)
    elif value is None:
        yield "a tensor", torch.ones(2, 4)
    elif type(value) is bool:
        yield from (("the other", not value), ("a string", "two"))
    else:
        for number in INTEGERS if type(value) is int else FLOATS:
            yield repr(number), number


def changes(right: Call) -> Iterator[tuple[str, str, Call]]:
    """The name of an argument, the name of its change, and the call with it."""
    for name, value in right.arguments.items():
        for change, other in changed_values(value):
            yield name, change, right.change(name, other)


def may_be_right(right: Call, argument: str, change: str) -> bool:
    """Whether the call with this change may be computed. Any other call is wrong and must be refused."""
    value, operation = right.arguments[argument], right.operation
    if change.startswith("right") or change in ("meta", "the other"):
        return True
    if not isinstance(value, Tensor) and change == repr(value):  # printing every tensor takes longer than all calls
        return True
    if change == "flat":
        return bool(value.dim() == 1)
    if change == "no tensor":
        arguments = getattr(torch.ops.mannkern, operation).default._schema.arguments
        return any(x.name == argument and isinstance(x.type, torch.OptionalType) for x in arguments)
    if change == "without storage":
        return (operation, argument) in UNREAD
    if argument == "interface_weight" and operation == "mann_cell_backward" and not right.arguments["saved"].numel():
        return True  # without episodes only its size says whether there are strengths
    free = SMALL if argument in SIZES else FREE.get((operation, argument), ())
    return not change.endswith("2^40") and any(change == x or change.startswith(f"{x} ") for x in free)


def outcome(call: Call) -> str:
    """What came of a call: "refused" by name, "finite" results, or a sentence about what must not happen."""
    # with a tensor on "meta" the operation's fake runs in place of C++, and its results have no numbers
    is_meta = any(isinstance(x, Tensor) and x.is_meta for x in call.arguments.values())
    try:
        out = call()
    except Exception as error:
        text = str(error)
        return "refused" if is_meta or is_named(call, text) else f"an error of no name: {text.splitlines()[0]}"
    tensors = [out] if isinstance(out, Tensor) else out
    finite = is_meta or all(not x.is_floating_point() or bool(x.isfinite().all()) for x in tensors)
    return "finite" if finite else "NaN or infinity from finite numbers"


def is_named(call: Call, error: str) -> bool:
    """Whether an error names the argument, what came and what is needed. Some calls PyTorch itself refuses."""
    own = re.match(r"mannkern: (\w+)(?:\.shape\[\d\])?: got .+, need .+", error)
    if own:
        return own[1] in call.arguments or own[1] == "result"
    name = rf"mannkern::{call.operation}"
    theirs = (
        rf"{name}\(\) Expected a value of type .* for argument '\w+'|Could not run '{name}'|There were no tensor argum"
    )
    return re.match(theirs, error) is not None


def same(a: Any, b: Any) -> bool:
    """Whether two results, each a tensor or a tuple of tensors, are bit-equal."""
    return torch.equal(a, b) if isinstance(a, Tensor) else all(map(torch.equal, a, b))


def run_each_change() -> None:
    """Runs every right call with every change of one argument, and prints what came of it and may, as JSON."""
    fill_with_nan(True)
    out = []
    for right in right_calls():
        expected = right()
        out.append([right.operation, "", "right", outcome(right), True])
        if right.arguments.get("needs_input_grad") is False:
            continue  # refuses what the call with gradients refuses; run_at_random has both
        for name, change, wrong in changes(right):
            said = outcome(wrong)
            if change.startswith("right") and said == "finite" and not same(wrong(), expected):
                said = "another result"
            out.append([right.operation, name, change, said, may_be_right(right, name, change)])
    print(json.dumps(out))


def run_at_random(count: int, seed: int = 0) -> Counter[str]:
    """Runs ``count`` wrong calls over shapes, dtypes and options, and half as many with two changes.

    Raises AssertionError where one is not refused by name. With two changes a call may be right again.
    """
    chosen, outcomes = random.Random(seed), Counter[str]()
    shapes = ((2, 5, 3, 2), (1, 1, 1, 1), (3, 17, 9, 1), (1, 64, 20, 4), (0, 4, 2, 1))
    rights = [
        right for shape in shapes for dtype in (torch.float32, torch.float64) for right in right_calls(dtype, *shape)
    ]
    while outcomes["refused"] < count:
        right = chosen.choice(rights)
        first, second = chosen.sample(sorted(right.arguments), 2)
        change, value = chosen.choice(list(changed_values(right.arguments[first])))
        wrong = right.change(first, value)
        if may_be_right(right, first, change):
            continue
        said = outcome(wrong)
        assert said == "refused", f"{right.operation}, {first}, {change}: {said}; {described(wrong)}"
        outcomes["refused"] += 1
        if outcomes["refused"] % 2:
            wrong = wrong.change(second, chosen.choice(list(changed_values(right.arguments[second])))[1])
            said = outcome(wrong)
            assert said in ("refused", "finite"), f"{right.operation}, {first}, {second}: {said}; {described(wrong)}"
            outcomes[f"two changes: {said}"] += 1
    return outcomes


def described(call: Call) -> dict[str, Any]:
    """The arguments of a call, with the shapes of tensors in place of tensors."""
    return {name: tuple(x.shape) if isinstance(x, Tensor) else x for name, x in call.arguments.items()}


if __name__ == "__main__":
    run_each_change()
