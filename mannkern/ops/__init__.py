"""The operations as the dispatcher knows them: schema and shapes of each, forward and backward.

A backend is a set of kernels for these: the compiled libraries register their own, for CPU and for CUDA tensors, when
they are loaded. They are not differentiable by themselves; :mod:`mannkern.autograd` makes them so.
"""

from mannkern.ops import episodes, lrua, ntm

__all__ = ["episodes", "lrua", "ntm"]
