"""``sequence_task``: a task of your own sequences, for ``register_task``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from mannkern.experiments.kind import Kind
from mannkern.experiments.plain import plain_kind
from mannkern.experiments.sequences.config import SequenceConfig, config_of
from mannkern.experiments.sequences.experiment import LOSSES, SequenceExperiment, make_model
from mannkern.experiments.sequences.stream import Stream
from mannkern.training.errors import CommandError


def sequence_task(
    name: str, train: Iterable[Any], test: Iterable[Any], *, loss: str, outputs: int | None = None
) -> Kind:
    """A task that learns sequences of your own, for :func:`mannkern.experiments.registry.register_task`.

    name:  what ``python -m mannkern train`` calls it: small letters, digits and hyphens
    train: an ``IterableDataset``, or anything else whose every iteration gives the same sequences, of any number and
           length: ``(inputs, targets)`` or ``(inputs, targets, mask)``, with inputs (T, F) floating point; an answer is
           due at the steps where mask (T,) bool is True, by default at all. It is read in order, by one thread, and by
           each of several processes, which keeps its share of every batch
    test:  as ``train``, other sequences: validations see the first 100, ``evaluate`` as many as it is told
    loss:  "classes": targets (T,) integers, cross entropy; "bits": targets (T, O), 0 or 1, binary cross entropy;
           "numbers": targets (T, O), squared error
    outputs: the number of classes; for bits and numbers it is O

    Raises ``ValueError`` that names the argument.
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise ValueError(f"name: got {name!r}, need small letters, digits and hyphens")
    if loss not in LOSSES:
        raise ValueError(f"loss: got {loss!r}, need one of {', '.join(LOSSES)}")
    training, testing = (Stream(which, data, loss == "bits") for which, data in (("train", train), ("test", test)))
    try:
        inputs, targets, _ = training.take(0, 1)[0]
    except CommandError as error:
        raise ValueError(str(error)) from None
    width = 1 if targets.dim() == 1 else targets.shape[1]
    if (targets.dim() == 1) != (loss == "classes"):
        need = "(T,)" if loss == "classes" else "(T, numbers)"
        raise ValueError(f"train: got targets {tuple(targets.shape)}, need {need} for the loss {loss!r}")
    if loss == "classes" and (outputs is None or outputs < 2):
        raise ValueError(f"outputs: got {outputs}, need the number of classes, at least 2")
    sizes = inputs.shape[1], outputs if loss == "classes" and outputs is not None else width

    def predict(model: nn.Module, config: SequenceConfig, sequences: Tensor) -> Tensor:
        """(T, F) or (T, B, F) -> classes (T[, B]) int64, bits or numbers (T[, B], O) float32."""
        if not isinstance(sequences, Tensor) or sequences.dim() not in (2, 3) or sequences.shape[-1] != sizes[0]:
            got = tuple(sequences.shape) if isinstance(sequences, Tensor) else type(sequences).__name__
            raise ValueError(f"sequences: got {got}, need (T, {sizes[0]}) or (T, B, {sizes[0]})")
        batch = sequences.float() if sequences.dim() == 3 else sequences.float()[:, None]
        logits = model(batch.to(next(model.parameters()).device)).cpu()
        logits = logits if sequences.dim() == 3 else logits[:, 0]
        if loss == "classes":
            return logits.argmax(-1)
        return (logits > 0).to(torch.float32) if loss == "bits" else logits

    return plain_kind(
        {name: config_of(name)},
        lambda config: SequenceExperiment(config, training, testing, loss, sizes),
        build=lambda config: make_model(config, *sizes),
        predict=predict,
    )
