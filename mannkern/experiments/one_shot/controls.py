"""What an experiment changes of a core: reads that stay hidden, and initial weights and key strengths."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mannkern.memories.cell import MemoryCell
from mannkern.models.cores import FeedForward


def hide_reads(core: nn.Module) -> None:
    """Keep the controller of a core with a memory from seeing what was read: its weights for reads stay 0."""
    for weight, seen in _input_weights(core):
        with torch.no_grad():
            weight[:, seen:] = 0
        inputs = torch.zeros_like(weight)
        inputs[:, :seen] = 1
        weight.register_hook(lambda gradient, inputs=inputs: gradient * inputs.to(gradient.device))


def start_inputs(core: nn.Module, image_shape: tuple[int, ...], smoothness: float, gain: float) -> None:
    """Smooth the initial weights of the controller for images, then multiply those for all inputs by ``gain``.

    PyTorch draws each weight for itself, so a drawing moved by one pixel looks new to every hidden unit. To weights
    that change little from pixel to pixel it looks alike from the start.

    image_shape: (..., height, width) of the first inputs;  smoothness: standard deviation, in pixels, of the Gaussian
    that smooths the weights over an image, 0: none. Their own standard deviation stays.
    """
    pixels = math.prod(image_shape)
    for weight, seen in _input_weights(core):
        with torch.no_grad():
            images = weight[:, :pixels]
            if smoothness:
                smooth = _smoothed(images.reshape(-1, *image_shape[-2:]), smoothness).reshape(images.shape)
                images.copy_(smooth * (images.std() / smooth.std()))
            weight[:, :seen] *= gain


def _smoothed(images: Tensor, deviation: float) -> Tensor:
    """images (n, height, width) under a Gaussian of this standard deviation, with 0 around them."""
    for side in images.shape[1:]:
        places = torch.arange(side, dtype=torch.float64)
        kernel = torch.exp(-((places[:, None] - places) ** 2) / (2 * deviation**2)).to(images)
        images = (images.mT @ kernel).contiguous()  # the first time over rows, the second time over columns
    return images


def _input_weights(core: nn.Module) -> Iterator[tuple[Tensor, int]]:
    """The weights (G, F + R W) of the controller's inputs and F; those of a baseline's first layer, (G, F), and F."""
    cell = getattr(core, "cell", None)
    if isinstance(cell, MemoryCell):
        name = "weight_ih" if isinstance(cell.controller, nn.LSTMCell) else "linear.weight"
        yield cell.controller.get_parameter(name), cell.input_size
    elif isinstance(core, nn.LSTM):
        yield core.get_parameter("weight_ih_l0"), core.input_size
    elif isinstance(core, FeedForward):
        yield core.get_parameter("0.weight"), core.get_parameter("0.weight").shape[1]


def start_strengths(core: nn.Module, strength: float) -> None:
    """Let the keys of a MANN with ``key_strength`` start with this strength, above 1, as far as their bias says.

    With the usual bias of 0 it is 1 + ln 2 = 1.7: a slot that equals the key gets at most e^1.7 = 5 times the weight of
    one that is unlike it, so that a read is nearly the mean of 128 slots.
    """
    bias = core.get_parameter("cell.interface.bias")
    with torch.no_grad():
        bias[-int(core.cell.num_reads) :] = math.log(math.expm1(strength - 1))  # type: ignore[union-attr, arg-type]
