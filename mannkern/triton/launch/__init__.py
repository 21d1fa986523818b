"""Launchers: Python functions that allocate the results of an operation, choose its path and launch its kernels.

The dispatcher calls them with validated tensors. ``common`` holds what they share; ``step``, ``scan``, ``least_used``
and ``write_usage`` launch the kernels of the module of the same name.
"""
