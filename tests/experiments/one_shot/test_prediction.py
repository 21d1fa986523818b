"""The episodes in which a one-shot model sees a support set and a query."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mannkern.experiments.one_shot.config import OneShotConfig
from mannkern.experiments.one_shot.prediction import predict


class Notes(nn.Linear):
    """A model that keeps its inputs; it has a parameter, whose device tells where it is."""

    def __init__(self) -> None:
        super().__init__(1, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        self.inputs = inputs
        return torch.zeros(*inputs.shape[:2], 2)


def grey(*inks: int) -> Tensor:
    return torch.stack([torch.full((20, 20), ink, dtype=torch.uint8) for ink in inks])


@pytest.mark.parametrize(("shots", "first"), [(None, 1), (2, 0)])
def test_two_classes_by_hand(shots: int | None, first: int) -> None:
    """Examples come class after class in turn, then the query; a label comes a step later, with ``shots`` beside it."""
    model, labels = Notes(), torch.tensor([1, 1, 0, 0])
    predict(model, OneShotConfig(classes=2, image_scale="255", shots=shots), grey(10, 20, 30, 40), labels, grey(50, 60))
    assert model.inputs.shape == (5, 2, 402)
    for query, ink in enumerate((50, 60)):
        assert (255 * model.inputs[:, query, 0]).round().tolist() == [10, 30, 20, 40, ink]
        shown = torch.zeros(5, 2)
        shown[first : first + 4] = torch.eye(2)[[1, 0, 1, 0]]
        assert torch.equal(model.inputs[:, query, 400:], shown)
