"""Sequences in, bits out: the tasks of Graves et al. (2014)."""

from __future__ import annotations

from torch import nn

from mannkern.models.headed import HeadedCore


class Transducer(HeadedCore):
    """Logits of the bits of each step's output (Graves et al. 2014, section 4).

    core: (T, B, F) -> (T, B, D'), see :class:`mannkern.models.HeadedCore`. The paper's are an NTM, and as baseline an
    LSTM of three layers; for the copy task they have 100 and 256 hidden units, and the NTM a memory of 128 x 20.
    output_size: O, the bits of an output.

    >>> core = mannkern.models.build_core("ntm", mannkern.models.CoreSettings(input_size=9, hidden_size=100))
    >>> mannkern.models.Transducer(core, output_size=8)(torch.randn(41, 64, 9)).shape
    torch.Size([41, 64, 8])
    """

    def __init__(self, core: nn.Module, output_size: int) -> None:
        super().__init__(core, output_size)
