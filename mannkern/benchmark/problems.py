"""A problem: a workload of certain sizes, with its inputs. A contestant turns it into the call that is timed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from mannkern.benchmark.timing import Run


@dataclass(frozen=True)
class Operation:
    """An operation with its inputs. A run returns its outputs and, with ``gradients``, the gradients of the inputs."""

    workload: str
    sizes: dict[str, int]  # B episodes, and the other letters of docs/equations.md
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]
    gradients: dict[str, Tensor]
    needs_grad: tuple[str, ...]  # inputs whose gradients are computed
    options: dict[str, Any] = field(default_factory=dict)
    flops: float = 0.0  # of an episode, and the bytes that it must move
    moved: float = 0.0

    @property
    def B(self) -> int:
        """Episodes at a time."""
        return self.sizes["B"]

    @property
    def names(self) -> list[str]:
        """Names of what a run returns."""
        return [*self.outputs, *(f"grad {name}" for name in self.needs_grad if self.gradients)]

    @property
    def dtype(self) -> torch.dtype:
        """float32, or float64 after :meth:`double`."""
        return next(x.dtype for x in self.inputs.values() if x.is_floating_point())

    def double(self) -> Operation:
        """The same values in float64."""
        return replace(self, inputs=_double(self.inputs), gradients=_double(self.gradients))

    def run(self, function: Callable[..., Any]) -> Run:
        """A call of ``function`` with the inputs by name, forward and backward."""
        inputs = {name: x.detach().requires_grad_(name in self.needs_grad) for name, x in self.inputs.items()}
        leaves = [inputs[name] for name in self.needs_grad]
        used = [self.outputs.index(name) for name in self.gradients]
        gradients = list(self.gradients.values())

        def call() -> list[Tensor]:
            results = function(**inputs)
            outputs = [results] if isinstance(results, Tensor) else list(results)
            if not used:
                return outputs
            return [*outputs, *torch.autograd.grad([outputs[i] for i in used], leaves, gradients)]

        return call if used else torch.no_grad()(call)


@dataclass(frozen=True)
class Training:
    """A training step of a network: its outputs and, with ``gradient``, those of a loss for all parameters."""

    workload: str
    sizes: dict[str, int]  # B episodes, and the other letters of docs/equations.md
    network: nn.Module
    inputs: tuple[Tensor, ...]
    loss: Callable[[Tensor, Tensor], Tensor]  # of outputs and targets
    targets: Tensor
    gradient: bool = True
    flops: float = 0.0
    moved: float = 0.0

    @property
    def B(self) -> int:
        """Episodes at a time."""
        return self.sizes["B"]

    @property
    def names(self) -> list[str]:
        """Names of what a run returns."""
        return ["outputs", *(f"grad {name}" for name, _ in self.network.named_parameters() if self.gradient)]

    @property
    def dtype(self) -> torch.dtype:
        """float32, or float64 after :meth:`double`."""
        return next(self.network.parameters()).dtype

    def double(self) -> Training:
        """The same values in float64."""
        inputs = tuple(x.double() if x.is_floating_point() else x for x in self.inputs)
        targets = self.targets.double() if self.targets.is_floating_point() else self.targets
        return replace(self, network=copy.deepcopy(self.network).double(), inputs=inputs, targets=targets)

    def run(self, network: nn.Module, inputs: Sequence[Tensor] | None = None) -> Run:
        """Forward, loss and backward of ``network`` with its own parameters, on ``inputs`` or the workload's."""
        inputs, parameters = inputs or self.inputs, list(network.parameters())

        def call() -> list[Tensor]:
            outputs = network(*inputs)
            return [outputs, *torch.autograd.grad(self.loss(outputs, self.targets), parameters)]

        return call if self.gradient else torch.no_grad()(lambda: [network(*inputs)])


def _double(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: x.double() if x.is_floating_point() else x for name, x in tensors.items()}


Problem = Operation | Training
