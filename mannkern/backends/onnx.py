"""Whether a call is traced for export, and for ONNX, which has no fused operations and no stable sort."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_in_loop = False


def is_exporting() -> bool:
    """Whether torch.export traces this call. To torch 2.10 ``is_exporting()`` is true in every compilation."""
    return torch.compiler._is_exporting_flag


def for_onnx() -> bool:
    """Whether torch.onnx.export traces this call."""
    return is_exporting() and (_in_loop or torch.onnx.is_in_onnx_export())


@contextmanager
def traced_loop() -> Iterator[None]:
    """Around a loop that becomes one operation: torch's tracer of its steps takes is_in_onnx_export for False."""
    global _in_loop
    _in_loop = for_onnx()
    try:
        yield
    finally:
        _in_loop = False
