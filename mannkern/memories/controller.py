"""The controllers of cells: the feed-forward one, and what the states of all of them must be."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mannkern.memories.checks import check_tensor


class FeedForward(nn.Module):
    """The feed-forward controller: one tanh layer without a state of its own."""

    def __init__(self, input_size: int, hidden_size: int, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.linear = nn.Linear(input_size, hidden_size, device=device, dtype=dtype)

    def forward(self, input: Tensor, state: tuple[()]) -> tuple[Tensor, tuple[()]]:
        """input (B, F + R W) -> hidden (B, D), and the state, which stays ()."""
        return torch.tanh(self.linear(input)), state


def check_controller_state(controller: nn.Module, state: Any, first: Tensor, sizes: tuple[int, int]) -> Any:
    """The controller's part of a state, with tensors of ``sizes`` (B, D) in the dtype of the parameter ``first``.

    Else ValueError or TypeError. A controller of the caller's own type may have any state.
    """
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
