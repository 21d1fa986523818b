"""Labels of the classes of an episode, the loss of an answer, and whether it is right."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from mannkern.tasks import seeds


class Labels(Protocol):
    """A form of labels: a label is a word of K symbols out of A, encoded as K one-hot vectors of A entries in a row."""

    def size(self, num_classes: int) -> int:
        """K * A for an episode of C classes: the features of a label in the input, and the logits of an answer.

        Raises ValueError where there are fewer than C labels.
        """

    def draw(self, targets: Tensor, num_classes: int, generator: torch.Generator) -> Tensor:
        """Targets (T, B) int64 in [0, C) -> symbols (T, B, K) int64 in [0, A), which each episode may draw anew."""


class OneHotLabels:
    """A label is a one-hot vector of C entries, K = 1 (Santoro et al. 2016, section 4.1). ``draw`` draws nothing."""

    def size(self, num_classes: int) -> int:
        return num_classes

    def draw(self, targets: Tensor, num_classes: int, generator: torch.Generator) -> Tensor:
        return targets.unsqueeze(-1)


class StringLabels:
    """A label is a string of five letters a to e, 25 entries for any C (Santoro et al. 2016, section 4.2, Table 2).

    Each episode draws a string for each of its classes, uniformly out of all 3,125, and different strings for different
    classes. (The paper draws each letter alone, so two of its 15 classes have the same string in 3% of episodes.)
    """

    LETTERS = 5
    LENGTH = 5
    NUMBER = LETTERS**LENGTH

    def size(self, num_classes: int) -> int:
        if num_classes > self.NUMBER:
            raise ValueError(f"classes_per_episode: got {num_classes}, need at most {self.NUMBER}, one a string")
        return self.LETTERS * self.LENGTH

    def draw(self, targets: Tensor, num_classes: int, generator: torch.Generator) -> Tensor:
        B = targets.shape[1]
        names = seeds.different(B, num_classes, self.NUMBER, generator)
        digits = self.LETTERS ** torch.arange(self.LENGTH - 1, -1, -1, device=names.device)
        letters = names.unsqueeze(-1) // digits % self.LETTERS  # (B, C, K)
        return letters[torch.arange(B, device=names.device), targets]


def encode(symbols: Tensor, size: int) -> Tensor:
    """Symbols (..., K) int64 -> (..., size) float32: K one-hot vectors of size / K entries."""
    return F.one_hot(symbols, size // symbols.shape[-1]).flatten(-2).float()


def label_loss(logits: Tensor, symbols: Tensor) -> Tensor:
    """Cross entropy of whole labels, (...): the sum over K symbols, each with a softmax over A logits.

    logits: (..., K * A);  symbols: (..., K) int64 in [0, A)
    """
    by_symbol = logits.unflatten(-1, (symbols.shape[-1], -1))
    loss = F.cross_entropy(by_symbol.flatten(0, -2), symbols.flatten(), reduction="none")
    return loss.view(symbols.shape).sum(-1)


def answered_right(logits: Tensor, symbols: Tensor) -> Tensor:
    """(...) bool: whether the largest logit of every symbol is the right one. A partly right label counts as wrong."""
    return (logits.unflatten(-1, (symbols.shape[-1], -1)).argmax(-1) == symbols).all(-1)
