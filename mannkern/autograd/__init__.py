"""The torch.autograd.Function of each operation: kernels of a backend with their hand-written gradients.

Arguments are those of the kernels, already validated; what a kernel returns for its backward pass comes last among the
outputs and is not differentiable. ``vmap`` folds the mapped dimension into B. Gradients are not differentiable a second
time; the reference is.
"""

from mannkern.autograd import episodes, lrua, ntm

__all__ = ["episodes", "lrua", "ntm"]
