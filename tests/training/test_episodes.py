"""Episodes as an experiment: loss and accuracy by instance of a batch."""

import math

import pytest
import torch
from torch import Tensor, nn

from mannkern.tasks import glyphs
from mannkern.tasks.episodes import Episodes
from mannkern.training.config import TrainConfig
from mannkern.training.episodes import EpisodeExperiment


class Always(nn.Module):
    """Answers the same whatever is asked."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, inputs: Tensor) -> Tensor:
        return self.logits


def test_scores_of_two_batches_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    split = glyphs.load(num_train=6, num_test=4)
    monkeypatch.setattr(glyphs, "load", lambda: split)
    experiment = EpisodeExperiment(TrainConfig(classes=2, length=6))
    targets = torch.tensor([[0], [1], [0]])
    episodes = Episodes(torch.zeros(3, 1, 1), targets, torch.tensor([[1], [1], [2]]), targets.unsqueeze(-1))
    wrong_at_first = torch.eye(2)[torch.tensor([[1], [1], [0]])]
    loss, first = experiment.score(Always(wrong_at_first), episodes)
    assert loss == pytest.approx((math.log(1 + math.e) + 2 * math.log(1 + 1 / math.e)) / 3)
    _, second = experiment.score(Always(torch.eye(2)[targets]), episodes)
    assert len(first) == experiment.num_sums
    summary = experiment.summarize((first + second).tolist(), 2.0)
    assert summary["accuracy"] == pytest.approx(5 / 6)
    assert summary["accuracy_by_instance"] == {"1": 0.75, "2": 1.0, "3": None, "4": None, "5": None, "10": None}
