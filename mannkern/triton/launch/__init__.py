"""Launchers: Python functions that allocate the results of an operation, choose its path and launch its kernels.

The dispatcher calls them with validated tensors. ``common`` holds what they share; ``step``, ``scan``, ``least_used``
and ``write_usage`` launch the kernels of the module of the same name. Of whole episodes, ``controller`` launches the
controller's part, ``episode`` a MANN's memory and ``ntm_episode`` an NTM's, and ``plan`` has their sizes and grids.
"""
