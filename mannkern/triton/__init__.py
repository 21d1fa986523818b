"""The Triton backend: LRUA's kernels for GPUs, and for the CPU under TRITON_INTERPRET=1, where the tests run them.

Kernels, from the bottom up:
``block_math``   loads, stores, dot products, norms and the n smallest, for the block of slots that a program holds
``lrua``         the equations of LRUA on such a block, forward and backward
``step``         kernels of the memory step and of the cosine read
``scan``         kernels of a whole scan
``least_used``   kernels that search for the least used slots
``write_usage``  kernels of the additive write and of the usage update

What calls them:
``tiling``       the path that a kernel takes for given sizes, and its block sizes
``launch``       launchers: they allocate the results and launch the kernels; ``backends/triton.py`` registers them
"""
