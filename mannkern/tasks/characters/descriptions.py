"""Zero-shot episodes: classes that are described in numbers, without an example, and queries to name."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mannkern.integers import check_integer
from mannkern.tasks import seeds
from mannkern.tasks.characters.few_shot import FewShotEpisodes
from mannkern.tasks.characters.sampler import ALL, CharacterSampler

DESCRIBED = 10  # drawings of a class that its description is computed from; the others are queries
LINES = 5  # rows, and columns, whose strokes are counted
DIRECTIONS = 4
ATTRIBUTES = 6 + 2 * LINES + DIRECTIONS
INK = 96  # of 255: a pixel that is darker belongs to a stroke
Units = tuple[Tensor, Tensor]


def attributes(images: Tensor) -> Tensor:
    """Numbers that tell how a character is drawn: images (..., P, P) uint8, 255 = full ink -> (..., ``ATTRIBUTES``).

    The share of ink; its centre and its spread, right and down; the pieces minus the holes; how many strokes cross each
    of ``LINES`` rows and as many columns; and the shares of ``DIRECTIONS`` directions among the edges of strokes.
    """
    flat = images.flatten(0, -3).float() / 255
    side = flat.shape[-1]
    total = flat.sum((1, 2)).clamp(min=1e-6)
    place = (torch.arange(side, dtype=flat.dtype, device=flat.device) + 0.5) / side
    numbers = [flat.mean((1, 2))]
    for profile in (flat.sum(1), flat.sum(2)):  # over columns, over rows
        centre = profile @ place / total
        spread = (profile * (place - centre[:, None]).square()).sum(1) / total
        numbers += [centre, spread.sqrt()]
    strokes = flat > INK / 255
    numbers.append(_pieces_minus_holes(strokes))
    at = torch.linspace(0, side - 1, LINES + 2, dtype=torch.float32, device=flat.device)[1:-1].round().long()
    for lines in (strokes[:, at], strokes[:, :, at].transpose(1, 2)):
        begun = F.pad(lines, (1, 0))[..., :-1]
        numbers += (lines & ~begun).sum(2).float().unbind(1)
    numbers += _directions(flat).unbind(1)
    return torch.stack(numbers, 1).unflatten(0, images.shape[:-2])


def _pieces_minus_holes(strokes: Tensor) -> Tensor:
    """The Euler number (n,) of strokes (n, P, P) bool with eight neighbours, from the 2 x 2 squares of pixels."""
    padded = F.pad(strokes, (1, 1, 1, 1))
    squares = [padded[:, :-1, :-1], padded[:, :-1, 1:], padded[:, 1:, :-1], padded[:, 1:, 1:]]
    ink = torch.stack(squares).sum(0)
    diagonal = (ink == 2) & (squares[0] == squares[3])
    return ((ink == 1).sum((1, 2)) - (ink == 3).sum((1, 2)) - 2 * diagonal.sum((1, 2))).float() / 4


def _directions(ink: Tensor) -> Tensor:
    """The shares (n, DIRECTIONS) of directions among the edges of ink (n, P, P), weighted by their contrast."""
    down, right = ink[:, 2:, 1:-1] - ink[:, :-2, 1:-1], ink[:, 1:-1, 2:] - ink[:, 1:-1, :-2]
    contrast = (down.square() + right.square()).sqrt()
    turn = torch.atan2(down, right) * DIRECTIONS / torch.pi  # an edge and its opposite have one direction
    bins = turn.round().long() % DIRECTIONS
    shares = torch.stack([(contrast * (bins == k)).sum((1, 2)) for k in range(DIRECTIONS)], 1)
    return shares / shares.sum(1, keepdim=True).clamp(min=1e-6)


class ZeroShotSampler(CharacterSampler):
    """Samples episodes of C described classes: the support set has one description of each class and no drawing.

    A description is the mean of ``attributes`` over ``DESCRIBED`` drawings of the class, which are never queries, from
    their mean over all classes and in units of their deviation, then the one-hot number of the class's alphabet. A
    class turned by quarters is described anew.

    images:    (classes, drawings, P, P) uint8, with more than ``DESCRIBED`` drawings
    alphabets: (classes,) int64, the number of the alphabet of each class, default none; num_alphabets: how many are
    queries:   queries of each class, so that Q = C * ``queries``, default 5
    units:     mean and deviation of the attributes, each (``ATTRIBUTES``,); default those of these classes. A test has
               the ``units`` of the sampler of training: else its descriptions mean something else to the model, and
               that of a class depends on the other unseen classes.

    The other arguments are those of :class:`CharacterSampler` with the same names. Raises TypeError or ValueError that
    name the argument.
    """

    shots = 1

    def __init__(
        self,
        images: Tensor,
        *,
        alphabets: Tensor | None = None,
        num_alphabets: int = 0,
        classes_per_episode: int = 5,
        queries: int = 5,
        units: Units | None = None,
        rotate_classes: bool = False,
        augment: bool = False,
        seed: int = 0,
    ) -> None:
        check_integer("queries", queries, 1)
        check_integer("num_alphabets", num_alphabets, 0)
        if alphabets is not None:
            if not isinstance(alphabets, Tensor) or alphabets.dtype != torch.int64:
                kind = alphabets.dtype if isinstance(alphabets, Tensor) else type(alphabets).__name__
                raise TypeError(f"alphabets: got {kind}, need a tensor of torch.int64")
            if alphabets.shape != images.shape[:1]:
                raise ValueError(f"alphabets: got shape {tuple(alphabets.shape)}, need ({len(images)},), as images")
            if len(alphabets) and not 0 <= int(alphabets.min()) <= int(alphabets.max()) < num_alphabets:
                got = f"{int(alphabets.min())} to {int(alphabets.max())}"
                raise ValueError(f"alphabets: got {got}, need numbers below num_alphabets = {num_alphabets}")
        if images.dim() == 4 and DESCRIBED + queries > images.shape[1]:
            raise ValueError(
                f"queries: got {queries}, need at most {images.shape[1] - DESCRIBED}, beyond the described"
            )
        super().__init__(
            images[:, DESCRIBED:],
            classes_per_episode=classes_per_episode,
            rotate_classes=rotate_classes,
            augment=augment,
            seed=seed,
        )
        self.queries = queries
        turns = range(4 if rotate_classes else 1)
        described = torch.cat([attributes(torch.rot90(images[:, :DESCRIBED], turn, (2, 3))).mean(1) for turn in turns])
        self.units = units or (described.mean(0), described.std(0, correction=0).clamp(min=1e-6))
        mean, deviation = self.units
        self._descriptions = (described - mean) / deviation
        if alphabets is not None:
            names = F.one_hot(alphabets, num_alphabets).float().repeat(len(turns), 1)
            self._descriptions = torch.cat((self._descriptions, names), 1)
        self.description_size = self._descriptions.shape[1]

    def sample(self, batch_size: int, index: int, rows: slice = ALL) -> FewShotEpisodes:
        """Batch number ``index`` (the training step, below 2**32) of ``batch_size`` = B >= 0 episodes.

        ``support`` is (B, C, ``description_size``) float32, the descriptions. rows: those of the B episodes to make, by
        default all. The result depends on the constructor's arguments, ``batch_size``, ``index`` and ``rows`` alone.
        Torch's generator stays as it was.
        """
        generator = self._generator(batch_size, index)
        B, C, each = batch_size, self.num_classes, self.queries
        names, drawings = self._draw(B, each, generator)
        support = self._descriptions[drawings[rows, :, 0] // self._images.shape[1]]
        order = seeds.uniform(generator, B, C * each).argsort(1)
        chosen = drawings.flatten(1).gather(1, order)
        own = torch.arange(chosen.numel(), device=chosen.device).view(chosen.shape)[rows]
        pixels = self._pixels(chosen, generator, own.flatten())
        queries = (pixels.float() / 255).view(*own.shape, *pixels.shape[1:])
        return FewShotEpisodes(support, names[rows], queries, names.gather(1, order // each)[rows])
