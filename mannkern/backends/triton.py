"""The backend ``triton``: the Triton kernels of LRUA, for GPUs; on the CPU under TRITON_INTERPRET=1, for tests.

Its launchers are registered here as the kernels of the overload "recompute". Triton itself is imported when the first
of them runs, because that takes a second.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from typing import Any

import torch

from mannkern.backends.backend import Backend, FusedEpisode, Sizes
from mannkern.triton import tiling

has_triton = importlib.util.find_spec("triton") is not None
_LAUNCHERS = {  # operation -> module of mannkern.triton.launch with its launcher, a function of that name
    "least_used_mask": "least_used",
    "additive_write": "write_usage",
    "additive_write_backward": "write_usage",
    "usage_update": "write_usage",
    "usage_update_backward": "write_usage",
    "cosine_read": "step",
    "cosine_read_backward": "step",
    "lrua_step": "step",
    "lrua_step_backward": "step",
    "lrua_scan": "scan",
    "lrua_scan_backward": "scan",
    "mann_episode": "episode",
    "mann_episode_backward": "episode",
    "ntm_episode": "ntm_episode",
    "ntm_episode_backward": "ntm_episode",
}


def _launcher(operation: str, module: str) -> Callable[..., Any]:
    def launch(*args: Any) -> Any:
        return getattr(importlib.import_module(f"mannkern.triton.launch.{module}"), operation)(*args)

    return launch


_library = torch.library.Library("mannkern", "IMPL")
for _operation, _module in _LAUNCHERS.items():
    _library.impl(f"{_operation}.recompute", _launcher(_operation, _module), "CompositeExplicitAutograd")


def _why_not(device: torch.device, sizes: Sizes) -> str:
    if not has_triton:
        return "Triton is not installed; pip install triton"
    if device.type == "cuda" or (device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"):
        return tiling.unsupported(*sizes[:3])
    return (
        f"Triton runs on a GPU, not on {device.type!r} (for tests, slowly, with TRITON_INTERPRET=1 set from the start)"
    )


def _takes_episode(sizes: Sizes, dtype: torch.dtype) -> bool:
    """Where one program holds the memory of an episode."""
    N, W, R, _ = sizes
    return not tiling.unsupported(N, W, R) and tiling.memory_blocks(N, W, dtype).whole


BACKEND = Backend(
    "triton",
    families=("lrua",),
    devices=("cuda",),
    why_not=_why_not,
    overload="recompute",
    takes_half=True,
    compiles_on_use=True,
    episodes={"lrua": FusedEpisode("recompute", _takes_episode)},
)
