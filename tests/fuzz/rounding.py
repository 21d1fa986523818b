"""How well a calculation knows its result: the same one with every intermediate result rounded another way.

This is Monte Carlo arithmetic. Where numbers cancel, as 1e134 - 1e134 + 0.7 does, a change of the inputs in their last
bit may change nothing while every digit is lost; another rounding of what lies between shows it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

# operations that round; any other one moves numbers or chooses among them
ROUNDED = (  # noqa: SIM905 (a list of words)
    """
    add sub rsub mul div reciprocal square pow sqrt rsqrt exp log log1p expm1 sum mean prod cumsum mm bmm addmm baddbmm
    dot mv addcmul addcdiv sigmoid tanh softplus _softmax _log_softmax logsumexp linalg_vector_norm norm
    sigmoid_backward tanh_backward softplus_backward _softmax_backward_data _log_softmax_backward_data
    """
).split()


class OtherRounding(TorchDispatchMode):
    """Changes every rounded number of float64, or of half precision, by half a unit in the last place of ``dtype``.

    A change of numbers of ``dtype`` itself is a whole unit for some and none for others. ``seed`` and the number decide
    which way: equal numbers change alike, so that equal slots stay equal.
    """

    def __init__(self, dtype: torch.dtype, seed: int) -> None:
        super().__init__()
        self.unit, self.seed = torch.finfo(dtype).eps / 2, seed

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in ROUNDED:
            return tree_map(self._round, out)
        if name.removesuffix("_") in ROUNDED:  # in place
            return out.copy_(self._round(out))
        return out

    def _round(self, x: Any) -> Any:
        if not isinstance(x, Tensor) or x.dtype not in (torch.float64, torch.float16, torch.bfloat16):
            return x
        bits = x.double().contiguous().view(torch.int64)
        mixed = (bits ^ self.seed * 0x9E3779B97F4A7C1) * 0x2545F4914F6CDD1D
        mixed = (mixed ^ mixed >> 29) * 0x2545F4914F6CDD1D
        return (x.double() * torch.where(mixed < 0, -self.unit, self.unit) + x).to(x.dtype)
