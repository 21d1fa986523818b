"""Lengths and resets: at which step each episode of a batch ends, and where it starts anew; and states of a part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from mannkern.memories import controllers
from mannkern.memories.cell import MemoryCell
from mannkern.memories.checks import check_dense, full_beside, values_known


def check_lengths(x: Any, T: int, B: int, device: torch.device) -> Tensor | None:
    """Lengths as an int64 tensor (B,) on the input's device, if each is from 0 to T; None stays None."""
    if x is None:
        return None
    if isinstance(x, (list, tuple)) and all(isinstance(n, int) and not isinstance(n, bool) for n in x):
        if any(not 0 <= n <= T for n in x):
            raise ValueError(f"lengths: got {min(x)} to {max(x)}, need 0 to T = {T}")
        x = torch.tensor(x, dtype=torch.int64)
    if not isinstance(x, Tensor) or x.dtype != torch.int64:
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"lengths: got {got}, need an int64 tensor (B) or a list of ints")
    check_dense("lengths", x)
    if x.shape != (B,):
        raise ValueError(f"lengths: got shape {tuple(x.shape)}, need (B) = ({B},)")
    if values_known(x) and bool(((x < 0) | (x > T)).any()):
        raise ValueError(f"lengths: got {x.min().item()} to {x.max().item()}, need 0 to T = {T}")
    return x.to(device)


def check_reset(x: Any, sizes: tuple[int, int], letters: str, device: torch.device) -> Tensor | None:
    """Resets, a bool tensor of these sizes on the input's device; None stays None."""
    if x is None:
        return None
    if not isinstance(x, Tensor) or x.dtype != torch.bool:
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"reset: got {got}, need a bool tensor ({', '.join(letters)})")
    check_dense("reset", x)
    if x.shape != sizes:
        raise ValueError(f"reset: got shape {tuple(x.shape)}, need ({', '.join(letters)}) = {sizes}")
    if x.device != device:
        raise ValueError(f"reset: got device {x.device}, need {device}, the input's")
    return x


def is_longest_first(lengths: Tensor) -> bool:
    """Whether no length is greater than the one before; False where reading them is not cheap."""
    return values_known(lengths) and bool((lengths[1:] <= lengths[:-1]).all())


def start_of(cell: MemoryCell[Any], B: int, name: str = "reset") -> Any:
    """The state that an episode starts anew from; a GRUCell's and RNNCell's is written out as zeros.

    Raises TypeError where it is not known, naming the argument ``name``, which needs it.
    """
    state = cell.initial_state(B)
    if state.controller is None:
        if not isinstance(controllers.inside(cell.controller), (nn.GRUCell, nn.RNNCell)):
            raise TypeError(
                f"{name}: got a {type(cell.controller).__name__} as controller, whose state at the start is not known, "
                "need an LSTM, a feed-forward controller, a GRUCell, a RNNCell or one with initial_state(batch_size)"
            )
        state = state._replace(controller=full_beside(cell.any_parameter(), (B, cell.hidden_size)))
    return state


def select(mask: Tensor, state: Any, other: Any) -> Any:
    """The state of the episodes where ``mask`` (B,) is True, ``other`` elsewhere; None in ``other`` counts as zeros."""

    def pick(x: Any, y: Any = None) -> Any:
        if x is None and y is None:
            return None
        if not isinstance(x, Tensor) or x.shape[:1] != mask.shape:
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"state.controller: got {got}, need tensors with B in front, for lengths and resets")
        return torch.where(mask.view(-1, *[1] * (x.dim() - 1)), x, torch.zeros_like(x) if y is None else y)

    others = () if other.controller is None else (other.controller,)
    return type(state)(tree_map(pick, state.controller, *others), *map(pick, state[1:], other[1:]))


def reorder(state: Any, order: Tensor | None) -> Any:
    """The state of the episodes in another order; None stays None, and without an order the state stays."""
    if state is None or order is None:
        return state
    move: Callable[[Any], Any] = lambda x: x[order] if isinstance(x, Tensor) else x  # noqa: E731
    return type(state)(tree_map(move, state.controller), *map(move, state[1:]))


def split(state: Any, count: int) -> list[Any]:
    """The states of ``count`` parts of the batch; the controller's state is a tuple of tensors."""
    parts = zip(*(x.tensor_split(count) for x in state.controller), strict=True) if state.controller else [()] * count
    return [type(state)(*part) for part in zip(parts, *(x.tensor_split(count) for x in state[1:]), strict=True)]


def join(states: tuple[Any, ...]) -> Any:
    """The state of a batch from those of its parts; controller states are tuples of tensors."""
    controllers, *parts = zip(*states, strict=True)
    controller = tuple(torch.cat(x) for x in zip(*controllers, strict=True))
    return type(states[0])(controller, *(torch.cat(x) for x in parts))
