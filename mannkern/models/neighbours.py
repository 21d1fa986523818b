"""The nearest neighbours in pixels: what a memory has to beat (Santoro et al. 2016, section 4.2, Table 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mannkern.integers import check_integer


class NearestNeighbours(nn.Module):
    """Labels each drawing as the nearest earlier ones of its episode are, by Euclidean distance; nothing is learnt.

    It keeps every drawing of the episode with its label. The label most frequent among the ``count`` nearest wins, of
    equally frequent ones the nearest's; of drawings equally far, the earlier is nearer.

    label_size: entries of a label, the last of an input; count: k, default 1, the paper's.
    There are no parameters. Raises ValueError for a number under 1.
    """

    def __init__(self, label_size: int, *, count: int = 1) -> None:
        super().__init__()
        for name, value in (("label_size", label_size), ("count", count)):
            check_integer(name, value)
        self.label_size = label_size
        self.count = count

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs (T, B, F), ``[x_t, y_{t-1}]`` -> the winning label as logits (T, B, label_size), zeros at the first.

        Logits that are all 0 answer with the first symbols: a guess, since names are drawn for each episode.
        Takes B * T * (T + k * label_size) numbers of memory.
        """
        pixels, given = inputs.transpose(0, 1).split([inputs.shape[-1] - self.label_size, self.label_size], -1)
        logits = torch.zeros_like(given)
        if given.shape[1] > 1:
            logits[:, 1:] = self._winners(pixels, given[:, 1:])
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
