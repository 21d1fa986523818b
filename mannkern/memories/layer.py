"""A cell over the T steps of an episode: one operation if the backend fuses episodes, else a loop over the cell."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mannkern.backends import FusedEpisode
from mannkern.memories.cell import MemoryCell
from mannkern.memories.checks import compute_dtype, values_known, whole, without_autocast
from mannkern.memories.ends import is_longest_first, join, reorder, select, split, start_of
from mannkern.memories.episode import has_hooks, hidden_dtype, is_plain, is_wrapped, pack_weights, starts_plain
from mannkern.memories.export import exported_loop, is_dynamic


def run(
    cell: MemoryCell[Any], input: Tensor, state: Any, lengths: Tensor | None, reset: Tensor | None
) -> tuple[Tensor, Any]:
    """Checked input (T, B, F), lengths (B,) and reset (T, B) -> outputs (T, B, D + R W), last state.

    Without a state the episodes start from the cell's initial one.
    """
    T, B, _ = input.shape
    fused = _fused_episode(cell, input, lengths, reset)
    if state is not None:
        state = cell.check_state(state, B)
    elif fused is not None or T == 0 or reset is not None or lengths is not None or not _is_called(cell):
        state = cell.initial_state(B)  # else the cell's first call makes it: only there are sharded weights whole
    if fused is None:
        return _loop(cell, input, state, lengths, reset)
    dtype, device = hidden_dtype(cell, input.device.type), input.device.type
    bfloat16 = _multiplies_bfloat16(cell, fused, device)
    # in float32 what has half precision, or would have it under autocast
    input = input.to(compute_dtype(cell.interface.weight))
    with without_autocast(input.device):
        run_episode = _run_longest_first if fused.longest_first else _in_batch_chunks
        episode = partial(cell.fused_episode, bfloat16=True) if bfloat16 else cell.fused_episode
        output, state = run_episode(episode, input, pack_weights(cell), state, lengths, reset)
    if output.dtype == dtype:
        return output, state
    return output.to(dtype), state._replace(controller=tuple(x.to(dtype) for x in state.controller))


def _multiplies_bfloat16(cell: MemoryCell[Any], fused: FusedEpisode, device_type: str) -> bool:
    """Whether products of an episode are in bfloat16: by autocast or the parameters, where the kernels have them."""
    dtype = cell.interface.weight.dtype
    if dtype == torch.float32 and torch.is_autocast_enabled(device_type):
        dtype = torch.get_autocast_dtype(device_type)
    return dtype == torch.bfloat16 and fused.multiplies_bfloat16()


def _run_longest_first(
    episode: Callable[..., tuple[Tensor, Any]],
    input: Tensor,
    weights: tuple[Tensor, ...],
    state: Any,
    lengths: Tensor | None,
    reset: Tensor | None,
) -> tuple[Tensor, Any]:
    """The fused episode with the batch in the order of the lengths."""
    if lengths is None or is_longest_first(lengths):
        return _in_batch_chunks(episode, input, weights, state, lengths, reset)
    order = lengths.argsort(descending=True, stable=True)
    back, reset = order.argsort(), None if reset is None else reset[:, order]
    sorted_state = reorder(state, order)
    output, state = _in_batch_chunks(episode, input[:, order], weights, sorted_state, lengths[order], reset)
    return output[:, back], reorder(state, back)


def _fused_episode(
    cell: MemoryCell[Any], input: Tensor, lengths: Tensor | None, reset: Tensor | None
) -> FusedEpisode | None:
    """How the episode is computed as one operation; None where it goes step by step."""
    if not is_plain(cell) or input.shape[0] == 0 or torch._C._are_functorch_transforms_active():
        return None
    fused = cell.episode_on(input.device)
    if fused is None or (lengths is None and reset is None):
        return fused
    return fused if fused.takes_lengths and (reset is None or starts_plain(cell)) else None


def _in_batch_chunks(
    episode: Callable[..., tuple[Tensor, Any]],
    input: Tensor,
    weights: tuple[Tensor, ...],
    state: Any,
    lengths: Tensor | None,
    reset: Tensor | None,
) -> tuple[Tensor, Any]:
    """The fused episode; on a CPU, for a gradient in eager mode, on chunks of the batch, one after the other.

    The operation itself goes through a batch in the same chunks. But what it saves of a large batch are blocks that
    malloc gets from the system, cleared, at every call; those of a chunk it keeps, which saves 6% of a training step
    (docs/facts/cpu.md). torch.compile sees one call, because the number of calls would be a constant to it.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or input.device.type != "cpu":
        return episode(input, weights, state, lengths, reset)
    size, B = 64 * max(2, torch.get_num_threads()), input.shape[1]
    if size >= B:
        return episode(input, weights, state, lengths, reset)
    count = -(-B // size)
    nothing = [None] * count
    chunks = zip(
        input.tensor_split(count, 1),
        split(state, count),
        nothing if lengths is None else lengths.tensor_split(count),
        nothing if reset is None else reset.tensor_split(count, 1),
        strict=True,
    )
    outputs, states = zip(*(episode(x, weights, *rest) for x, *rest in chunks), strict=True)
    return torch.cat(outputs, 1), join(states)


def _loop(
    cell: MemoryCell[Any], input: Tensor, state: Any, lengths: Tensor | None, reset: Tensor | None
) -> tuple[Tensor, Any]:
    outputs, (T, B, _) = [], input.shape
    step = cell if _is_called(cell) else cell.step
    if is_dynamic(T):
        if lengths is not None or reset is not None:
            raise ValueError("lengths, reset: got a tensor in an exported program for any T, need None or a fixed T")
        if state is None or state.controller is None:  # a scan carries tensors alone, and not a GRUCell's None
            start = start_of(cell, B, "state")
            state = start if state is None else state._replace(controller=start.controller)
        return exported_loop(step, input, state)
    start = None if reset is None else start_of(cell, B)
    runs = None if lengths is None else torch.arange(T, device=lengths.device).unsqueeze(1) < lengths
    if lengths is not None and state.controller is None and values_known(lengths) and bool((lengths == 0).any()):
        state = state._replace(controller=start_of(cell, B, "lengths of 0").controller)
    if runs is not None:  # padding may be NaN, which a gradient of zero would not stop
        input = torch.where(runs.unsqueeze(2), input, 0)
    for t, x in enumerate(input):
        before = state if reset is None else select(reset[t], start, state)
        output, after = step(x, before)[:2]
        if runs is None:
            state = after
        else:
            output, state = torch.where(runs[t].unsqueeze(1), output, 0), select(runs[t], after, state)
        outputs.append(output)
    if not outputs:  # none, yet a function of input and weights: a loss of it has a backward pass
        weight = whole(cell.any_parameter())
        if is_wrapped(weight):  # a quantised one may take no operation but a product
            return input[..., :1].expand(0, B, cell.output_size), state
        return input[..., :1].expand(0, B, cell.output_size) + weight.flatten()[:1].to(input.dtype), state
    return torch.stack(outputs), state


def _is_called(cell: MemoryCell[Any]) -> bool:
    """Whether the loop calls the cell as a module, for its hooks or a forward of the user's own."""
    return has_hooks(cell) or type(cell).forward is not MemoryCell.forward or "forward" in cell.__dict__
