"""A ring buffer as a third memory family: it is written slot after slot and read by a softmax of dot products.

It shows what a family needs. It has no fused kernels, so every operation runs on the reference.
"""

from mannkern.memories.registry import Family
from tests.memories.ring.cell import RingCell, RingState
from tests.memories.ring.core import CORE
from tests.memories.ring.verification import CASES, OPERATIONS

FAMILY = Family("ring", OPERATIONS, CASES, RingCell, core=CORE)

__all__ = ["CORE", "FAMILY", "RingCell", "RingState"]
