"""The Neural Turing Machine (Graves et al. 2014): operations, and NTM, the network around them."""

from mannkern.memories.ntm.cell import NTMCell, NTMState
from mannkern.memories.ntm.core import CORE
from mannkern.memories.ntm.sequence import NTM
from mannkern.memories.ntm.verification import CASES, EPISODE_OPTIONS, OPERATIONS, STATE
from mannkern.memories.registry import Episode, Family

FAMILY = Family("ntm", OPERATIONS, CASES, NTMCell, Episode(NTM, EPISODE_OPTIONS, STATE), CORE)

__all__ = ["FAMILY", "NTM", "NTMCell", "NTMState"]
