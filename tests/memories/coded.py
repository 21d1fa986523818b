"""Weights that hold other tensors in place of numbers, as quantised ones do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only


class Coded(Tensor):
    """A weight that few operations take, those of a linear layer."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Coded:
        made = Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, device=inner.device)  # type: ignore[attr-defined]
        made.inner = inner
        return made  # type: ignore[no-any-return]

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["inner"], None

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aten = torch.ops.aten
        if func.overloadpacket not in (aten.t, aten.addmm, aten.mm, aten.detach):
            raise NotImplementedError(str(func))
        found = func(*tree_map_only(Coded, lambda x: x.inner, args), **(kwargs or {}))
        return Coded(found) if func.overloadpacket in (aten.t, aten.detach) else found


def code(model: nn.Module, only: str = "") -> None:
    """Give the linear layers in ``model`` such weights, where ``only`` is part of their names."""
    for name, part in model.named_modules():
        if isinstance(part, nn.Linear) and only in name:
            part.weight = nn.Parameter(Coded(part.weight.detach()), requires_grad=False)
