"""``record``: what the memory of a cell holds, reads and writes at every step, while a ``with`` block runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from mannkern.integers import check_integer
from mannkern.memories.cell import MemoryCell


class Step(NamedTuple):
    """What is kept of one step; see :class:`Recording` for the shapes, which have a T there."""

    memory: Tensor
    read_weights: Tensor
    write_weights: Tensor
    read: Tensor
    usage: Tensor | None


class Recording:
    """The steps of a cell, in the order in which they ran, as tensors on the CPU without gradients.

    T counts the steps of all calls in the ``with`` block, B the episodes that are kept. All are as after the step.
    """

    def __init__(self, episodes: int | None = None) -> None:
        self.steps: list[Step] = []
        self._episodes = episodes

    def __len__(self) -> int:
        return len(self.steps)

    def add(self, state: Any, write_weights: Tensor) -> None:
        """Keep a step: the state after it, and its write weights (B, H, N)."""
        usage = getattr(state, "usage", None)
        tensors = state.memory, state.read_weights, write_weights, state.read, usage
        self.steps.append(Step(*(None if x is None else self._kept(x) for x in tensors)))  # type: ignore[arg-type]

    @property
    def memory(self) -> Tensor:
        """(T, B, N, W)."""
        return self._stacked("memory")

    @property
    def read_weights(self) -> Tensor:
        """(T, B, R, N)."""
        return self._stacked("read_weights")

    @property
    def write_weights(self) -> Tensor:
        """(T, B, H, N); H is R for a MANN, and the number of write heads for an NTM."""
        return self._stacked("write_weights")

    @property
    def read(self) -> Tensor:
        """(T, B, R, W), the vectors that were read."""
        return self._stacked("read")

    @property
    def usage(self) -> Tensor | None:
        """(T, B, N) of a MANN; None for an NTM, which has no usage."""
        return self._stacked("usage") if self.steps and self.steps[0].usage is not None else None

    @property
    def slots_written(self) -> Tensor:
        """(T, B, H), int64: the slot that each head writes to most."""
        return self.write_weights.argmax(-1)

    def _kept(self, x: Tensor) -> Tensor:
        if x.is_meta or isinstance(x, FakeTensor) or torch._C._functorch.is_batchedtensor(x):
            raise ValueError("recording: got a step without numbers, need one outside of vmap, export and device meta")
        return x.detach()[: self._episodes].to("cpu", copy=True)

    def _stacked(self, name: str) -> Tensor:
        if not self.steps:
            raise ValueError("recording: got no step, need a call of the cell inside the with block")
        steps = [getattr(step, name) for step in self.steps]
        if len({x.shape for x in steps}) > 1:
            sizes = sorted({x.shape[0] for x in steps})
            raise ValueError(f"recording: got steps of {sizes} episodes, need the same number in all steps")
        return torch.stack(steps)


class _RecordedStep:
    """The step of a cell, which is also added to a recording."""

    def __init__(self, step: Callable[..., tuple[Tensor, Any, Tensor]], recording: Recording) -> None:
        self.step, self.recording = step, recording

    def __call__(self, input: Tensor, state: Any) -> tuple[Tensor, Any, Tensor]:
        output, after, write_weights = self.step(input, state)
        self.recording.add(after, write_weights)
        return output, after, write_weights

    def __reduce_ex__(self, protocol: Any) -> Any:
        # the copy would go on to compute with the weights of the original
        raise TypeError("module: got a cell that is being recorded, need to copy or pickle it outside of the block")


@contextmanager
def record(module: nn.Module, *, layer: int = 0, episodes: int | None = None) -> Iterator[Recording]:
    """Record every step of a memory cell while the block runs: ``with record(mann) as recording: mann(inputs)``.

    module:   a MANNCell or NTMCell, a MANN or NTM, or any model that has one inside
    layer:    which of the module's cells, in the order of ``module.modules()``, the lowest layer first
    episodes: how many of the batch are kept, the first ones; None for all. Each takes 4 N (W + 2 R + 1) bytes a step

    In the block the loop over time runs step by step, so it is slower, and its results may differ by rounding. Behind
    the end of an episode, given by ``lengths``, the recorded steps mean nothing. Steps inside ``torch.compile``, vmap
    or an exported program cannot be recorded, and in the block the module cannot be copied or pickled; its
    ``state_dict`` can. Steps that ``torch.utils.checkpoint`` repeats are recorded again.

    Raises ValueError if the module has no such cell, naming what it has, and TypeError if it is no module.

    >>> mann = mannkern.MANN(8, 16)
    >>> with mannkern.viz.record(mann) as recording:
    ...     outputs, state = mann(torch.randn(10, 2, 8))
    >>> recording.memory.shape, recording.write_weights.shape
    (torch.Size([10, 2, 128, 40]), torch.Size([10, 2, 4, 128]))
    """
    check_integer("layer", layer, 0)
    if episodes is not None:
        check_integer("episodes", episodes)
    if not isinstance(module, nn.Module):
        raise TypeError(f"module: got {type(module).__name__}, need a torch.nn.Module")
    cells = [cell for cell in module.modules() if isinstance(cell, MemoryCell)]
    if not cells:
        raise ValueError(
            f"module: got {type(module).__name__} without a memory cell, need one with a MANN or NTM inside"
        )
    if layer >= len(cells):
        raise ValueError(
            f"layer: got {layer}, need less than {len(cells)}, the memory cells of {type(module).__name__}"
        )
    cell, recording = cells[layer], Recording(episodes)
    if "step" in cell.__dict__:
        raise ValueError("module: got a cell whose step was replaced or is being recorded, need its own")
    # a cell with a step of its own leaves the fused loops
    cell.step = _RecordedStep(cell.step, recording)  # type: ignore[method-assign]
    try:
        yield recording
    finally:
        cell.__dict__.pop("step", None)  # the block may have deleted it
