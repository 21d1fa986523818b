"""Decoded images in a file, so that they are decoded once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mannkern.files import load_tensors, save_tensors, user_cache, write_atomically
from mannkern.training.errors import is_full, one_line


def cached(
    folder: str | os.PathLike[str] | None, name: str, shape: tuple[int, ...], decode: Callable[[], Tensor]
) -> Tensor:
    """The images ``shape``, uint8, of the file ``name`` in a cache; without an undamaged one, those of ``decode``.

    folder: the cache, default ``user_cache()``. The default is a help and not a need, so where it cannot be written one
        line on stderr says so, and the images are there all the same.

    Raises ``OSError`` where a disk is full or a given ``folder`` cannot be written, and what ``decode`` raises. A
    failed call leaves no file.
    """
    try:
        place = user_cache() if folder is None else Path(folder)
    except RuntimeError as error:  # there is no home
        _warn("$XDG_CACHE_HOME/mannkern", str(error))
        return decode()
    path = place / name
    if (known := _read(path, shape)) is not None:
        return known
    images = decode()
    try:
        place.mkdir(parents=True, exist_ok=True)
        write_atomically(path, partial(save_tensors, images))
    except OSError as error:
        if folder is not None or is_full(error):
            raise
        _warn(str(place), error.strerror or str(error))
    return images


def _read(path: Path, shape: tuple[int, ...]) -> Tensor | None:
    """The images of an undamaged file, otherwise None."""
    try:
        images = load_tensors(path)
    except (OSError, ValueError):
        return None
    return images if isinstance(images, Tensor) and images.shape == shape and images.dtype == torch.uint8 else None


def _warn(place: str, reason: str) -> None:
    text = f"{place}: cannot be written ({reason}); without this cache the images are decoded each time"
    print(f"mannkern: {one_line(text)}", file=sys.stderr)
