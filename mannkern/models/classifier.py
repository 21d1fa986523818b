"""One-shot classification of an episode (Santoro et al. 2016)."""

from __future__ import annotations

from torch import nn

from mannkern.models.headed import HeadedCore


class EpisodeClassifier(HeadedCore):
    """Class of each step of an episode from inputs ``[x_t, y_{t-1}]`` (Santoro et al. 2016, section 4).

    core: (T, B, F) -> (T, B, D'), see :class:`mannkern.models.HeadedCore`. The paper's are ``build_core("mann", ...)``
    with the defaults of :class:`mannkern.models.CoreSettings`, and as baselines "lstm" and "feedforward", a tanh layer
    that sees one step alone; "ntm" has the NTM's addressing in place of LRUA's.
    num_classes: C logits, or the entries of a label that is a string.
    """

    def __init__(self, core: nn.Module, num_classes: int) -> None:
        super().__init__(core, num_classes)
