"""A recorder of the calls of the Triton backend's operations: their arguments and results."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Call(NamedTuple):
    args: tuple[Any, ...]
    outputs: tuple[Tensor, ...]


class Recorder(TorchDispatchMode):
    """While active, collects the calls of each operation under its name without the namespace."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, list[Call]] = defaultdict(list)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.namespace == "mannkern_triton":
            self.calls[func._opname].append(Call(args, out if isinstance(out, tuple) else (out,)))
        return out
