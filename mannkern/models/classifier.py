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

    >>> core = mannkern.models.build_core("mann", mannkern.models.CoreSettings(input_size=405))
    >>> model = mannkern.models.EpisodeClassifier(core, num_classes=5)
    >>> model(torch.randn(50, 16, 405)).shape  # images of 400 pixels beside the last label
    torch.Size([50, 16, 5])
    """

    def __init__(self, core: nn.Module, num_classes: int) -> None:
        super().__init__(core, num_classes)
