"""Images in classes, in the layout that mini-ImageNet has (Ravi and Larochelle 2017), and their episodes."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from mannkern.integers import check_integer
from mannkern.tasks import seeds
from mannkern.tasks.characters.few_shot import FewShotEpisodes
from mannkern.tasks.characters.image_set import ImageSet
from mannkern.tasks.characters.sampler import ALL
from mannkern.tasks.characters.sources import read_regular_file, refused

SIDE = 84  # pixels of an image that a model sees
PARTS = ("train", "val", "test")
MOST_FILE_BYTES = 1 << 22  # of an image, or of a list
MOST_IMAGES = 100_000  # of a part; mini-ImageNet's largest has 38,400
MOST_BYTES = 1 << 32  # of a part, as it is returned
MOST_PIXELS = 1 << 24  # of an image before it is reduced


def load(root: str | os.PathLike[str], part: str = "train", side: int = SIDE) -> list[Tensor]:
    """The images of a part, a tensor (n, 3, side, side) uint8 for each class, in the order in which classes come.

    root: a folder with ``images/`` and the lists ``train.csv``, ``val.csv`` and ``test.csv``, each with the columns
          ``filename`` and ``label``. Images are JPEG or PNG, and are reduced to side x side whatever their shape.
    part: "train", "val" or "test"

    mini-ImageNet's training part takes 813 MB. Raises FileNotFoundError where a file is missing, ValueError where one
    is damaged or beyond the bounds, ImportError where Pillow is missing.
    """
    if part not in PARTS:
        raise ValueError(f"part: got {part!r}, need one of {', '.join(map(repr, PARTS))}")
    check_integer("side", side, 1, 1024)
    classes: dict[str, list[Tensor]] = {}
    for number, (name, label) in enumerate(_rows(Path(root) / f"{part}.csv")):
        if number == MOST_IMAGES:
            raise ValueError(f"{part}.csv: got more than {MOST_IMAGES} images, need at most as many")
        if (number + 1) * 3 * side**2 > MOST_BYTES:
            raise ValueError(f"{part}.csv: got more than {MOST_BYTES} bytes of images, need at most as many")
        classes.setdefault(label, []).append(_image(Path(root) / "images" / name, side))
    if not classes:
        raise ValueError(f"{part}.csv: got no images, need some")
    return [torch.stack(images) for images in classes.values()]


def class_sizes(root: str | os.PathLike[str], part: str) -> dict[str, int]:
    """How many images each class of a part has, by its list alone. Raises as ``load``, also for a missing image."""
    path, sizes = Path(root) / f"{part}.csv", dict[str, int]()
    for name, label in _rows(path):
        image = Path(root) / "images" / name
        if not image.is_file():
            raise FileNotFoundError(f"{path}: got {name}, need a file {image}")
        sizes[label] = sizes.get(label, 0) + 1
    if not sizes:
        raise ValueError(f"{path}: got no images, need some")
    return sizes


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    content = read_regular_file(path, MOST_FILE_BYTES)
    with refused(str(path), "the columns filename and label"):
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig")))  # Excel begins a file with a mark
        columns = reader.fieldnames or ()
        if not {"filename", "label"} <= set(columns):
            raise ValueError(f"columns: got {', '.join(columns) or 'none':.80}, need filename and label")
        for row in reader:
            name, label = row["filename"], row["label"]
            if not name or not label or name != os.path.basename(name) or name in (".", ".."):
                raise ValueError(f"row: got {row}, need the name of a file, without folders, and a label")
            yield name, label


def _image(path: Path, side: int) -> Tensor:
    """(3, side, side) uint8."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("reading images needs Pillow: pip install pillow") from error
    content = read_regular_file(path, MOST_FILE_BYTES)
    with (
        refused(str(path), "an undamaged JPEG or PNG"),
        Image.open(io.BytesIO(content), formats=["JPEG", "PNG"]) as image,
    ):
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"image: got {image.width} x {image.height} pixels, need at most {MOST_PIXELS}")
        pixels = bytearray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR).tobytes())
    return torch.frombuffer(pixels, dtype=torch.uint8).view(side, side, 3).permute(2, 0, 1).contiguous()


class ImageSampler:
    """Samples C-way K-shot episodes of images in colour (Vinyals et al. 2016, section 4.1.2).

    An episode draws C different classes, K images of each for the support set and others for the queries, shuffles
    both, and gives the classes the labels 0..C-1 in shuffled order.

    classes: of each class its images (n, 3, P, P) uint8, as ``load`` returns them
    classes_per_episode: C;  shots: K;  queries: of each class;  seed: at least 0; each seed gives other episodes

    Raises TypeError or ValueError that name the argument.
    """

    def __init__(
        self, classes: list[Tensor], *, classes_per_episode: int = 5, shots: int = 1, queries: int = 5, seed: int = 0
    ) -> None:
        check_integer("classes_per_episode", classes_per_episode, 1, len(classes))
        for name, value, least in (("shots", shots, 1), ("queries", queries, 1), ("seed", seed, 0)):
            check_integer(name, value, least)
        for place, images in enumerate(classes):
            if not isinstance(images, Tensor) or images.dtype != torch.uint8:
                kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
                raise TypeError(f"classes[{place}]: got {kind}, need a tensor of torch.uint8")
            if images.dim() != 4 or images.shape[1:] != classes[0].shape[1:]:
                need = tuple(classes[0].shape[1:]) if classes[0].dim() == 4 else "3, P, P"
                raise ValueError(f"classes[{place}]: got shape {tuple(images.shape)}, need (n, ...) of images {need}")
        fewest = min(len(images) for images in classes)
        if shots + queries > fewest:
            raise ValueError(f"shots and queries: got {shots} and {queries}, need at most {fewest} together")
        self.num_classes, self.shots, self.queries = classes_per_episode, shots, queries
        counts = torch.tensor([len(images) for images in classes], device="cpu")
        self.images = ImageSet(torch.cat(classes), counts)
        self._first = counts.cumsum(0) - counts
        self._seed = seed

    def sample(self, batch_size: int, index: int, rows: slice = ALL) -> FewShotEpisodes:
        """Batch number ``index`` (the training step, below 2**32) of ``batch_size`` = B >= 0 episodes.

        Images are (B, N, 3, P, P) float32 in [0, 1]. rows: those of the B episodes to make, by default all. The result
        depends on the constructor's arguments, ``batch_size``, ``index`` and ``rows`` alone. Torch's generator stays as
        it was.
        """
        check_integer("batch_size", batch_size, 0)
        check_integer("index", index, 0, 2**32 - 1)
        generator = seeds.generator(self._seed, index)
        B, C, K, each = batch_size, self.num_classes, self.shots, self.queries
        pixels, counts = self.images
        drawn = seeds.different(B, C, len(counts), generator)
        names = seeds.uniform(generator, B, C).argsort(1)
        scores = seeds.uniform(generator, B, C, int(counts.max()))
        beyond = torch.arange(scores.shape[2], device=scores.device) >= counts[drawn].unsqueeze(2)
        numbers = scores.masked_fill(beyond, 2.0).argsort(2)[..., : K + each] + self._first[drawn].unsqueeze(2)
        parts = []
        for part, count in ((numbers[..., :K], K), (numbers[..., K:], each)):
            order = seeds.uniform(generator, B, C * count).argsort(1)
            chosen = part.flatten(1).gather(1, order)[rows]
            images = pixels[chosen.flatten()].float() / 255
            parts += [images.view(*chosen.shape, *images.shape[1:]), names.gather(1, order // count)[rows]]
        return FewShotEpisodes(*parts)
