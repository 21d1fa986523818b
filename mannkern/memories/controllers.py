"""Steps of the controllers in elementary operations, which PyTorch differentiates and maps in every way.

Its own cells are one operation each, and vmap has no rule for that of an LSTM, nor forward mode for it on a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F


def lstm(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """h and c (B, D) of an LSTM from its gates (B, 4 D) before activation, in the order of torch.nn.LSTMCell."""
    input, forget, cell, output = gates.chunk(4, 1)
    c = torch.sigmoid(forget) * c + torch.sigmoid(input) * torch.tanh(cell)
    return torch.sigmoid(output) * torch.tanh(c), c


def call(module: nn.Module, input: Tensor, state: Any) -> Any:
    """``module(input, state)``; under transforms a cell of PyTorch, if it has no hooks, is written out."""
    if (
        (torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0)
        and isinstance(module, nn.RNNCellBase)
        and type(module).forward in (nn.LSTMCell.forward, nn.GRUCell.forward, nn.RNNCell.forward)
        and not (module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)
    ):
        return _written_out(module, input, state)
    return module(input, state)


def _written_out(module: nn.RNNCellBase, input: Tensor, state: Any) -> Any:
    """The step of a torch.nn.LSTMCell, GRUCell or RNNCell on input (B, F) and a state or None."""
    zeros = input.new_zeros(input.shape[0], module.hidden_size)
    if isinstance(module, nn.LSTMCell):
        h, c = (zeros, zeros) if state is None else state
    else:
        h = zeros if state is None else state
    by_input = F.linear(input, module.weight_ih, module.bias_ih)
    by_state = F.linear(h, module.weight_hh, module.bias_hh)
    if isinstance(module, nn.LSTMCell):
        return lstm(by_state + by_input, c)
    if isinstance(module, nn.GRUCell):
        (r, z, n), (h_r, h_z, h_n) = by_input.chunk(3, 1), by_state.chunk(3, 1)
        z = torch.sigmoid(h_z + z)
        n = torch.tanh(n + torch.sigmoid(h_r + r) * h_n)
        return (h - n) * z + n
    return (torch.relu if module.nonlinearity == "relu" else torch.tanh)(by_state + by_input)
