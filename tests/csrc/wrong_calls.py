"""Wrong calls of the compiled operations: right calls in which one argument is changed, and what must come of them.

A compiled graph, a hook on saved tensors and a direct call of ``torch.ops.mannkern`` reach the C++ code without checks
of Python. So the C++ code itself must refuse what it cannot compute, by name, before it touches memory.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

import mannkern  # noqa: F401  defines the operations

T = 7  # steps of an episode
INTEGERS = (0, -1, 3, 4, 6, 7, 2**31, 2**62, -(2**62), 1.5, "two", None)


class Call(NamedTuple):
    """An operation of ``torch.ops.mannkern`` and its arguments by name, in the order of its schema."""

    operation: str
    arguments: dict[str, Any]

    def __call__(self) -> Any:
        return getattr(torch.ops.mannkern, self.operation).default(*self.arguments.values())

    def change(self, argument: str, value: Any) -> Call:
        """The same call with another value of one argument."""
        return Call(self.operation, {**self.arguments, argument: value})


def call(operation: str, *arguments: Any) -> Call:
    """The call with these arguments, by the names of the schema."""
    schema = getattr(torch.ops.mannkern, operation).default._schema
    return Call(operation, dict(zip((x.name for x in schema.arguments), arguments, strict=True)))


def right_calls(dtype: torch.dtype = torch.float32, B: int = 2, N: int = 5, W: int = 3, R: int = 2) -> list[Call]:
    """A right call of every operation, forward and backward; what backward reads was saved by forward."""
    generator = torch.Generator().manual_seed(0)

    def rand(*sizes: int) -> Tensor:
        return torch.rand(sizes, dtype=dtype, generator=generator)

    memory, weights, usage = rand(B, N, W), rand(B, R, N).softmax(2), rand(B, N)
    key, add, gate, strength = rand(B, R, W), rand(B, R, W), rand(B, R), rand(B, R)
    slots, n = torch.arange(B) % N, min(2, N)
    rows = rand(B, R, N)
    calls = [
        call("least_used_mask", usage, n),
        call("additive_write", memory, weights, add, slots),
        call("additive_write_backward", memory, weights, add, slots),
        call("usage_update", usage, weights, weights, 0.9),
        call("usage_update_backward", usage, R, 0.9),
    ]
    read = call("cosine_read", memory, key, strength)
    calls += [read, call("cosine_read_backward", key, rows, memory, key, strength, *read()[1:])]

    step = call("lrua_step", memory, weights, usage, key, add, gate, strength, n, False, 0.9)
    memory_out, _, weights_out, _, write_weights, cosine, norm, least_used = step()
    saved = (memory_out, weights_out, write_weights, cosine, norm, least_used)
    grads = (memory, key, rows, usage, rows)
    calls += [step, call("lrua_step_backward", *grads, weights, key, add, gate, strength, *saved, False, 0.9)]

    interface = (rand(T, B, R, W), rand(T, B, R, W), rand(T, B, R), rand(T, B, R))
    scan = call("lrua_scan", memory, weights, usage, *interface, n, False, 0.9, True)
    grads, state = (interface[0], memory, rows, usage), (memory, weights, usage)
    calls += [scan, call("lrua_scan_backward", *grads, *state, *interface, scan()[-1], n, False, 0.9)]

    shift = rand(B, R, 3).softmax(2)
    sharpen = call("shift_sharpen", weights, shift, gate + 1)
    address = call("ntm_address", memory, weights, key, strength, gate, shift, gate + 1)
    calls += [sharpen, call("shift_sharpen_backward", rows, weights, shift, gate + 1, sharpen()), address]
    calls += [call("ntm_address_backward", rows, *address.arguments.values(), *address())]
    calls += [
        call("ntm_write", memory, weights, key, add),
        call("ntm_write_backward", memory, memory, weights, key, add),
    ]

    for lstm in (True, False):
        F, D, heads = 3, 4, R + 1
        G, hidden = (4 * D, D) if lstm else (D, 0)
        cell = rand(B, D) if lstm else None
        for width, mann in ((2 * R * W + 2 * R, True), (heads * (W + 6) + 2 * W, False)):
            controller = (
                rand(T, B, F),
                rand(G, F + R * W),
                rand(G),
                rand(G, hidden),
                rand(width, D),
                rand(width),
                rand(B, D + R * W),
                cell,
            )
            inputs = tuple(x for x in controller if x is not controller[2] and x is not controller[5])
            grad_cell = cell if lstm else rand(0, D)
            reset = torch.rand(T, B, generator=generator) < 0.3
            for ends in ((None, None, None), (torch.arange(T, T - B, -1), reset, rand(N, W))):
                if mann:
                    forward = call("mann_episode", *controller, *state, *ends, n, False, 0.9, True)
                    out = forward.change("lengths", None)()  # zeros behind an end would be NaN with other lengths
                    grads, options = (out[0], memory, rows, usage, grad_cell), (False, 0.9, True)
                    tensors = (*inputs, memory, out[0], *out[5:])
                else:
                    heads_weights = rand(B, heads, N).softmax(2)
                    forward = call("ntm_episode", *controller, memory, heads_weights, *ends, 1, 3, True)
                    out = forward.change("lengths", None)()  # zeros behind an end would be NaN with other lengths
                    grads, options = (out[0], memory, heads_weights, grad_cell), (1, 3, True)
                    tensors = (*inputs, memory, heads_weights, out[0], *out[4:])
                backward = call(f"{forward.operation}_backward", *grads, *tensors, *ends, *options)
                calls += [forward, backward, backward.change("needs_input_grad", False)]
        calls += cell_calls(rand, lstm, (memory, weights, usage, key), n)
    return calls


def cell_calls(rand: Callable[..., Tensor], lstm: bool, state: tuple[Tensor, ...], n: int) -> list[Call]:
    """Right calls of the cells' own steps. state: memory, weights, usage and read."""
    memory, weights, usage, read = state
    (B, N, W), R, F, D = memory.shape, read.shape[1], 3, 4
    G = 4 * D if lstm else D
    hidden = rand(B, D) if lstm else None
    recurrent, recurrent_bias = (rand(G, D), rand(G)) if lstm else (None, None)
    weight, inputs = rand(G, F + R * W), (rand(B, F), hidden, hidden)
    calls = []
    for mann, width in ((True, 2 * R * W + 2 * R), (True, R * W + R), (False, (R + 1) * (W + 6) + 2 * W)):
        first = (*inputs, memory, weights, usage if mann else rand(B, 1, N), read)
        last = (weight, recurrent, rand(G), recurrent_bias, rand(width, D), rand(width))
        options = (False, 0.9, width == R * W + R) if mann else (3,)
        name = "mann_cell" if mann else "ntm_cell"
        forward = call(name, *first, *last, *((n, *options) if mann else options), True)
        out = forward()
        used = (*first[:3], weights, read) if mann else first
        saved = (out[2], out[3], out[4], *out[7:]) if mann else (out[2], out[3], out[7])
        backward = call(f"{name}_backward", *out[:7], *used, weight, recurrent, last[4], *saved, *options, True, True)
        calls += [forward, backward, backward.change("needs_input_grad", False).change("needs_weight_grad", False)]
    sizes = (G, width, F + R * W, D if lstm else 0, D)
    return [*calls, call("cell_weight_gradients", rand(B, sum(sizes)), *sizes)]


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


def changes(right: Call) -> Iterator[tuple[str, str, Call]]:
    """The name of an argument, the name of its change, and the call with it."""
    for name, value in right.arguments.items():
        if isinstance(value, Tensor):
            for change, other in changed_tensors(value):
                yield name, change, right.change(name, other)
        elif value is None:
            yield name, "a tensor", right.change(name, torch.ones(2, 4))
        elif type(value) is int:
            for number in INTEGERS:
                yield name, repr(number), right.change(name, number)
        else:
            yield name, "a string", right.change(name, "two")


def outcome(wrong: Call) -> str:
    """What came of a call: "refused" by name, "finite" results, or a sentence about what must not happen."""
    # with a tensor on "meta" the operation's fake runs in place of C++, and its results have no numbers
    is_meta = any(isinstance(x, Tensor) and x.is_meta for x in wrong.arguments.values())
    try:
        out = wrong()
    except Exception as error:
        text = str(error)
        torch_says = (f"mannkern::{wrong.operation}() ", "Could not run 'mannkern::", "There were no tensor arguments")
        own = text.startswith(("mannkern: ", *torch_says))
        return "refused" if own or is_meta else f"an error of no name: {text.splitlines()[0]}"
    tensors = [out] if isinstance(out, Tensor) else out
    finite = is_meta or all(not x.is_floating_point() or bool(x.isfinite().all()) for x in tensors)
    return "finite" if finite else "NaN or infinity from finite numbers"


def same(a: Any, b: Any) -> bool:
    """Whether two results, each a tensor or a tuple of tensors, are bit-equal."""
    return torch.equal(a, b) if isinstance(a, Tensor) else all(map(torch.equal, a, b))


def run_each_change() -> None:
    """Runs every right call with every change of one argument, and prints what came of them as JSON."""
    out = []
    for right in right_calls():
        expected = right()
        out.append([right.operation, "", "right", outcome(right)])
        for name, change, wrong in changes(right):
            said = outcome(wrong)
            if change.startswith("right") and said == "finite" and not same(wrong(), expected):
                said = "another result"
            out.append([right.operation, name, change, said])
    print(json.dumps(out))


def run_at_random(count: int, seed: int = 0) -> Counter[str]:
    """Runs ``count`` calls with one or two changes, over shapes, dtypes and options. Raises at one that went wrong."""
    chosen, outcomes = random.Random(seed), Counter[str]()
    shapes = ((2, 5, 3, 2), (1, 1, 1, 1), (3, 17, 9, 1), (1, 64, 20, 4), (0, 4, 2, 1))
    rights = [
        right for shape in shapes for dtype in (torch.float32, torch.float64) for right in right_calls(dtype, *shape)
    ]
    for number in range(count):
        wrong = chosen.choice(rights)
        names = [name for name, value in wrong.arguments.items() if type(value) is not float]
        for name in chosen.sample(names, chosen.choice((1, 1, 2))):
            value = wrong.arguments[name]
            if isinstance(value, Tensor):
                _, value = chosen.choice(list(changed_tensors(value)))
            elif type(value) is bool:
                value = not value
            else:
                value = torch.ones(2, 4) if value is None else chosen.choice(INTEGERS)
            wrong = wrong.change(name, value)
        said = outcome(wrong)
        if said not in ("refused", "finite"):
            shapes_now = {k: tuple(v.shape) if isinstance(v, Tensor) else v for k, v in wrong.arguments.items()}
            raise AssertionError(f"call {number} of {wrong.operation}: {said}; {shapes_now}")
        outcomes[said] += 1
    return outcomes


if __name__ == "__main__":
    run_each_change()
