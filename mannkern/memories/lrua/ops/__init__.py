"""The fused operations of LRUA. Each file has an operation's schema and fake, those of its gradient, and a Function.

An operation has two overloads, which differ in what they save for backward; :class:`mannkern.backends.Backend` names
the one that a backend has kernels for. In these files ``_save`` is the fake of the overload "default", and
``_recompute`` that of "recompute". ``operation`` turns each into a dict from the overload to the function that calls
it, and ``|`` joins the two.
"""
