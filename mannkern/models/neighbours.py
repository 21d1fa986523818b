"""The nearest neighbours in pixels, a baseline for every memory (Santoro et al. 2016, section 4.2, Table 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mannkern.integers import check_integer


class NearestNeighbours(nn.Module):
    """Gives each drawing the label of the nearest earlier drawings of its episode, by Euclidean distance.

    It learns nothing: it stores every drawing of the episode with its label. The most frequent label among the
    ``count`` nearest wins. Of equally frequent labels the nearest drawing's wins; of equally distant drawings the
    earlier counts as nearer.

    label_size: entries of a label, the last ones of an input; count: k, default 1, the paper's.
    Raises ValueError for a number under 1.
    """

    def __init__(self, label_size: int, *, count: int = 1) -> None:
        super().__init__()
        for name, value in (("label_size", label_size), ("count", count)):
            check_integer(name, value)
        self.label_size = label_size
        self.count = count

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (T, B, F), ``[x_t, y_{t-1}]`` -> the winning label as logits (T, B, label_size), zeros at the first.

        Logits that are all 0 answer with the first symbols, which is a guess, because each episode draws its labels.
        Needs memory for B * T * (T + k * label_size) numbers.
        """
        pixels, labels = inputs.transpose(0, 1).split([inputs.shape[-1] - self.label_size, self.label_size], -1)
        logits = torch.zeros_like(labels)
        if labels.shape[1] > 1:
            logits[:, 1:] = self._winners(pixels, labels[:, 1:])
        return logits.transpose(0, 1)

    def _winners(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """Drawings (B, T, P * P) and the labels of all but the last -> answers for all but the first."""
        B, last, _ = labels.shape
        distance = torch.cdist(pixels[:, 1:], pixels[:, :-1], compute_mode="donot_use_mm_for_euclid_dist")
        step = torch.arange(last, device=labels.device)
        distance = distance.masked_fill(step > step[:, None], torch.inf)  # row t compares drawing t + 1 with 0 to t
        order = distance.sort(stable=True).indices[..., : self.count]
        earlier = order <= step[:, None]  # at first there are fewer than k
        each = torch.arange(B, device=labels.device)[:, None]
        nearest = labels[each.unsqueeze(-1), order]  # (B, T - 1, k, label_size)
        alike = (nearest.unsqueeze(2) == nearest.unsqueeze(3)).all(-1)
        votes = (alike & earlier.unsqueeze(2) & earlier.unsqueeze(3)).sum(-1)
        return nearest[each, step, votes.argmax(-1)]
