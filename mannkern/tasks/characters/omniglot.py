"""Omniglot (Lake, Salakhutdinov and Tenenbaum 2015): 1623 characters of 50 alphabets, each drawn by 20 people."""

from __future__ import annotations

import hashlib
import io
import os
import random
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from mannkern.integers import check_integer
from mannkern.tasks.cache import cached
from mannkern.tasks.characters.episodes import CharacterSplit
from mannkern.tasks.characters.pixels import average_area
from mannkern.tasks.characters.sources import checksum, read_folder, read_zip, refused

CLASSES = {"images_background": 964, "images_evaluation": 659}
ALPHABETS = (  # characters of each, in sorted order: 30 of images_background, 20 of images_evaluation
    20, 29, 26, 41, 40, 24, 46, 14, 26, 34, 33, 22, 26, 43, 24, 48, 22, 16, 52, 47, 40, 26, 40, 41, 33, 14, 42, 23, 17,
    55, 20, 26, 26, 26, 26, 26, 45, 45, 41, 26, 47, 40, 30, 45, 46, 28, 23, 25, 42, 26,
)  # fmt: skip
DRAWINGS = 20
PAPER_TRAIN_CLASSES = 1200
SPLITS = ("paper", "other", "sorted", "alphabets")
_SIDE, REDUCED_SIDE = 105, 20
_CACHE_FORMAT, _ORIGINAL_FORMAT = "omniglot-1", "omniglot-original-1"
_PACKED_BYTES = (_SIDE**2 + 7) // 8
_BITS = torch.arange(8, dtype=torch.uint8)


def load(
    root: str | os.PathLike[str],
    *,
    split: str = "paper",
    cache: str | os.PathLike[str] | None = None,
    original: bool = False,
    side: int = REDUCED_SIDE,
) -> CharacterSplit:
    """Loads Omniglot, every image reduced from 105 x 105 to 20 x 20 pixels by area averaging, 255 = full ink.

    root:  the folder of ``images_background`` and ``images_evaluation``, each as the official zip or extracted, or the
           folder above its ``omniglot-py`` (torchvision's layout). A zip is preferred to a folder, and read in place.
    split: "paper" (default): 1200 classes for training and 423 for testing, the sizes of Santoro et al. (2016), drawn
           from all 1623 by a fixed seed, so that the test's alphabets are those of training;
           "other": as many again, whose test classes are among those that "paper" trains on; no setting of mannkern
           was chosen by a look at them;
           "sorted": the first 1200 in sorted order and the last 423, nearly all of alphabets that training has not.
           Santoro et al. test the characters 1201 to 1623, of an order that they do not give;
           "alphabets": the official sets, 964 classes of 30 alphabets and 659 of 20 others
    cache: folder for the reduced images (13 MB), default ``$XDG_CACHE_HOME/mannkern`` or ``~/.cache/mannkern``. The
           file has the SHA-256 of the source as its name, so a changed source is decoded again; so is one whose file
           is damaged. Where the default cannot be written, one line on stderr says so.
    original: leaves the images as they are, (classes, 20, 105, 105): 358 MB, and 45 MB in the cache
    side:  reduces them to so many pixels a side in place of 20, at most 105; the cache has the original images then

    Raises FileNotFoundError where a part of the data is missing, ValueError where it is damaged or not Omniglot,
    ImportError where decoding needs Pillow and it is missing, OSError where a disk is full or a given ``cache`` cannot
    be written. A failed call leaves nothing in the cache.
    """
    if split not in SPLITS:
        raise ValueError(f"split: got {split!r}, need one of {', '.join(map(repr, SPLITS))}")
    check_integer("side", side, 1, _SIDE)
    packed = original or side != REDUCED_SIDE
    sources = [_find(Path(root), name) for name in CLASSES]
    digest = hashlib.sha256("".join(checksum(source) for source in sources).encode()).hexdigest()
    name = f"{_ORIGINAL_FORMAT if packed else _CACHE_FORMAT}-{digest[:32]}.pt"
    drawing = (_PACKED_BYTES,) if packed else (REDUCED_SIDE, REDUCED_SIDE)

    def decode() -> Tensor:
        ink = torch.cat([_decode(source, part) for source, part in zip(sources, CLASSES, strict=True)])
        return torch.stack([_pack(character) if packed else _reduce(character, side) for character in ink])

    images = cached(cache, name, (sum(CLASSES.values()), DRAWINGS, *drawing), decode)
    if original:
        images = 255 * torch.stack([_unpack(character) for character in images])
    elif packed:
        images = torch.stack([_reduce(_unpack(character), side) for character in images])
    return _parts(images, split)


def alphabets(split: str = "paper") -> CharacterSplit:
    """The number of the alphabet, in [0, 50), of each class of a split, (classes,) int64, for training and for testing.

    Of the official split the parts share no alphabet, of the paper's both have classes of every one.
    """
    return _parts(torch.arange(len(ALPHABETS)).repeat_interleave(torch.tensor(ALPHABETS)), split)


def _parts(classes: Tensor, split: str) -> CharacterSplit:
    """Something of every class, in sorted order, as that of the training classes and that of the others."""
    if split in ("sorted", "alphabets"):
        train = PAPER_TRAIN_CLASSES if split == "sorted" else CLASSES["images_background"]
        return CharacterSplit(classes[:train], classes[train:])
    # Python promises only of random() that every later version gives the same numbers.
    draw = random.Random(0)
    order = sorted(range(len(classes)), key=[draw.random() for _ in classes].__getitem__)
    if split == "other":
        order.reverse()  # those that train in the paper's split come last
    return CharacterSplit(classes[sorted(order[:PAPER_TRAIN_CLASSES])], classes[sorted(order[PAPER_TRAIN_CLASSES:])])


def _find(root: Path, name: str) -> Path:
    for place in (root, root / "omniglot-py"):
        for source in (place / f"{name}.zip", place / name):
            if source.is_dir() != bool(source.suffix) and source.exists():
                return source
    raise FileNotFoundError(
        f"{root}: found neither {name}.zip nor {name}/, here or in omniglot-py/; "
        "get both zips from https://github.com/brendenlake/omniglot/tree/master/python"
    )


def _decode(source: Path, name: str) -> Tensor:
    """(classes, 20, 105, 105) uint8 of one set, 1 = ink; classes sorted by alphabet and character, drawings by name."""
    characters: dict[str, dict[str, bytes]] = {}
    for file, content in sorted(read_folder(source) if source.is_dir() else read_zip(source)):
        drawings = characters.setdefault(file.rpartition("/")[0], {})
        if file in drawings:
            raise ValueError(f"{source}: {file}: got it twice, need every drawing once")
        drawings[file] = content
    if len(characters) != CLASSES[name]:
        raise ValueError(f"{source}: got {len(characters)} characters, need {CLASSES[name]}")
    for character, drawings in characters.items():
        if len(drawings) != DRAWINGS:
            raise ValueError(f"{source}: {character}: got {len(drawings)} drawings, need {DRAWINGS}")
    return torch.stack([_decode_character(source, drawings) for drawings in characters.values()])


def _decode_character(source: Path, drawings: dict[str, bytes]) -> Tensor:
    return torch.stack([_decode_drawing(f"{source}: {file}", content) for file, content in drawings.items()])


def _reduce(ink: Tensor, side: int) -> Tensor:
    """(n, 105, 105), 1 = ink -> (n, side, side) uint8, 255 = full ink."""
    return (255 * average_area(ink, side)).round().to(torch.uint8)


def _pack(ink: Tensor) -> Tensor:
    """(n, 105, 105) of 0 and 1 -> (n, 1379) uint8 with eight pixels in a byte."""
    bits = F.pad(ink.flatten(1), (0, 8 * _PACKED_BYTES - _SIDE**2)).unflatten(1, (_PACKED_BYTES, 8))
    return (bits << _BITS).sum(2, dtype=torch.uint8)


def _unpack(packed: Tensor) -> Tensor:
    """The reverse of ``_pack``."""
    return ((packed.unsqueeze(2) >> _BITS) & 1).flatten(1)[:, : _SIDE**2].unflatten(1, (_SIDE, _SIDE))


def _decode_drawing(where: str, content: bytes) -> Tensor:
    """(105, 105) uint8, 1 where there is ink."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("reading Omniglot needs Pillow: pip install pillow") from error
    need = f"a PNG of {_SIDE} x {_SIDE} pixels of 1 bit"
    with refused(where, need), Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        if image.size != (_SIDE, _SIDE) or image.mode != "1":
            width, height = image.size
            raise ValueError(f"got {width} x {height} pixels of mode {image.mode!r}")
        white = bytearray(image.convert("L").tobytes())
    return (torch.frombuffer(white, dtype=torch.uint8) == 0).to(torch.uint8).view(_SIDE, _SIDE)
