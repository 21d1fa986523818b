"""Right calls of the compiled operations, forward and backward, from which wrong_calls.py makes wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

import mannkern  # noqa: F401  defines the operations

T = 7  # steps of an episode


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
