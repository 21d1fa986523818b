"""The classes that a few-shot model gives to drawings."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mannkern.experiments.few_shot.config import FewShotConfig
from mannkern.experiments.few_shot.prediction import predict


class Fixed(nn.Linear):
    """Its logits are 1, 2 and 3 for any query; it has a parameter, whose device tells where it is."""

    def __init__(self) -> None:
        super().__init__(1, 1)

    def forward(self, support: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
        self.ink = support.max().item(), queries.max().item()
        return torch.tensor([1.0, 2.0, 3.0]).expand(1, queries.shape[1], 3)


def test_a_class_without_an_example_is_no_answer() -> None:
    model, config = Fixed(), FewShotConfig(classes=3)
    drawings = torch.full((2, 20, 20), 255, dtype=torch.uint8)
    for labels, answer in (([0, 1], 1), ([1, 0], 1), ([0, 0], 0), ([0, 2], 2)):
        assert predict(model, config, drawings, torch.tensor(labels), drawings).tolist() == [answer] * 2
    assert model.ink == (1, 1), "full ink is 1, as in training"
