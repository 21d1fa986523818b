"""The backends: a file and a record each, and the choice between them. No backend's name stands outside this folder.

To add one, write its record and add it to BACKENDS in ``choice.py``.
"""

from mannkern.backends.backend import Backend, Sizes
from mannkern.backends.choice import BACKENDS, REFERENCE, choose, preferred, why_not

__all__ = ["BACKENDS", "REFERENCE", "Backend", "Sizes", "choose", "preferred", "why_not"]
