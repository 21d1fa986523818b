"""The Triton backend: LRUA's kernels for GPUs, and for the CPU under TRITON_INTERPRET=1, where the tests run them.

Kernels, from the bottom up:
``block_math``   loads, stores, dot products and norms of the block of slots that a program holds
``least_used``   the search for the n least used slots, inside a program and over longer usage rows
``lrua``         the equations of LRUA on such a block, forward and backward
``step``         kernels of the memory step and of the cosine read
``scan``         kernels of a whole scan
``write_usage``  kernels of the additive write and of the usage update
``product``      the matrix product of a step of an episode
``controller``   kernels of an episode's controller and of its interface vector
``episode``      kernels of the memory's part of a step of an episode

What calls them:
``tiling``       the path that a kernel takes for given sizes, and its block sizes
``graph``        CUDA graphs of an operation that launches many kernels
``launch``       launchers: they allocate the results and launch the kernels; ``backends/triton.py`` registers them
"""
