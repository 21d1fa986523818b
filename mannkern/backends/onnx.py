"""Whether a call is traced for export, and for ONNX, which has no fused operations and no stable sort."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_in_loop: bool | None = None  # within ``traced_loop``, what for_onnx() was before it


def is_exporting() -> bool:
    """Whether torch.export traces this call. To torch 2.10 ``is_exporting()`` is true in every compilation."""
    return torch.compiler._is_exporting_flag


def for_onnx() -> bool:
    """Whether torch.onnx.export traces this call."""
    if not is_exporting():
        return False
    return torch.onnx.is_in_onnx_export() if _in_loop is None else _in_loop


@contextmanager
def traced_loop() -> Iterator[None]:
    """Around a loop that becomes one operation: torch's tracer of its steps does not know is_in_onnx_export."""
    global _in_loop
    _in_loop = for_onnx()
    try:
        yield
    finally:
        _in_loop = None
