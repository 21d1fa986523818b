"""Whether an episode starts anew before a step, or has ended: its phase, (T, B) of all steps, int32.

It is no smaller type, because Triton lays the factors of a product out for the smallest type that they depend on, and
has no such layout for float64. None stands for 0 everywhere. An episode that starts ANEW does so from the initial
state, of which the controller's part is 0. One that has ENDED keeps its state, gives outputs of 0, and its gradients
pass through unchanged.
"""

from __future__ import annotations

import triton
import triton.language as tl

ANEW, ENDED = tl.constexpr(1), tl.constexpr(2)


@triton.jit
def load_phase(p_phase, t, B, i_b, m_b):
    """The phases of episodes i_b at step t."""
    return tl.load(p_phase + t.to(tl.int64) * B + i_b, mask=m_b, other=0)
