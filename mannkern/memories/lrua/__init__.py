"""LRUA, least recently used access (Santoro et al. 2016): operations, and MANN, the network around them."""

from mannkern.memories.lrua.cell import MANNCell, MANNState
from mannkern.memories.lrua.core import CORE
from mannkern.memories.lrua.sequence import MANN
from mannkern.memories.lrua.verification import CASES, EPISODE_OPTIONS, OPERATIONS, STATE, choice_gap
from mannkern.memories.registry import Episode, Family

FAMILY = Family("lrua", OPERATIONS, CASES, MANNCell, Episode(MANN, EPISODE_OPTIONS, STATE, choice_gap), CORE)

__all__ = ["FAMILY", "MANN", "MANNCell", "MANNState"]
