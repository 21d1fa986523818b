"""The backend ``cuda``: the compiled CUDA kernels, for tensors on an NVIDIA GPU.

It has the NTM's operations, and of LRUA three in float32: the step and the scan, where a block of threads holds the
memory of an episode, and whole episodes of a MANN as one persistent kernel, where a call names this backend.
"""

from __future__ import annotations

import torch

from mannkern.backends import native, triton
from mannkern.backends.backend import Backend, FusedEpisode, Sizes

_LEAST = (8, 0)  # setup.py compiles for no older GPU, and the kernels need its asynchronous copies
_MOST_SLOTS = 65_536
_MOST_EPISODE_SLOTS = 1024  # of an NTM's episode as one operation, in float32
_MOST_NUMBERS = 10_240  # of an episode's memory in shared memory, beside its gradient


_reasons: dict[int, str] = {}  # of the GPUs that were asked, by their index; "" of one that can


def _why_not(device: torch.device, sizes: Sizes) -> str:
    if device.type != "cuda":
        return f"backend 'cuda' runs on a GPU, not on {device.type!r}"
    reason = native.cuda_reason or _why_not_gpu(device.index)
    if reason:
        return reason
    return "" if sizes.N <= _MOST_SLOTS else f"N = {sizes.N}, the CUDA kernels take up to {_MOST_SLOTS:,}"


def _why_not_gpu(index: int | None) -> str:
    if not torch.cuda.is_available():  # of fake tensors, on a machine without a GPU
        return ""
    index = torch.cuda.current_device() if index is None else index
    if index not in _reasons:
        _reasons[index] = _ask_gpu(index)
    return _reasons[index]


def _ask_gpu(index: int) -> str:
    capability = torch.cuda.get_device_capability(index)
    number, least = (".".join(map(str, pair)) for pair in (capability, _LEAST))
    if capability < _LEAST:
        return f"the CUDA kernels take GPUs of compute capability {least} and above, not {number}"
    if not native.has_cuda_kernels(index):
        return f"the CUDA library has no code for GPUs {number}; TORCH_CUDA_ARCH_LIST={number} builds it for them"
    return ""


def _why_not_persistent(index: int | None, sizes: Sizes) -> str:
    if not torch.cuda.is_available():
        return ""
    N, W, R, D = sizes
    return native.persistent_why_not(torch.cuda.current_device() if index is None else index, D, N, W, R)


# what torch.compiler.assume_constant_result does, which imports the compiler and Triton
for _question in (_why_not_gpu, _why_not_persistent):
    setattr(_question, "_dynamo_marked_constant", True)  # noqa: B010 - mypy refuses the plain way


def _why_not_step(sizes: Sizes, dtype: torch.dtype, device: torch.device, operation: str = "lrua_step") -> str:
    """The twin of step_takes in csrc/cuda/lrua_launch.h."""
    N, W, R, _ = sizes
    if dtype != torch.float32:
        return f"dtype = {str(dtype).removeprefix('torch.')}, the CUDA kernels of {operation} take float32"
    for name, size, most in (("N", N, 256), ("W", W, 128), ("R", R, 4)):
        if size > most:
            return f"{name} = {size}, the CUDA kernels of {operation} take up to {most}"
    if W % 4 != 0:
        return f"W = {W}, the CUDA kernels of {operation} take multiples of 4"
    if -(-N // 32) * 32 * W > _MOST_NUMBERS:
        return f"N = {N} and W = {W}, the CUDA kernels of {operation} take N * W up to {_MOST_NUMBERS:,}"
    return ""


def _why_not_scan(sizes: Sizes, dtype: torch.dtype, device: torch.device) -> str:
    return _why_not_step(sizes, dtype, device, "lrua_scan")


def _why_not_episode(sizes: Sizes, dtype: torch.dtype, device: torch.device) -> str:
    if dtype != torch.float32:
        return f"dtype = {str(dtype).removeprefix('torch.')}, the persistent kernel computes in float32"
    return _why_not_persistent(device.index, sizes)


def _takes_ntm_episode(sizes: Sizes, dtype: torch.dtype) -> bool:
    """Where the rows of four heads fit into the shared memory of a block, and Triton has the controller's kernels."""
    most = _MOST_EPISODE_SLOTS if dtype == torch.float32 else _MOST_EPISODE_SLOTS // 2
    return triton.has_triton and most >= sizes.N


BACKEND = Backend(
    "cuda",
    families=("ntm",),
    devices=("cuda",),
    why_not=_why_not,
    episodes={
        "lrua": FusedEpisode("persistent", takes_lengths=False, controllers=("lstm",)),
        "ntm": FusedEpisode("recompute", _takes_ntm_episode),
    },
    operations={"lrua_step": _why_not_step, "lrua_scan": _why_not_scan, "mann_episode": _why_not_episode},
    on_request=("mann_episode",),
    scan_overload="cosines",
)
