"""The classes that a one-shot model gives to drawings, after it has seen some with their labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mannkern.experiments.characters import check_support, drawings_of
from mannkern.experiments.one_shot.config import OneShotConfig
from mannkern.experiments.one_shot.experiment import LABELS
from mannkern.tasks import seeds
from mannkern.tasks.characters.labels import encode
from mannkern.tasks.characters.pixels import divide_by_scale


def predict(model: nn.Module, config: OneShotConfig, support: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
    """support (N, P, P), labels (N,) int64, queries (Q, P, P) -> their most probable classes (Q,), out of ``labels``.

    Each query stands at the end of an episode of its own that shows the support set class after class in turn, because
    in training the classes were mixed. Labels that are strings are drawn for the classes, always the same. Raises
    ``ValueError`` or ``TypeError``, naming the argument.
    """
    shown, asked = drawings_of("support", support, config), drawings_of("queries", queries, config)
    check_support(shown, labels, config.classes)
    order = in_turn(labels)
    shown, labels = shown[order], labels[order]
    form = LABELS[config.labels]
    label_size = form.size(config.classes)
    names = form.draw(torch.arange(config.classes)[:, None], config.classes, seeds.generator(0, 0))[:, 0]  # (C, K)
    pixels = torch.cat((shown, asked)).flatten(1)
    divide_by_scale(pixels.clone(), config.image_scale, pixels)
    N, Q, P = len(shown), len(asked), pixels.shape[1]
    inputs = torch.zeros(N + 1, Q, P + label_size)
    inputs[:N, :, :P] = pixels[:N, None]
    inputs[N, :, :P] = pixels[N:]
    first = 1 if config.shots is None else 0  # the step that has the label of the first drawing
    inputs[first : first + N, :, P:] = encode(names[labels], label_size)[:, None]
    device = next(model.parameters()).device
    logits = model(inputs.to(device))[-1].cpu()
    by_symbol = logits.unflatten(-1, (names.shape[1], -1)).log_softmax(-1)  # (Q, K, A)
    scores = (by_symbol.unsqueeze(1) * F.one_hot(names, by_symbol.shape[-1])).sum((-2, -1))  # (Q, C)
    given = torch.zeros(config.classes, dtype=torch.bool)
    given[labels] = True
    return scores.masked_fill(~given, -torch.inf).argmax(-1)


def in_turn(labels: Tensor) -> Tensor:
    """The order (N,) of labels (N,) that has the first of each class, then the second of each, and so on."""
    earlier = (labels[:, None] == labels).tril(-1).sum(1)  # of the same class
    return earlier.argsort(stable=True)
