"""The classes that a few-shot model gives to drawings, by a support set with labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mannkern.experiments.characters import check_support, drawings_of
from mannkern.experiments.few_shot.config import FewShotConfig


def predict(model: nn.Module, config: FewShotConfig, support: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
    """support (N, P, P), labels (N,) int64, queries (Q, P, P) -> their most probable classes (Q,), out of ``labels``.

    Raises ``ValueError`` or ``TypeError``, naming the argument.
    """
    shown, asked = drawings_of("support", support, config), drawings_of("queries", queries, config)
    check_support(shown, labels, config.classes)
    if not len(asked):
        return torch.empty(0, dtype=torch.int64)
    device = next(model.parameters()).device
    episode = ((shown / 255)[None], labels[None], (asked / 255)[None])
    logits = model(*(tensor.to(device) for tensor in episode))[0].cpu()
    given = torch.zeros(config.classes, dtype=torch.bool)
    given[labels] = True
    return logits.masked_fill(~given, -torch.inf).argmax(-1)
