"""Batch norm whose statistics are those of the whole batch, where several processes have a part of it each.

``torch.nn.SyncBatchNorm`` is the same for GPUs alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mannkern.training import processes


class _Sum(torch.autograd.Function):
    """The sum over all ranks. The gradient of what all ranks make of it is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return processes.add(tensor.clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return processes.add(gradient.clone())


class _Shared(_BatchNorm):
    """Batch norm over the batches of all ranks while it trains; as ever in evaluation."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training and self.running_mean is not None:
            return super().forward(input)
        self._check_input_dim(input)
        others = [axis for axis in range(input.dim()) if axis != 1]
        own = input.new_tensor([input.numel() // input.shape[1]])
        own_variance, own_mean = torch.var_mean(input, others, correction=0)
        sums = _Sum.apply(torch.cat((own_mean * own, own)))
        mean, number = sums[:-1] / sums[-1], sums[-1].detach()
        variance = _Sum.apply((own_variance + (own_mean - mean).square()) * (own / number))
        self._note(mean.detach(), variance.detach() * (number / (number - 1)))
        scale = (variance + self.eps).rsqrt()
        shift = -mean * scale
        if self.affine:
            scale, shift = self.weight * scale, self.bias + self.weight * shift
        shape = [1, -1, *[1] * (input.dim() - 2)]
        return torch.addcmul(shift.view(shape), input, scale.view(shape))

    def _note(self, mean: Tensor, variance: Tensor) -> None:
        """Update the statistics for evaluation, as PyTorch does."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


class _Shared1d(_Shared, nn.BatchNorm1d):
    pass


class _Shared2d(_Shared, nn.BatchNorm2d):
    pass


class _Shared3d(_Shared, nn.BatchNorm3d):
    pass


_OWN: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: _Shared1d,
    nn.BatchNorm2d: _Shared2d,
    nn.BatchNorm3d: _Shared3d,
}


def share_statistics(model: nn.Module, shared: bool = True) -> None:
    """Let every batch norm in ``model`` take its statistics over all ranks, or no longer. Its state stays as it is."""
    classes = _OWN if shared else {value: key for key, value in _OWN.items()}
    for module in model.modules():
        module.__class__ = classes.get(type(module), type(module))


@contextmanager
def own_statistics(model: nn.Module) -> Iterator[None]:
    """A context in which this rank works alone: a batch norm would wait for others that have no batch now."""
    shared = any(isinstance(module, _Shared) for module in model.modules())
    share_statistics(model, False)
    try:
        yield
    finally:
        if shared:
            share_statistics(model)
