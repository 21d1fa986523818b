"""What `make sanitize` runs with a library that was built for a sanitizer: every operation, forward and backward.

``address``: on sizes around those of vectors and blocks, then wrong calls. Tensors are exactly as large as their
numbers, so the sanitizer sees a number that is read or written outside one, says where, and ends the run.
``thread``: on batches that are shared among threads. ``beside`` and ``race`` are planted, and must be found.
"""

from __future__ import annotations

import ctypes
import itertools
import sys
import threading
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from mannkern import MANN, NTM, functional
from mannkern.backends import native
from mannkern.memories.episode import pack_weights
from tests.csrc.wrong_calls import run_at_random

SLOTS = (1, 5, 15, 16, 17, 31, 32, 33, 128)
WIDTHS = (1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 20, 24, 31, 33, 40, 41, 56)
HEADS = (1, 3, 5)
DTYPES = (torch.float32, torch.float64)
EPISODES = ((128, 40, 4), (128, 20, 1), (33, 17, 3), (16, 8, 2), (5, 3, 2), (1, 1, 1))
T = 9
WRONG_CALLS = 5000


def leaf(*sizes: int, dtype: torch.dtype) -> Tensor:
    """Random numbers from 0 to 1 that require a gradient."""
    return torch.rand(sizes, dtype=dtype).requires_grad_()


def differentiate(outputs: Iterable[Tensor]) -> None:
    """Computes the gradient of the sum of all outputs."""
    torch.stack([x.sum() for x in outputs]).sum().backward()


def steps(B: int, N: int, W: int, R: int, dtype: torch.dtype) -> None:
    """The single operations."""
    memory, weights, usage = leaf(B, N, W, dtype=dtype), leaf(B, R, N, dtype=dtype), leaf(B, N, dtype=dtype)
    key, add, gate = leaf(B, R, W, dtype=dtype), leaf(B, R, W, dtype=dtype), leaf(B, R, dtype=dtype)
    differentiate(functional.lrua_step(memory, weights, usage, key, add, gate, gate, num_least_used=min(N, 9)))
    differentiate(functional.cosine_read(memory, key))
    slots = torch.full((B,), N - 1)
    differentiate([functional.additive_write(memory, weights, add, slots)])
    differentiate([functional.usage_update(usage, weights, weights)])
    shift = torch.full((B, R, 3), 1 / 3, dtype=dtype, requires_grad=True)
    differentiate([functional.ntm_address(memory, weights, key, gate, gate, shift, gate + 1)])
    differentiate([functional.ntm_write(memory, weights, key, add)])


def episodes(B: int, N: int, W: int, R: int, dtype: torch.dtype) -> None:
    """The scan, whole episodes and cells, with gradients and without."""
    state = leaf(B, N, W, dtype=dtype), leaf(B, R, N, dtype=dtype), leaf(B, N, dtype=dtype)
    interface = leaf(T, B, R, W, dtype=dtype), leaf(T, B, R, W, dtype=dtype), leaf(T, B, R, dtype=dtype)
    differentiate(functional.lrua_scan(*state, *interface))
    for module, controller in itertools.product((MANN, NTM), ("lstm", "feedforward")):
        model = module(7, 9, N, W, R, controller=controller, dtype=dtype)
        inputs = leaf(T, B, 7, dtype=dtype)
        output, last = model(inputs)
        differentiate([output, last.memory])
        with torch.no_grad():
            model(inputs)
        for count in (1, B, 7):
            cells(model, count)
        ends(model, T, B)
        if N < 16:
            ends(model, 3, 257)


def many_heads(dtype: torch.dtype) -> None:
    """Heads of an NTM that need more scratch memory than its few slots."""
    model = NTM(3, 4, memory_slots=4, memory_width=80, num_write_heads=64, dtype=dtype)
    output, last = model(leaf(2, 1, 3, dtype=dtype))
    differentiate([output, last.memory])


def cells(model: MANN | NTM, episodes: int) -> None:
    """Two steps of a cell, with gradients and without."""
    x = leaf(2, episodes, model.cell.input_size, dtype=model.cell.interface.weight.dtype)
    output, last = model.cell(x[1], model.cell(x[0])[1])
    differentiate([output, last.memory])
    with torch.no_grad():
        model.cell(x[0])


def ends(model: MANN | NTM, steps: int, episodes: int) -> None:
    """Episodes that end and start anew, in one call of the operation for all chunks of the batch."""
    cell = model.cell
    x = leaf(steps, episodes, cell.input_size, dtype=cell.interface.weight.dtype)
    lengths, reset = torch.arange(episodes).flip(0) % (steps + 1), torch.rand(steps, episodes) < 0.3
    lengths = lengths.sort(descending=True).values
    state = cell.initial_state(episodes)
    for bfloat16 in (False, True) if native.multiplies_bfloat16 and x.dtype == torch.float32 else (False,):
        output, last = cell.fused_episode(x, pack_weights(cell), state, lengths, reset, bfloat16=bfloat16)
        differentiate([output, last.memory])
    with torch.no_grad():
        model(x, lengths=lengths, reset=reset)


def instruction_sets() -> Iterator[str]:
    """Those of this machine, each set before it is given."""
    for isa in ("portable", "avx2", "avx512"):
        if native.set_isa(isa):
            yield isa
        else:
            print(f"{isa}: not on this machine")


def address() -> None:
    """Every operation on many sizes, and wrong calls."""
    for isa in instruction_sets():
        for N, W, R, dtype in itertools.product(SLOTS, WIDTHS, HEADS, DTYPES):
            steps(2, N, W, R, dtype)
        for (N, W, R), dtype in itertools.product(EPISODES, DTYPES):
            episodes(2, N, W, R, dtype)
        for dtype in DTYPES:
            many_heads(dtype)
        print(f"{isa}: nothing read or written beside a tensor, nothing undefined", flush=True)
        outcomes = run_at_random(WRONG_CALLS)
        print(f"{isa}: {WRONG_CALLS:,} wrong calls refused by name; {dict(outcomes)}", flush=True)


def thread() -> None:
    """Every operation on batches for four threads, of many episodes and of one, and from two threads of Python."""
    torch.set_num_threads(1)  # of PyTorch's own loops; those of the kernels have four, see threads.cpp
    for isa in instruction_sets():
        for B, dtype in itertools.product((1, 3, 64), DTYPES):
            steps(B, 128, 40, 4, dtype)
            episodes(B, 128, 40, 4, dtype)
        both = [threading.Thread(target=episodes, args=(3, 33, 17, 3, torch.float32)) for _ in range(2)]
        for one in both:
            one.start()
        for one in both:
            one.join()
        print(f"{isa}: no race between threads", flush=True)


def beside() -> None:
    """Writes a byte behind a tensor, which AddressSanitizer has to find."""
    x = torch.zeros(4)
    ctypes.memset(x.data_ptr() + 16, 0, 1)


def race() -> None:
    """A loop that races with itself, which ThreadSanitizer has to find."""
    ctypes.CDLL(None).planted_race()


if __name__ == "__main__":
    print(native.__file__)
    {f.__name__: f for f in (address, thread, beside, race)}[sys.argv[1]]()
