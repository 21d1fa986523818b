"""The convolutional embedding: shapes, what a block is, what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mannkern.models import ConvEmbedding


def test_one_block_by_hand() -> None:
    """The kernel keeps each pixel and batch norm does nothing: the largest of 1, 2, 3 and -4 is left."""
    embedding = ConvEmbedding(1, blocks=1).eval()
    convolution = embedding.layers[0]
    with torch.no_grad():
        convolution.weight.zero_()
        convolution.weight[0, 0, 1, 1] = 1
    assert embedding(torch.tensor([[1.0, 2.0], [3.0, -4.0]])).tolist() == pytest.approx([3.0], rel=1e-4)


@pytest.mark.parametrize("side", [16, 20, 28, 31, 33])
def test_shapes(side: int) -> None:
    embedding = ConvEmbedding(6)
    assert embedding(torch.rand(2, 3, side, side)).shape == (2, 3, 6)
    assert embedding(torch.rand(2, side, side)).shape == (2, 6)


def test_no_images_and_several_channels() -> None:
    embedding = ConvEmbedding(6, blocks=2, channels=3).eval()
    assert embedding(torch.rand(4, 5, 3, 8, 8)).shape == (4, 5, 6)
    assert embedding(torch.rand(0, 5, 3, 8, 8)).shape == (0, 5, 6)


def test_a_block_is_convolution_norm_relu_and_pooling() -> None:
    torch.manual_seed(0)
    embedding = ConvEmbedding(4, blocks=2).double()
    images = torch.rand(7, 5, 5, dtype=torch.float64)
    kernels = [layer.weight for layer in embedding.layers if isinstance(layer, nn.Conv2d)]
    assert [kernel.shape for kernel in kernels] == [(4, 1, 3, 3), (4, 4, 3, 3)]
    x = images.unsqueeze(1)
    for kernel in kernels:
        x = F.conv2d(x, kernel, padding=1)
        x = (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
        x = F.max_pool2d(x.clamp_min(0), 2)
    assert x.shape == (7, 4, 1, 1)
    torch.testing.assert_close(embedding(images), x[..., 0, 0])


def test_the_mean_of_what_positions_are_left() -> None:
    embedding = ConvEmbedding(4, blocks=1).eval()
    images = torch.rand(3, 6, 6)
    torch.testing.assert_close(embedding(images), embedding.layers(images.unsqueeze(1)).mean((2, 3)))


def test_every_parameter_learns() -> None:
    embedding = ConvEmbedding(6)
    embedding(torch.rand(9, 20, 20)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in embedding.parameters())


def test_what_cannot_be_is_named() -> None:
    with pytest.raises(ValueError, match=r"^images: got \(15, 20\) pixels, need at least 16 a side"):
        ConvEmbedding()(torch.rand(2, 15, 20))
    with pytest.raises(ValueError, match=r"^images: got 1 channels, need 3"):
        ConvEmbedding(channels=3)(torch.rand(2, 1, 20, 20))
    for name in ("width", "blocks", "channels"):
        with pytest.raises(ValueError, match=f"^{name}: got 0, need at least 1"):
            ConvEmbedding(**{name: 0})
