"""A core under a linear head, and the trace of its memory that pictures show."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mannkern.integers import check_integer
from mannkern.memories.cell import MemoryCell


class Trace(NamedTuple):
    """The logits of a model and the weights of its memory, step by step.

    logits: (T, B, O);  read_weights: (T, B, R, N);  write_weights: (T, B, write heads, N)
    """

    logits: Tensor
    read_weights: Tensor
    write_weights: Tensor


class HeadedCore(nn.Module):
    """Logits of each step: a linear layer over the outputs of a core.

    core: from :func:`mannkern.models.cores.build_core`, or any module (T, B, F) -> (T, B, D') or ((T, B, D'), state)
        that has D' as its ``output_size``, such as :class:`mannkern.MANN`; its parameters are named ``recurrent.*``
    outputs: O logits. The head starts Xavier-uniform with zero bias.
    mean: (F,), subtracted from the inputs of each step, or None; a buffer, so it is saved with the parameters. A MANN
        learned sooner from drawings without their mean (docs/models/mann.md, settings).

    Raises TypeError or ValueError, naming the argument, for another core, fewer than one logit or another mean.

    >>> model = mannkern.models.HeadedCore(mannkern.MANN(3, 20), outputs=2)
    >>> model(torch.randn(50, 16, 3)).shape
    torch.Size([50, 16, 2])
    """

    mean: Tensor | None

    def __init__(self, core: nn.Module, outputs: int, mean: Tensor | None = None) -> None:
        super().__init__()
        width = getattr(core, "output_size", None)
        if isinstance(core, MemoryCell) or not isinstance(core, nn.Module) or not isinstance(width, int):
            raise TypeError(
                f"core: got {type(core).__name__}, need a module of whole sequences with an output_size, such as "
                'mannkern.MANN or build_core("lstm", CoreSettings(...))'
            )
        check_integer("outputs", outputs)
        size = getattr(core, "input_size", None)
        if mean is not None and (not isinstance(mean, Tensor) or mean.dim() != 1 or size not in (None, len(mean))):
            got = tuple(mean.shape) if isinstance(mean, Tensor) else type(mean).__name__
            raise ValueError(f"mean: got {got}, need a tensor (F,)" + (f" = ({size},)" if size else ""))
        self.register_buffer("mean", None if mean is None else mean.clone())  # loading writes into it
        self.recurrent = core
        self.head = nn.Linear(width, outputs)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (T, B, F) -> logits (T, B, O)."""
        output = self.recurrent(self._centred(inputs))
        return self.head(output if isinstance(output, Tensor) else output[0])

    def continue_from(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        """inputs (T, B, F) and the state after the steps before, None at first -> logits (T, B, O), state.

        The core has to take a state and to return one.
        """
        output, state = self.recurrent(self._centred(inputs), state)
        return self.head(output), state

    @torch.no_grad()
    def trace(self, inputs: Tensor) -> Trace:
        """inputs (T, B, F) -> logits and the weights over slots, step by step.

        Raises TypeError where the core has no memory.
        """
        run_core = getattr(self.recurrent, "trace", None)
        if run_core is None:
            got = type(self.recurrent).__name__
            raise TypeError(f"trace: got {got}, need a core with a memory, such as MANN or NTM")
        centred = self._centred(inputs)
        outputs, reads, writes = run_core(centred)
        if getattr(self.recurrent, "num_layers", 1) > 1:  # the trace is the lowest layer's
            outputs = self.recurrent(centred)[0]
        return Trace(self.head(outputs), reads, writes)

    def _centred(self, inputs: Tensor) -> Tensor:
        if self.mean is None:
            return inputs
        if inputs.shape[-1] != len(self.mean):
            raise ValueError(f"inputs: got shape {tuple(inputs.shape)}, need (T, B, F) with F = {len(self.mean)}")
        return inputs - self.mean
