"""Drawings as their points of ink: to turn, shift and reduce them costs by the ink, not by the paper around it."""

from __future__ import annotations

import torch
from torch import Tensor

_PART = 1024  # drawings that are looked through at a time, so that the numbers of their points stay small


class Ink:
    """The points of drawings (n, P, P) uint8 that are not 0, on their device."""

    def __init__(self, drawings: Tensor) -> None:
        self._width = drawings.shape[-1]
        parts = [part.flatten(1) for part in drawings.split(_PART)]
        where = [part.nonzero(as_tuple=True) for part in parts]
        counts = [numbers.bincount(minlength=len(part)) for part, (numbers, _) in zip(parts, where, strict=True)]
        self._counts = torch.cat(counts)
        self._starts = self._counts.cumsum(0) - self._counts
        self._places = torch.cat([places.int() for _, places in where])
        self._values = torch.cat([part[at] for part, at in zip(parts, where, strict=True)])

    def moved(self, chosen: Tensor, angles: Tensor, shifts: Tensor, side: int) -> Tensor:
        """Drawings ``chosen`` (m,), each turned, then shifted, then reduced: (m, side, side) float32 in [0, 255].

        angles: (m,) radians, counterclockwise about the centre as seen with row 0 on top
        shifts: (m, 2) pixels of P, (right, down)

        Each point is carried to its new place, to 1 / ``side`` of a pixel, as a square with upright sides. A pixel of
        the result is the mean of the ink that lies in it. What leaves the frame is lost.
        """
        width, counts = self._width, self._counts[chosen]
        last = counts.cumsum(0)
        of = torch.repeat_interleave(torch.arange(len(chosen), dtype=torch.int32, device=chosen.device), counts)
        point = torch.arange(len(of), dtype=torch.int32, device=of.device)
        point += (self._starts[chosen] - last + counts).int().index_select(0, of)
        places, values = self._places.index_select(0, point), self._values.index_select(0, point)
        # In units of 1 / side of a pixel a point has the whole width `side`, and a pixel of the result the width P.
        middle = (width - 1) / 2
        y = torch.div(places, width, rounding_mode="floor")
        x = (places - y * width).float() - middle
        y = y.float() - middle
        cos, sin = ((part * side).index_select(0, of) for part in (angles.cos(), angles.sin()))
        right, down = (((middle + shift) * side).index_select(0, of) for shift in shifts.T)
        column, to_next_column = _divided(right.addcmul_(x, cos).addcmul_(y, sin), width, side)
        row, to_next_row = _divided(down.addcmul_(y, cos).addcmul_(x, sin, value=-1), width, side)
        # A margin of a pixel takes what lies outside. Sums of whole numbers do not depend on their order.
        row_length = side + 2
        size = row_length**2
        sums = torch.zeros(len(chosen) * size + row_length + 1, dtype=torch.int32, device=of.device)
        at = column.add_(row, alpha=row_length).int().add_(of, alpha=size)
        for rows, height in enumerate((side - to_next_row, to_next_row)):
            height *= values
            for columns, length in enumerate((side - to_next_column, to_next_column)):
                sums[rows * row_length + columns :].index_add_(0, at, (length * height).int())
        pixels = sums[: len(chosen) * size].view(-1, row_length, row_length)[:, 1:-1, 1:-1]
        return pixels.float() / width**2


def _divided(start: Tensor, width: int, side: int) -> tuple[Tensor, Tensor]:
    """For intervals of length ``side`` from ``start`` on: the cell each begins in, and its length in the cell behind.

    Cells have length ``width``; cell 1 begins at 0. What begins outside lies in cell 0 or ``side`` + 1, whole.
    ``start`` is overwritten.
    """
    start.round_().clamp_(-width, side * width)
    cell = (start / width).floor_()
    beyond = start.sub_(cell, alpha=width).add_(side - width).clamp_(min=0)
    return cell.add_(1), beyond
