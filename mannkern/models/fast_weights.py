"""How a Meta Network makes fast weights of gradients: d and m of Munkhdalai and Yu (2017), section 3."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CUTOFF = 7.0
"""p of :func:`preprocess`: gradients under e^-7 count as small (the authors' code)."""


class TaskWeights(nn.Module):
    """d with G: an LSTM, shared by all weights, that turns the T gradients of a weight into its fast weight."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.lstm = nn.LSTMCell(2, hidden_size)
        self.output = nn.Linear(hidden_size, 1)
        gates = (self.lstm.weight_ih, self.lstm.weight_hh, self.lstm.bias_ih, self.lstm.bias_hh)
        first, second, *biases = (x.detach().unflatten(0, (4, hidden_size)) for x in gates)
        _initialize(first, second, self.output.weight, self.output.bias, *biases)

    def forward(self, gradients: Tensor) -> Tensor:
        """gradients (T, E, ...) -> weights (E, ...)."""
        lstm = self.lstm
        bias = (lstm.bias_ih + lstm.bias_hh)[:, None]
        weight = torch.cat((lstm.weight_ih, bias, lstm.weight_hh), 1)  # one product a step, 0.7 of the time of two
        numbers = preprocess(gradients).flatten(2)  # (2, T, weights)
        inputs = torch.cat((numbers, torch.ones_like(numbers[:1])))  # the ones meet the bias
        hidden, cell = _cell(weight[:, :3] @ inputs[:, 0], None)
        for x in inputs.unbind(1)[1:]:
            hidden, cell = _cell(weight @ torch.cat((x, hidden)), cell)
        return _scaled(_columns(self.output, hidden).view(gradients.shape[1:]), 1)


def _cell(gates: Tensor, cell: Tensor | None) -> tuple[Tensor, Tensor]:
    """A step of an LSTM: gates (4H, n), cell (H, n) or None for zeros -> hidden state and cell, both (H, n)."""
    i, f, g, o = gates.chunk(4)
    new = torch.sigmoid(i) * torch.tanh(g)
    if cell is not None:
        new = torch.addcmul(new, torch.sigmoid(f), cell)
    return torch.sigmoid(o) * torch.tanh(new), new


class ExampleWeights(nn.Module):
    """m with Z: two layers of ReLUs, shared by all weights, that turn a weight's gradient into its fast weight."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.first = nn.Linear(2, hidden_size)
        self.second = nn.Linear(hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, 1)
        _initialize(
            self.first.weight.detach()[None],
            self.second.weight.detach()[None],
            self.output.weight,
            *(layer.bias for layer in (self.first, self.second, self.output)),
        )

    def forward(self, gradients: Tensor) -> Tensor:
        """gradients (B, N, ...) -> weights (B, N, ...)."""
        x = F.relu(_columns(self.first, preprocess(gradients).flatten(1)))
        return _scaled(_columns(self.output, F.relu(_columns(self.second, x))).view(gradients.shape), 2)


def preprocess(gradients: Tensor) -> Tensor:
    """g (...) -> (2, ...), two numbers of moderate size for any gradient (Andrychowicz et al. 2016, appendix A).

    (log|g| / p, sign g) where |g| >= e^-p, (-1, e^p g) elsewhere; p is ``CUTOFF``.
    """
    size = gradients.abs()
    large = size >= math.exp(-CUTOFF)
    log = torch.where(large, torch.where(large, size, 1.0).log() / CUTOFF, -1.0)  # log 0 would have no gradient
    return torch.stack((log, torch.where(large, gradients.sign(), gradients * math.exp(CUTOFF))))


def _scaled(weights: Tensor, leading: int) -> Tensor:
    """Weights (leading dimensions, outputs, inputs...) divided by the root of the inputs, as slow weights start.

    Training moves all fast weights together, so without the division one step can silence every ReLU behind them.
    """
    return weights * math.prod(weights.shape[leading + 1 :]) ** -0.5


def _columns(layer: nn.Linear, x: Tensor) -> Tensor:
    """The layer of every column of x (inputs, n): (outputs, n)."""
    return torch.addmm(layer.bias[:, None], layer.weight, x)


@torch.no_grad()
def _initialize(first: Tensor, second: Tensor, output: Tensor, *biases: Tensor) -> None:
    """Draw first (K, H, 2), second (K, H, H) and output (1, H) as the authors do, normal with variance 1 / inputs, but
    make the second half of the H units the mirror image of the first half, K times.

    Opposite gradients then have opposite fast weights at first. Without the mirror most fast weights have one sign,
    because most gradients look alike, and in half of all cases the ReLUs behind them never fire.
    """
    for weight in (first, second, output):
        nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)
    half = output.shape[1] // 2
    first[:, half:] = first[:, :half] * first.new_tensor([1.0, -1.0])  # the logarithm and the sign of the gradient
    second[:, half:] = second[:, :half].roll(half, 2)
    output[:, half:] = -output[:, :half]
    for bias in biases:
        nn.init.zeros_(bias)
