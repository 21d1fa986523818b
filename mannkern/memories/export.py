"""What torch.export needs: a loop over an unknown number of steps T, as one operation of the exported program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._higher_order_ops.scan import scan
from torch.utils._pytree import tree_flatten, tree_unflatten

from mannkern.backends.onnx import is_exporting, traced_loop


def is_dynamic(T: int) -> bool:
    """Whether an exported program is to take any number of steps, so that a loop over them cannot be unrolled."""
    return isinstance(T, torch.SymInt) and is_exporting()


def exported_loop(step: Callable[..., Any], input: Tensor, state: Any) -> tuple[Tensor, Any]:
    """The steps of input (T, B, F), T symbolic: outputs (T, B, D + R W), state after the last step.

    step: (x, state) -> output, state, and perhaps more.
    """
    first, structure = tree_flatten(state)

    def flat_step(parts: list[Tensor], x: Tensor) -> tuple[list[Tensor], Tensor]:
        output, state = step(x, tree_unflatten(parts, structure))[:2]
        return _contiguous(tree_flatten(state)[0]), output.clone()

    with traced_loop():
        last, outputs = scan(flat_step, _contiguous(first), input)
    return outputs, tree_unflatten(last, structure)


def _contiguous(parts: list[Tensor]) -> list[Tensor]:
    """Copies, because what a scan takes and returns must not share memory, nor differ in strides."""
    return [x.clone(memory_format=torch.contiguous_format) for x in parts]
