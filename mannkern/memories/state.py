"""States of cells: how files and exported programs have them, and what is done to all of their tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils import _pytree

State = TypeVar("State")
StateType = TypeVar("StateType", bound=type[Any])


def register_state(state: StateType) -> StateType:
    """Let torch.load(weights_only=True) and torch.export.load read a cell's state; a decorator of its NamedTuple.

    The state gets the methods ``detach`` and ``to`` where it has none of its own.
    """
    for method in (detach, to):
        if not hasattr(state, method.__name__):
            setattr(state, method.__name__, method)
    torch.serialization.add_safe_globals([state])
    # PyTorch has no public function for a NamedTuple; its error for one without a name asks for this call.
    _pytree._register_namedtuple(state, serialized_type_name=f"mannkern.{state.__name__}")
    return state


def detach(state: State) -> State:
    """The state without its history, for truncated backpropagation through time."""
    return _of_tensors(Tensor.detach, state)


def to(state: State, device: Any = None, dtype: torch.dtype | None = None) -> State:
    """The state on another device or in another dtype, which may also be passed as the first argument."""
    if isinstance(device, torch.dtype):
        device, dtype = None, device
    return _of_tensors(lambda x: x.to(device=device, dtype=dtype), state)


def add_batch(state: State) -> State:
    """The state of one episode, or of the layers of one, as that of a batch of one."""
    layers: Any = state if type(state) is tuple else (state,)
    for layer in layers:
        memory = getattr(layer, "memory", None)
        if isinstance(memory, Tensor) and memory.dim() != 2:
            raise ValueError(f"state.memory: got shape {tuple(memory.shape)}, need (N, W), as the input has no batch")
    return _of_tensors(lambda x: x.unsqueeze(0), state)


def drop_batch(state: State) -> State:
    """What ``add_batch`` added, taken away."""
    return _of_tensors(lambda x: x.squeeze(0), state)


def _of_tensors(change: Callable[[Tensor], Tensor], state: State) -> State:
    """The state with all of its tensors changed; numbers, text and None stay."""

    def changed(x: Any) -> Any:
        if isinstance(x, Tensor):
            return change(x)
        if x is None or isinstance(x, (int, float, str)):
            return x
        raise TypeError(f"state.controller: got {type(x).__name__}, need tensors, or tuples, lists or dicts of them")

    return _pytree.tree_map(changed, state)
