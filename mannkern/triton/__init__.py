"""The Triton backend: kernels of LRUA for GPUs, and for the CPU under TRITON_INTERPRET=1.

``blocks`` holds the mathematics of blocks, ``lrua`` the equations on a block of slots; ``step``, ``scan``, ``pieces``
and ``select`` the kernels composed of them; ``paths`` the choice of block sizes; ``launch_*`` the launchers, which the
dispatcher calls by way of ``ops``.
"""
