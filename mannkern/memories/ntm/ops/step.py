"""The memory's part of an NTM's episode on a GPU, in place: a step, its gradient, and memories computed again.

They are no operations of their own, but called by the loop of the overload "recompute" of ``ntm_episode``, which has
allocated all that they write. H heads, V of them writing, which come first; I numbers of an interface vector. phase (B)
is that of mannkern.triton.phases; an episode that starts anew does so from first_memory (N, W) and first_weights
(H, N). csrc/args/ntm_episode.h says more of each argument.
"""

from __future__ import annotations

from torch import Tensor

from mannkern.memories.library import operation


@operation("ntm_step", "default", mutates=("interface", "memory_out", "weights", "rows", "output"))
def ntm_step(
    memory: Tensor,
    previous: Tensor,
    phase: Tensor | None,
    first_memory: Tensor | None,
    first_weights: Tensor | None,
    interface: Tensor,
    memory_out: Tensor,
    weights: Tensor,
    rows: Tensor,
    output: Tensor,
    num_write_heads: int,
    num_shifts: int,
) -> None:
    """From memory (B, N, W) and weights (B, H, N) before the step to those after it; memory_out may be memory.

    interface (B, I) is activated in place. rows (B, 2 H + 2, N) gets content weights, cosines, and the norms of the
    memory before and after the step; output (B, D + R W) the read vectors, in its last columns.
    """


@operation("ntm_step_backward", "default", mutates=("grad_memory", "grad_weights", "grad_interface", "grad_first"))
def ntm_step_backward(
    grad_output: Tensor,
    memory: Tensor,
    memory_out: Tensor,
    previous: Tensor,
    weights: Tensor,
    rows: Tensor,
    interface: Tensor,
    phase: Tensor | None,
    first_memory: Tensor | None,
    first_weights: Tensor | None,
    grad_memory: Tensor,
    grad_weights: Tensor,
    grad_interface: Tensor,
    grad_first: Tensor | None,
    num_write_heads: int,
    num_shifts: int,
) -> None:
    """grad_memory (B, N, W) and grad_weights (B, H, N) in place, from those after the step to those before it.

    grad_interface (B, I) gets the gradient before the activation. Where an episode starts anew, the gradient of its
    memory is added to grad_first (B, N, W), and the others end.
    """


@operation("ntm_recompute", "default", mutates=("memories",))
def ntm_recompute(
    memory: Tensor,
    interface: Tensor,
    weights: Tensor,
    phase: Tensor | None,
    first_memory: Tensor | None,
    first_weights: Tensor | None,
    memories: Tensor,
    num_write_heads: int,
    num_shifts: int,
) -> None:
    """The memories (steps, B, N, W) after each step again, bit for bit, from the memory before the first of them.

    interface (steps, B, I), weights (steps, B, H, N) and phase (steps, B) are those of the steps.
    """
