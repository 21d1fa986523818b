"""The controllers of cells: the feed-forward one, the states of all, and their steps in elementary operations.

PyTorch's own cells are one operation each, and vmap has no rule for that of an LSTM, nor forward mode for it on a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F

from mannkern.memories.checks import check_tensor, full_beside


class FeedForward(nn.Module):
    """The feed-forward controller: one tanh layer without a state of its own."""

    def __init__(self, input_size: int, hidden_size: int, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.linear = nn.Linear(input_size, hidden_size, device=device, dtype=dtype)

    def forward(self, input: Tensor, state: tuple[()]) -> tuple[Tensor, tuple[()]]:
        """input (B, F + R W) -> hidden (B, D), and the state, which stays ()."""
        return torch.tanh(self.linear(input)), state


WRAPPERS = "_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"  # of torch.compile, checkpoints, FSDP


def inside(controller: nn.Module) -> nn.Module:
    """The controller without wrappers, whose type says what its state is."""
    for name in WRAPPERS:
        inner = controller._modules.get(name)
        if inner is not None:
            return inside(inner)
    return controller


def first_state(controller: nn.Module, like: Tensor, sizes: tuple[int, int]) -> Any:
    """The state of ``sizes`` (B, D) before the first step, beside the parameter ``like``.

    It is (h, c) of zeros for an LSTM and () for a feed-forward controller. For a module that the caller passed it is
    what its method ``initial_state(batch_size)`` returns, and None without that method.
    """
    kind: Any = inside(controller)
    if hasattr(type(kind), "initial_state"):
        return kind.initial_state(sizes[0])
    if isinstance(kind, nn.LSTMCell):
        h = full_beside(like, sizes)
        return h, torch.zeros_like(h)
    return () if isinstance(kind, FeedForward) else None


def check_controller_state(controller: nn.Module, state: Any, first: Tensor, sizes: tuple[int, int]) -> Any:
    """The controller's part of a state, with tensors of ``sizes`` (B, D) in the dtype of the parameter ``first``.

    Else ValueError or TypeError. A controller of the caller's own type may have any state.
    """
    controller = inside(controller)
    if isinstance(controller, nn.LSTMCell):
        if not isinstance(state, (tuple, list)) or len(state) != 2:
            raise TypeError(f"state.controller: got {_describe(state)}, need (h, c), each (B, D)")
        h = _check_hidden("state.controller h", state[0], first, sizes)
        c = _check_hidden("state.controller c", state[1], first, sizes)
        return state if h is state[0] and c is state[1] else (h, c)
    if isinstance(controller, FeedForward):
        if not isinstance(state, (tuple, list)) or len(state) != 0:
            raise TypeError(f"state.controller: got {_describe(state)}, need (), since it has no state")
    elif isinstance(controller, (nn.GRUCell, nn.RNNCell)) and state is not None:
        return _check_hidden("state.controller", state, first, sizes)
    return state


def _check_hidden(name: str, x: Any, first: Tensor, sizes: tuple[int, int]) -> Tensor:
    return check_tensor(first, name, x, "BD", sizes).to(first.dtype)


def _describe(state: Any) -> str:
    return f"{len(state)} parts" if isinstance(state, (tuple, list)) else type(state).__name__


def check_result(result: Any, sizes: tuple[int, int]) -> tuple[Tensor, Any]:
    """What a controller of the caller's own must return: hidden of ``sizes`` (B, D), and a state of any kind."""
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], Tensor):
        got = "a tensor" if isinstance(result, Tensor) else type(result).__name__
        raise TypeError(f"controller: got {got} from its call, need (hidden (B, D), state)")
    hidden, state = result
    if hidden.shape != sizes:
        got = f"hidden of shape {tuple(hidden.shape)}"
        raise ValueError(f"controller: got {got} from its call, need (B, D) = {sizes}")
    return hidden, state


def lstm(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """h and c (B, D) of an LSTM from its gates (B, 4 D) before activation, in the order of torch.nn.LSTMCell."""
    input, forget, cell, output = gates.chunk(4, 1)
    c = torch.sigmoid(forget) * c + torch.sigmoid(input) * torch.tanh(cell)
    return torch.sigmoid(output) * torch.tanh(c), c


def step(controller: nn.Module, input: Tensor, state: Any, hidden_size: int) -> tuple[Tensor, Any]:
    """Hidden state (B, D) and new state of a controller on its input (B, F + R W)."""
    result, kind = call(controller, input, state), inside(controller)
    if isinstance(kind, nn.LSTMCell):
        return result[0], result
    if isinstance(kind, (nn.GRUCell, nn.RNNCell)):
        return result, result
    return check_result(result, (input.shape[0], hidden_size))


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
