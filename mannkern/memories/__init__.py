"""The memory families: one folder each, and one line below that registers it.

``content``, ``cell``, ``sequence`` and ``episode`` are what every family shares; ``checks``, ``library`` and
``function`` what its operations are made with; ``cases`` how it says what is verified. CONTRIBUTING.md tells how to add
a family.
"""

from mannkern.memories import lrua, ntm
from mannkern.memories.registry import register

register(lrua.FAMILY)
register(ntm.FAMILY)
