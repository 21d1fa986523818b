"""The backends: a file with a record for each, and the choice between them.

Outside this folder the package names no backend but the reference.

To add one, write its record and add it to BACKENDS in ``choice.py``.
"""

from mannkern.backends.backend import Backend, FusedEpisode, Sizes
from mannkern.backends.choice import BACKENDS, REFERENCE, check_name, choose, preferred, special, why_not

__all__ = [
    "BACKENDS",
    "REFERENCE",
    "Backend",
    "FusedEpisode",
    "Sizes",
    "check_name",
    "choose",
    "preferred",
    "special",
    "why_not",
]
