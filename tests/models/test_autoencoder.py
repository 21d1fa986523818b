"""The autoencoder's layers, and neighbours in the codes of an encoder."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mannkern.models import Autoencoder, EncodedNeighbours, NearestNeighbours
from tests.models.test_neighbours import of_labels


def test_neighbours_in_codes_by_hand() -> None:
    """In pixels the third drawing is nearest to the first, in the second pixel alone to the second."""
    inputs = of_labels([[0.0, 0.0], [9.0, 1.0], [1.0, 1.0]], [0, 1, 0], 2)
    second = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        second.weight.copy_(torch.tensor([[0.0, 1.0]]))
        assert NearestNeighbours(2)(inputs)[2, 0].tolist() == [1, 0]
        assert EncodedNeighbours(second, 2)(inputs)[2, 0].tolist() == [0, 1]
        assert torch.equal(EncodedNeighbours(nn.Identity(), 2)(inputs), NearestNeighbours(2)(inputs))


def test_layers() -> None:
    model = Autoencoder(12, (5, 4, 3))
    sizes = [tuple(p.shape) for name, p in model.named_parameters() if name.endswith("weight")]
    assert sizes == [(5, 12), (4, 5), (3, 4), (4, 3), (5, 4), (12, 5)]
    assert isinstance(model.encoder[-1], nn.Linear), "a code may be below 0"
    assert model(torch.rand(7, 2, 12)).shape == (7, 2, 12)
    with pytest.raises(ValueError, match=r"^layers: got 0, need at least 1"):
        Autoencoder(12, (5, 0))
