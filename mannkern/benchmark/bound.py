"""The least work that a computation needs, for one episode: floating-point operations, and bytes that it must move.

Divided by the rates of :mod:`mannkern.benchmark.timing` it is the bound that every result is compared with.
"""

from __future__ import annotations


def lrua_flops(N: int, W: int, R: int) -> int:
    """FLOPs of the forward pass of a memory step: write, dot products, norms and read, and a dozen for each weight."""
    return N * W * (6 * R + 2) + 12 * N * R


def lrua_bytes(N: int, W: int, R: int) -> int:
    """Bytes of a float32 step with its gradient: memory and its gradient in and out, weights, vectors."""
    return 4 * (5 * N * W + 6 * R * N + 4 * N + 6 * R * W)


def lrua_kernel_bytes(N: int, W: int, R: int) -> tuple[int, int]:
    """Bytes that the Triton kernels of a step move, forward and backward, as their docstrings count them."""
    forward = 8 * N * W + 12 * R * N + 8 * N + N + 4 * (3 * R * W + R)
    backward = 12 * N * W + 16 * R * N + 8 * N + N + 4 * (5 * R * W + 2 * R)
    return forward, backward


def scan_kernel_bytes(T: int, N: int, W: int, R: int) -> int:
    """Bytes of a scan of T steps with its gradient: keys, adds, gates and reads, and the memory once in each step."""
    return T * 4 * (9 * R * W + 2 * R) + T * 8 * N * W


def ntm_kernel_bytes(N: int, W: int, H: int, S: int) -> tuple[int, int]:
    """Bytes of addressing and write of the NTM, forward and backward, where each kernel reads and writes once."""
    forward = 4 * (3 * N * W + 5 * H * N + N + H * (3 * W + 3 + S))
    backward = 4 * (5 * N * W + 8 * H * N + N + 2 * H * (3 * W + 3 + S))
    return forward, backward


def mann_flops(T: int, F: int, D: int, N: int, W: int, R: int, C: int, gradient: bool = True) -> int:
    """FLOPs of a training step of MANN, or of its forward pass: each product forward and twice backward.

    The product with the input is computed once backward, since nobody needs the gradient of the input.
    """
    input, others = F * 4 * D, (D + R * W) * 4 * D + D * (2 * R * W + R) + (D + R * W) * C
    return T * _with_backward(input, others, lrua_flops(N, W, R), gradient)


def ntm_flops(T: int, F: int, D: int, N: int, W: int, outputs: int, R: int = 1, gradient: bool = True) -> int:
    """FLOPs of a training step of the NTM with R read heads and one write head; products as in :func:`mann_flops`.

    The memory costs its dot products, norms, write and reads, and about 50 FLOPs for each weight of a slot.
    """
    H = R + 1
    input, others = F * 4 * D, (D + R * W) * 4 * D + D * ((H + 2) * W + 6 * H) + (D + R * W) * outputs
    return T * _with_backward(input, others, N * W * (2 * H + 6 + 2 * R) + H * N * 50, gradient)


def _with_backward(input: int, others: int, memory: int, gradient: bool) -> int:
    """FLOPs of products of ``input`` and ``others`` multiplications and of a memory, with their gradient or without."""
    if not gradient:
        return 2 * (input + others) + memory
    return 2 * 2 * input + 3 * 2 * others + 3 * memory
