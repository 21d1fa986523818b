"""Images of your own: a folder for each class, as torchvision's ImageFolder has them, decoded once into a cache.

The files may come from a stranger: only regular ones of bounded size are opened, and Pillow decodes no format beyond
``SUFFIXES`` and nothing larger than ``MOST_PIXELS``.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mannkern.files import read_bounded
from mannkern.tasks.cache import cached
from mannkern.tasks.characters.image_set import ImageSet
from mannkern.tasks.characters.sources import refused

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".webp")
FORMATS = ["PNG", "JPEG", "BMP", "PPM", "WEBP"]
PARTS = ("train", "test")  # folders of classes, where the owner has split them
MOST_ENTRIES = 1 << 20
MOST_FILE_BYTES = 1 << 25
MOST_PIXELS = 1 << 24  # of an image before it is reduced
MOST_BYTES = 1 << 32  # of all images after that
LONGEST = 32  # pixels of the longer side that ``natural_shape`` gives
ORIENTATION, LYING = 0x0112, (5, 6, 7, 8)  # EXIF: with these values, height and width are exchanged
_CACHE_FORMAT = "images-1"


class ImageSplit(NamedTuple):
    """Images of different classes for training and for testing, and the names of the classes.

    drawn: whether ``held_out`` chose the classes for testing; their owner did where there are folders for both
    """

    train: ImageSet
    test: ImageSet
    train_names: list[str]
    test_names: list[str]
    drawn: bool = True


def load(
    root: str | os.PathLike[str],
    shape: Sequence[int],
    *,
    invert: bool = False,
    held_out: float = 0.2,
    test_names: Sequence[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> ImageSplit:
    """Loads ``root/CLASS/*.png`` and its like; or ``root/train/CLASS`` and ``root/test/CLASS``, where both are there.

    shape:    (height, width) makes every image grey, (3, height, width) RGB; all are scaled to that size
    invert:   for dark ink on light paper: 0 becomes 255, so that paper is 0, as what lies outside of a frame
    held_out: share of the classes that are kept for testing, at least one, drawn by a fixed seed; without effect where
              the folder has ``train`` and ``test``
    test_names: the classes that are kept for testing, in place of that share. A share draws others when a class is
              added, so whoever trains a model keeps their names
    cache:    folder for the decoded images, default ``$XDG_CACHE_HOME/mannkern`` or ``~/.cache/mannkern``. The SHA-256
              of all names and contents is part of the file's name, so changed images are decoded again. Where the
              default cannot be written, one line on stderr says so

    Raises FileNotFoundError where there is no such folder, ValueError where it has other contents, ImportError where
    Pillow is missing, and OSError where a disk is full or a given ``cache`` cannot be written. A failed call leaves
    nothing in the cache.
    """
    classes = image_files(root)
    tested = set(tested_names(root, list(classes), held_out, test_names))
    paths = [path for files in classes.values() for path in files]
    size = len(paths) * torch.Size(shape).numel()
    if size > MOST_BYTES:
        raise ValueError(
            f"{root}: got {size} bytes of {len(paths)} images, need at most {MOST_BYTES}; make them smaller"
        )
    digest = hashlib.sha256(f"{_CACHE_FORMAT} {tuple(shape)} {invert}".encode())
    for path in paths:
        content = _read(path)
        digest.update(os.fsencode(path.relative_to(root)) + f"\0{len(content)}\0".encode() + content)
    name = f"{_CACHE_FORMAT}-{digest.hexdigest()[:32]}.pt"
    pixels = cached(cache, name, (len(paths), *shape), lambda: read_images(paths, shape, invert))
    return _split(classes, pixels, tested)


def image_files(root: str | os.PathLike[str]) -> dict[str, list[Path]]:
    """The classes of a folder in sorted order, with their files. Hidden files and other suffixes are left out.

    Raises FileNotFoundError, or ValueError where a class has no image or there are fewer than two classes.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    folders = _folders(root)
    if [folder.name for folder in folders] == sorted(PARTS):
        folders = [folder for part in PARTS for folder in _folders(root / part)]
    classes, entries = {}, 0
    for folder in folders:
        files = sorted(path for path in _entries(folder) if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
        entries += len(files)
        if entries > MOST_ENTRIES:
            raise ValueError(f"{root}: got more than {MOST_ENTRIES} images, need fewer")
        if not files:
            raise ValueError(f"{folder}: got no images, need at least one of {', '.join(SUFFIXES)}")
        classes[folder.relative_to(root).as_posix()] = files
    short = [name.rpartition("/")[2] for name in classes]
    if len(set(short)) < len(short):
        twice = next(name for name in short if short.count(name) > 1)
        raise ValueError(
            f"{root}: got the class {twice!r} in both train and test, need it in one, because a model is tested on "
            "classes that it never saw; with the images of both in one folder, --held-out chooses such classes"
        )
    if len(classes) < 2:
        raise ValueError(f"{root}: got {len(classes)} folders of images, need one for each of at least two classes")
    return classes


def natural_shape(root: str | os.PathLike[str]) -> tuple[int, ...]:
    """The shape of the images of ``root``, for ``load``: 3 channels if any is in colour, and the size of all.

    A size whose longer side has more than 32 pixels is reduced to that in proportion. Images of several sizes get
    32 x 32.
    """
    sizes, coloured = set(), False
    for files in image_files(root).values():
        for path in files:
            with _opened(path) as image:
                sizes.add(image.size[::-1] if _lies(path, image) else image.size)
                coloured = coloured or _is_coloured(image)
    width, height = sizes.pop() if len(sizes) == 1 else (LONGEST, LONGEST)
    longer = max(width, height)
    if longer > LONGEST:
        width, height = (max(1, round(LONGEST * side / longer)) for side in (width, height))
    return (3, height, width) if coloured else (height, width)


def read_images(paths: Sequence[str | os.PathLike[str]], shape: Sequence[int], invert: bool = False) -> Tensor:
    """Files as (n, height, width) or (n, 3, height, width) uint8, as ``load`` makes them. Raises as it does."""
    images = torch.stack([_decode(Path(path), tuple(shape)) for path in paths])
    return 255 - images if invert else images


def _decode(path: Path, shape: tuple[int, ...]) -> Tensor:
    from PIL import Image, ImageOps

    height, width = shape[-2:]
    with _opened(path) as image, refused(str(path), "an undamaged image"):
        upright = ImageOps.exif_transpose(image)  # as a camera was held
        if upright.has_transparency_data:
            upright = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
        plain = upright.convert("RGB" if len(shape) == 3 else "L")
        reduces = plain.width >= width and plain.height >= height
        method = Image.Resampling.BOX if reduces else Image.Resampling.BILINEAR
        content = bytearray(plain.resize((width, height), method).tobytes())
    pixels = torch.frombuffer(content, dtype=torch.uint8)
    return pixels.view(height, width, 3).permute(2, 0, 1) if len(shape) == 3 else pixels.view(height, width)


def _opened(path: Path) -> Any:
    """The image of a file, of which only the head is decoded yet."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise ImportError("reading images needs Pillow: pip install pillow") from error
    with refused(str(path), f"an image with 8 bits a channel and at most {MOST_PIXELS} pixels"):
        try:
            image = Image.open(io.BytesIO(_read(path)), formats=FORMATS)
        except UnidentifiedImageError:  # whose message names the object in memory
            raise ValueError(f"content: got another file, need {' or '.join(FORMATS)}") from None
        if image.width * image.height > MOST_PIXELS or image.mode[0] in "IF":
            raise ValueError(f"got {image.width} x {image.height} pixels of mode {image.mode!r}")
    return image


def _lies(path: Path, image: Any) -> bool:
    """Whether a camera stored the image lying on its side, and says so."""
    if image.format == "PNG" and "exif" not in image.info:  # Pillow would decode all of it, to look behind it
        return False
    with refused(str(path), "an undamaged image"):
        return image.getexif().get(ORIENTATION) in LYING


def _is_coloured(image: Any) -> bool:
    if image.mode != "P":
        return image.mode not in ("1", "L", "LA")
    palette = image.getpalette("RGB")
    return bool(palette[::3] != palette[1::3] or palette[::3] != palette[2::3])


def _read(path: Path) -> bytes:
    return read_bounded(path, MOST_FILE_BYTES)


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in _entries(root) if path.is_dir() and path.name[0] != ".")


def _entries(root: Path) -> Iterator[Path]:
    for number, path in enumerate(root.iterdir()):
        if number >= MOST_ENTRIES:
            raise ValueError(f"{root}: got more than {MOST_ENTRIES} entries, need fewer")
        yield path


def is_split(names: Iterable[str]) -> bool:
    """Whether the classes of ``image_files`` come from a folder with ``train`` and ``test``."""
    return any("/" in name for name in names)


def tested_names(
    root: str | os.PathLike[str], names: Sequence[str], held_out: float, test_names: Sequence[str] | None
) -> list[str]:
    """The classes of ``image_files(root)`` that are for testing, as ``load`` chooses them.

    Raises ValueError where some of ``test_names`` are not there, and where they are none or all.
    """
    if is_split(names):
        return [name for name in names if name.startswith(f"{PARTS[1]}/")]
    if test_names is None:
        draw = random.Random(0)  # Python promises that random() gives the same numbers in every later version
        order = sorted(range(len(names)), key=[draw.random() for _ in names].__getitem__)
        return [names[place] for place in sorted(order[: min(len(names) - 1, max(1, round(held_out * len(names))))])]
    missing = sorted(set(test_names) - set(names))
    if missing:
        raise ValueError(f"{root}: got no class {missing[0]!r}, need it, as one of those for testing")
    if not test_names or len(set(test_names)) == len(names):
        raise ValueError(f"{root}: got {len(set(test_names))} of {len(names)} classes for testing, need some, not all")
    return sorted(set(test_names))


def _split(classes: dict[str, list[Path]], pixels: Tensor, tested: set[str]) -> ImageSplit:
    names, counts = list(classes), torch.tensor([len(files) for files in classes.values()], device="cpu")
    test = torch.tensor([name in tested for name in names], device="cpu")
    parts = [ImageSet(pixels[kept.repeat_interleave(counts)], counts[kept]) for kept in (~test, test)]
    by_part = [[name.rpartition("/")[2] for name in names if (name in tested) == kept] for kept in (False, True)]
    return ImageSplit(parts[0], parts[1], by_part[0], by_part[1], not is_split(names))
