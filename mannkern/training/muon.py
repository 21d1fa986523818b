"""Muon: for weight matrices, steps along the orthogonalised momentum; for all other parameters, Adam's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.9
RATIO = 2.0
ITERATIONS = 3
OUTPUT_LAYERS = ("head", "output")
GATES = {(nn.LSTM, nn.LSTMCell): 4, (nn.GRU, nn.GRUCell): 3}
COEFFICIENTS = 3.4445, -4.775, 2.0315


class Muon(torch.optim.Adam):
    """Muon (Jordan et al. 2024) for the weight matrices of ``model``, Adam for its other parameters.

    A matrix is the weight of a hidden layer, linear or recurrent; the output layer, which is called ``head`` or
    ``output``, keeps Adam, as Jordan advises. A matrix's momentum m, an average of gradients, is replaced by a matrix
    near it whose singular values are 1 (:func:`orthogonalized`), so that a step has one size in every direction, also
    in those that few gradients have. The gates of an LSTM or GRU are a matrix each.

        m = MOMENTUM m + (1 - MOMENTUM) g
        step = RATIO lr sqrt(max(1, rows / columns)) orthogonalized((1 - MOMENTUM) g + MOMENTUM m)

    model:  whose parameters take part
    lr:     learning rate of Adam; a matrix takes steps of ``RATIO`` times it, as spectral norm

    The parameters have the order of two groups, Adam's and then the matrices. PyTorch's own Muon orthogonalises in
    bfloat16, which is slow on most CPUs, and takes the gates of an LSTM for one matrix, four times the work.
    """

    def __init__(self, model: nn.Module, lr: float) -> None:
        self.parts = parts_of_matrices(model)
        others = [x for x in model.parameters() if x not in self.parts]
        groups: list[dict[str, Any]] = [{"params": others}, {"params": list(self.parts)}]
        super().__init__(groups, lr=lr, fused=True)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        matrices = self.param_groups[1]
        gradients = [x.grad for x in matrices["params"]]
        for x in matrices["params"]:
            x.grad = None  # so that Adam passes over it
        result = super().step(closure)
        with torch.no_grad():
            for x, gradient in zip(matrices["params"], gradients, strict=True):
                x.grad = gradient
                if gradient is not None:
                    self._turn(x, gradient, RATIO * matrices["lr"])
        return result

    def _turn(self, x: Tensor, gradient: Tensor, size: float) -> None:
        state = self.state[x]
        if not state:
            state["step"] = torch.zeros(())  # Adam's load_state_dict looks for it
            state["momentum_buffer"] = torch.zeros_like(x)
        state["step"] += 1
        momentum = state["momentum_buffer"].lerp_(gradient, 1 - MOMENTUM)
        ahead = gradient.lerp(momentum, MOMENTUM)
        for part, direction in zip(x.chunk(self.parts[x]), ahead.chunk(self.parts[x]), strict=True):
            rows, columns = part.shape
            part.sub_(orthogonalized(direction), alpha=size * max(1.0, rows / columns) ** 0.5)


def parts_of_matrices(model: nn.Module) -> dict[Tensor, int]:
    """The weights of the hidden linear and recurrent layers of ``model``, and how many matrices each holds."""
    parts: dict[Tensor, int] = {}
    for name, module in model.named_modules():
        recurrent = isinstance(module, (nn.RNNBase, nn.RNNCellBase))
        if recurrent or (isinstance(module, nn.Linear) and name.split(".")[-1] not in OUTPUT_LAYERS):
            gates = next((gates for kinds, gates in GATES.items() if isinstance(module, kinds)), 1)
            parts |= {x: gates for x in module.parameters(recurse=False) if x.ndim == 2}
    return parts


def orthogonalized(x: Tensor) -> Tensor:
    """x (m, n) with all singular values near 1, those that are not far below the largest, in x's dtype.

    A few Newton-Schulz iterations x <- a x + b x x' x + c (x x')^2 x, whose ``COEFFICIENTS`` are Jordan's: they raise
    small singular values fast and leave those near 1 between 0.7 and 1.2.
    """
    a, b, c = COEFFICIENTS
    tall = x.shape[0] > x.shape[1]
    x = x.mT if tall else x
    x = x / x.norm().clamp_min(torch.finfo(x.dtype).tiny)
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
