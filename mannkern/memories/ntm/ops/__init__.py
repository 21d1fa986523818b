"""The fused operations of the NTM. Each file has an operation's schema and fake, those of its gradient, and a Function.

They have the overload "default" alone. The C++ and the CUDA kernels are registered for it; the device of the tensors
decides between them.
"""
