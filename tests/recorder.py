"""A recorder of the operations that the package calls, with their arguments and results."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Call(NamedTuple):
    """One call of an operation."""

    args: tuple[Any, ...]
    outputs: tuple[Tensor, ...]


class Recorder(TorchDispatchMode):
    """While it is on, the calls of each operation of mannkern by its name, such as "lrua_step".

    overload: whose calls are recorded; see :class:`mannkern.backends.Backend`.
    """

    overload = "default"

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, list[Call]] = defaultdict(list)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.namespace == "mannkern" and func._overloadname == self.overload:
            detached = tuple(x.detach() if isinstance(x, Tensor) else x for x in args)
            self.calls[func._opname].append(Call(detached, out if isinstance(out, tuple) else (out,)))
        return out
