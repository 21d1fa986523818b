"""The memory families: a folder for each, and one line below that registers it.

The other modules are shared. Networks use ``content``, ``cell``, ``sequence``, ``episode`` and ``core``; operations use
``checks``, ``library`` and ``function``; and with ``cases`` a family describes what is verified of it. CONTRIBUTING.md
tells how to add a family.
"""

from mannkern.memories import lrua, ntm
from mannkern.memories.registry import register

register(lrua.FAMILY)
register(ntm.FAMILY)
