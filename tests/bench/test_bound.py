"""The least work of an episode, counted by hand."""

from __future__ import annotations

from mannkern.benchmark import bound
from mannkern.benchmark.workloads import NTM_W, C, D, F, N, R, T, W


def test_one_slot_of_one_number_by_hand() -> None:
    """N = W = R = 1: 8 FLOPs on the memory and 12 on the weight; 21 numbers of 4 bytes move."""
    assert bound.lrua_flops(1, 1, 1) == 8 + 12
    assert bound.lrua_bytes(1, 1, 1) == 4 * (5 + 6 + 4 + 6)


def test_the_standard_step() -> None:
    """A step is 0.14 MFLOP forward; with its gradient it moves 0.12 MB."""
    assert bound.lrua_flops(N, W, R) == 133_120 + 6_144
    assert bound.lrua_bytes(N, W, R) == 102_400 + 12_288 + 2_048 + 3_840


def test_bytes_of_the_kernels_of_a_step() -> None:
    """Of N = 128, W = 40, R = 4: forward 49 KB, memory read and written four fifths of it; backward 73 KB."""
    forward, backward = bound.lrua_kernel_bytes(N, W, R)
    assert forward == 40960 + 6144 + 1024 + 128 + 1936
    assert backward == 61440 + 8192 + 1024 + 128 + 3232


def test_bytes_of_the_ntm() -> None:
    """Of N = 128, W = 20, H = 2: memory read twice and written once, then read twice more and its gradients moved."""
    forward, backward = bound.ntm_kernel_bytes(N, NTM_W, 2, 3)
    assert forward == 30720 + 5120 + 512 + 528
    assert backward == 51200 + 8192 + 512 + 1056


def test_a_training_step_is_mostly_products() -> None:
    steps = bound.mann_flops(T, F, D, N, W, R, C)
    assert steps == T * bound.mann_flops(1, F, D, N, W, R, C)
    memory = 3 * T * bound.lrua_flops(N, W, R)
    assert 0.05 < memory / steps < 0.2
