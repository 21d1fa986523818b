"""One-shot classification of an episode (Santoro et al. 2016)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from mannkern.integers import check_integer
from mannkern.memories.checks import compute_dtype
from mannkern.memories.ends import start_of
from mannkern.memories.sequence import MemorySequence
from mannkern.models.headed import HeadedCore


class EpisodeClassifier(HeadedCore):
    """Class of each step of an episode from inputs ``[x_t, y_{t-1}]`` (Santoro et al. 2016, section 4).

    core: (T, B, F) -> (T, B, D'), see :class:`mannkern.models.HeadedCore`. The paper's is
    ``build_core("mann", CoreSettings(F, write="key"))``, see :class:`mannkern.models.CoreSettings`. Its baselines are
    "lstm" and "feedforward", a tanh layer that sees one step alone; "ntm" has the NTM's addressing in place of LRUA's.
    num_classes: C logits, or the entries of a label that is a string.
    mean: (F,), subtracted from the inputs of each step, or None

    >>> core = mannkern.models.build_core("mann", mannkern.models.CoreSettings(input_size=405))
    >>> model = mannkern.models.EpisodeClassifier(core, num_classes=5)
    >>> model(torch.randn(50, 16, 405)).shape  # images of 400 pixels beside the last label
    torch.Size([50, 16, 5])
    """

    def __init__(self, core: nn.Module, num_classes: int, mean: Tensor | None = None) -> None:
        check_integer("num_classes", num_classes)
        super().__init__(core, num_classes, mean)


class PersistentClassifier(EpisodeClassifier):
    """An :class:`EpisodeClassifier` whose memory is not wiped between episodes (Santoro et al. 2016, section 4.2.1).

    In training, each of the B episodes of a batch starts with the memory that the episode before it, at the same place
    in the batch before, has left, with its usage and the weights of its heads. The controller and the vectors that it
    has read start anew. No gradient goes back into the episode before. The states are buffers, so a checkpoint has
    them. In evaluation the memory is wiped; ``next_episode`` is what keeps it.

    core: with a memory, such as :class:`mannkern.MANN`, of any number of layers, and with a controller whose state at
          the start is known, which is any but a module of your own;  batch_size: B of the training;  mean: as above

    Under ``DistributedDataParallel`` each rank goes on with its own memory. Where it is a part of the module that is
    wrapped, this needs ``broadcast_buffers=False``, because DDP then sends rank 0's memory to all. In
    ``torch.utils.checkpoint`` use ``continue_from`` and ``next_episode``, because it calls ``forward`` a second time.

    Raises TypeError for another core, and ValueError for a learned initial memory, which would not learn: only the
    first episode starts from it.

    >>> model = mannkern.models.PersistentClassifier(mannkern.MANN(405, 200), num_classes=10, batch_size=16)
    >>> logits = model(torch.randn(75, 16, 405))  # and of the next call, on the memory that this one left
    >>> logits.shape
    torch.Size([75, 16, 10])
    """

    def __init__(self, core: nn.Module, num_classes: int, batch_size: int, mean: Tensor | None = None) -> None:
        super().__init__(core, num_classes, mean)
        if not isinstance(core, MemorySequence):
            raise TypeError(f"core: got a {type(core).__name__}, need one with a memory, such as MANN or NTM")
        if any(cell.memory_init == "learned" for cell in core.cells):
            raise ValueError("core: got memory_init='learned', need a number or 'uniform', as no gradient reaches it")
        states = tuple(start_of(cell, batch_size, "core") for cell in core.cells)
        leaves, self._structure = _pytree.tree_flatten(states if core.num_layers > 1 else states[0])
        self._carried = [f"carried_{number}" for number in range(len(leaves))]
        for name, x in zip(self._carried, leaves, strict=True):
            self.register_buffer(name, x.detach().clone(memory_format=torch.contiguous_format))
        self._ddp_params_and_buffers_to_ignore = list(self._carried)  # which DDP asks of the module that it wraps
        controllers = _pytree.tree_leaves([state.controller for state in states])
        memories = (all(x is not y for y in controllers) for x in leaves)
        self._of_memories = [name for name, kept in zip(self._carried, memories, strict=True) if kept]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PersistentClassifier:
        """As ``nn.Module``, for ``bfloat16()`` and its like; a memory and its weights stay float32, as in a cell."""
        before = {name: self.get_buffer(name) for name in self._of_memories}
        super()._apply(fn, recurse)
        for name, x in before.items():
            after = self.get_buffer(name)
            if after.dtype != (wide := compute_dtype(after)):
                setattr(self, name, x.to(after.device, wide))
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (T, B, F) -> logits (T, B, C)."""
        if not self.training:
            return super().forward(inputs)
        state = _pytree.tree_unflatten([self.get_buffer(name) for name in self._carried], self._structure)
        logits, state = self.continue_from(inputs, self.next_episode(state))
        for name, x in zip(self._carried, _pytree.tree_leaves(state), strict=True):
            setattr(self, name, cast(Tensor, x).detach())
        return logits

    def next_episode(self, state: Any) -> Any:
        """The state that an episode starts with, from that in which ``continue_from`` left the one before it.

        The memory, its usage and the weights of its heads go on. The controller and the read vectors start anew, since
        what the paper keeps is the external memory.
        """
        core = cast("MemorySequence[Any]", self.recurrent)
        layers = state if core.num_layers > 1 else (state,)
        kept = []
        for cell, layer in zip(core.cells, layers, strict=True):
            start = start_of(cell, len(layer.memory), "core")
            kept.append(layer._replace(controller=start.controller, read=start.read))
        return tuple(kept) if core.num_layers > 1 else kept[0]
