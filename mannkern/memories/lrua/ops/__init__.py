"""The fused operations of LRUA. Each file has an operation's schema and fake, those of its gradient, and a Function.

An operation has two overloads, which differ in what they save for backward; :class:`mannkern.backends.Backend` names
the one that a backend has kernels for.
"""
