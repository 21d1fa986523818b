"""Drawings that are turned, shifted and reduced point by point, beside what is known of the result."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mannkern.tasks.characters.ink import Ink
from mannkern.tasks.characters.pixels import average_area


def some_drawings(number: int, width: int) -> Tensor:
    """Drawings with grey ink on a third of the paper; the last has none."""
    generator = torch.Generator().manual_seed(0)
    ink = torch.randint(1, 256, (number, width, width), generator=generator, dtype=torch.uint8)
    ink *= torch.rand(number, width, width, generator=generator) < 1 / 3
    ink[-1] = 0
    return ink


def moved_in_float64(drawing: Tensor, angle: float, shift: tuple[float, float], side: int) -> Tensor:
    """One drawing by the definition: every point's square, cut with every pixel of the result."""
    width = len(drawing)
    middle, cell = (width - 1) / 2, width / side
    edges = torch.arange(side, dtype=torch.float64) * cell
    result = torch.zeros(side, side, dtype=torch.float64)
    for row, column in drawing.nonzero().tolist():
        x, y = column - middle, row - middle
        left = middle + shift[0] + x * math.cos(angle) + y * math.sin(angle)
        top = middle + shift[1] + y * math.cos(angle) - x * math.sin(angle)
        across, along = (
            (edges + cell).minimum(torch.tensor(at + 1)).sub(edges.maximum(torch.tensor(at))).clamp(min=0)
            for at in (round(left * side) / side, round(top * side) / side)
        )
        result += int(drawing[row, column]) * along[:, None] * across / cell**2
    return result


@pytest.mark.parametrize(("shift", "expected"), [(0.5, [0, 50]), (-0.5, [25, 25]), (-1.0, [50, 0]), (1.5, [0, 25])])
def test_a_point_is_shared_among_the_pixels_it_lies_in(shift: float, expected: list[float]) -> None:
    """One point in column 2 of 4: a pixel of the result is the mean of four, so whole ink of 200 makes 50 of it."""
    drawing = torch.zeros(1, 4, 4, dtype=torch.uint8)
    drawing[0, 1, 2] = 200
    moved = Ink(drawing).moved(torch.tensor([0]), torch.zeros(1), torch.tensor([[shift, 0.0]]), 2)
    assert moved.tolist() == [[expected, [0, 0]]]


@pytest.mark.parametrize(("width", "side"), [(12, 4), (21, 5), (105, 20), (7, 1), (6, 6)])
def test_quarter_turns_and_whole_shifts_are_exact(width: int, side: int) -> None:
    drawings = some_drawings(3, width)
    ink = Ink(drawings)
    for quarter in range(4):
        angles, shifts = torch.full((3,), quarter * math.pi / 2), torch.tensor([[2.0, -1.0]] * 3)
        turned = torch.rot90(drawings, quarter, (1, 2))
        moved = ink.moved(torch.arange(3), angles, torch.zeros(3, 2), side)
        torch.testing.assert_close(moved, average_area(turned, side), atol=1e-3, rtol=1e-5)
        shifted = torch.zeros_like(turned)
        shifted[:, :-1, 2:] = turned[:, 1:, :-2]
        moved = ink.moved(torch.arange(3), angles, shifts, side)
        torch.testing.assert_close(moved, average_area(shifted, side), atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize(("width", "side"), [(11, 4), (21, 10), (30, 7), (9, 9)])
def test_turned_and_shifted_as_defined(width: int, side: int) -> None:
    drawings = some_drawings(5, width)
    generator = torch.Generator().manual_seed(1)
    angles = 2 * math.pi * torch.rand(5, generator=generator)
    shifts = width * (torch.rand(5, 2, generator=generator) - 0.5)
    chosen = torch.tensor([2, 0, 4, 1, 2])
    moved = Ink(drawings).moved(chosen, angles, shifts, side)
    for one, number, angle, (right, down) in zip(moved, chosen.tolist(), angles.tolist(), shifts.tolist(), strict=True):
        expected = moved_in_float64(drawings[number], angle, (right, down), side)
        torch.testing.assert_close(one.double(), expected, atol=1e-3, rtol=1e-5)
    assert not moved[2].any(), "the drawing without ink"


def test_what_leaves_the_frame_is_lost() -> None:
    ink = Ink(torch.full((1, 10, 10), 255, dtype=torch.uint8))
    for right, down in ((10.0, 0.0), (0.0, -10.0), (1e6, 1e6), (-1e6, 3.0)):
        assert not ink.moved(torch.tensor([0]), torch.zeros(1), torch.tensor([[right, down]]), 5).any()
    half = ink.moved(torch.tensor([0]), torch.zeros(1), torch.tensor([[0.0, 5.0]]), 2)
    assert half.tolist() == [[[0, 0], [255, 255]]]


def test_a_drawing_does_not_depend_on_the_others() -> None:
    drawings = some_drawings(4, 33)
    ink = Ink(drawings)
    angles, shifts = torch.tensor([0.1, -0.2, 0.15, 0.0]), torch.tensor([[1.5, 2.0], [0.3, -4.0], [0, 1], [9, 9]])
    together = ink.moved(torch.arange(4), angles, shifts, 8)
    for number in range(4):
        one = slice(number, number + 1)
        alone = Ink(drawings[one]).moved(torch.tensor([0]), angles[one], shifts[one], 8)
        assert torch.equal(together[one], alone)
    assert ink.moved(torch.arange(0), torch.zeros(0), torch.zeros(0, 2), 8).shape == (0, 8, 8)
