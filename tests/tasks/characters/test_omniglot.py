"""Omniglot is reduced exactly, split as promised, and read from every layout it comes in."""

from __future__ import annotations

import hashlib
import io
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from mannkern.tasks import omniglot
from tests.tasks.characters.archives import extract, write_zip

REAL = Path(__file__).parents[4] / "shared" / "data" / "omniglot"


def classes(images: Tensor) -> set[bytes]:
    return {bytes(character.flatten().tolist()) for character in images}


def test_area_average_of_a_fraction_by_hand() -> None:
    # 3 to 2: an area is a pixel and a half. Rows: weights (2, 1, 0) / 3 and (0, 1, 2) / 3.
    ink = torch.tensor([[9.0, 0, 0], [0, 18, 0], [0, 0, 36]])
    expected = torch.tensor([[4 * 9 + 18, 18], [18, 18 + 4 * 36]]) / 9
    assert torch.allclose(omniglot.average_area(ink, 2), expected)


def test_area_average_of_an_integer_ratio_is_the_mean_of_each_block() -> None:
    ink = torch.arange(36.0).view(1, 6, 6)
    assert torch.allclose(omniglot.average_area(ink, 3), torch.nn.functional.avg_pool2d(ink, 2))


def test_area_average_of_105_to_20_by_hand() -> None:
    ink = torch.zeros(105, 105)
    ink[5, 2] = 1  # a quarter of row 5 lies in area 0 (rows 0 to 5.25), the rest in area 1
    expected = torch.zeros(20, 20)
    expected[0, 0], expected[1, 0] = 0.25 / 5.25**2, 0.75 / 5.25**2
    assert torch.allclose(omniglot.average_area(ink, 20), expected, atol=1e-8)
    assert torch.allclose(omniglot.average_area(torch.ones(2, 105, 105), 20), torch.ones(2, 20, 20))


def average_by_repeating(ink: Tensor) -> Tensor:
    """(105, 105) to (20, 20) another way: every pixel as 20 x 20 pixels, then the mean of 105 x 105 of these."""
    repeated = ink.double().repeat_interleave(20, 0).repeat_interleave(20, 1)
    return torch.nn.functional.avg_pool2d(repeated[None], 105)[0]


def test_area_average_keeps_the_mean() -> None:
    ink = (torch.rand(8, 105, 105, generator=torch.Generator().manual_seed(0)) < 0.1).to(torch.uint8)
    reduced = omniglot.average_area(ink, 20)
    assert torch.allclose(reduced[3].double(), average_by_repeating(ink[3]), atol=1e-6)
    assert torch.allclose(reduced.mean((1, 2)), ink.float().mean((1, 2)), atol=1e-6)
    assert torch.allclose(omniglot.average_area(ink.transpose(1, 2), 20), reduced.transpose(1, 2))


def test_ink_is_full_and_paper_is_zero(root: Path, cache: Path) -> None:
    split = omniglot.load(root, split="alphabets", cache=cache)
    square = torch.zeros(105, 105)
    square[20:29, 0:6] = 1  # number 20: the first character's drawing 1
    expected = (omniglot.average_area(square, 20) * 255).round().to(torch.uint8)
    assert torch.equal(split.train[0, 0], expected)
    assert expected.max() == 255
    assert expected[-1, -1] == 0


def test_the_original_drawings_reduce_to_the_others(root: Path, cache: Path) -> None:
    """The second load reads eight pixels from each byte of the cache."""
    reduced = omniglot.load(root, cache=cache)
    for _ in range(2):
        original = omniglot.load(root, cache=cache, original=True)
        assert (original.train.shape, original.test.shape) == ((7, 20, 105, 105), (3, 20, 105, 105))
        assert original.train.unique().tolist() == [0, 255]
        for one, other in zip(original, reduced):
            assert torch.equal(omniglot.average_area(one, 20).round().to(torch.uint8), other)
    larger = omniglot.load(root, cache=cache, side=28)
    assert torch.equal(omniglot.average_area(original.test, 28).round().to(torch.uint8), larger.test)
    assert len(list(cache.iterdir())) == 2
    with pytest.raises(ValueError, match=r"^side: got 106, need at most 105"):
        omniglot.load(root, cache=cache, side=106)


def test_alphabets_in_sorted_order(root: Path, cache: Path) -> None:
    split = omniglot.load(root, split="alphabets", cache=cache)
    assert split.train.shape == (6, 20, 20, 20)
    assert split.test.shape == (4, 20, 20, 20)
    assert split.train.dtype == torch.uint8
    columns = torch.cat(split)[:, 4].amax(1).argmax(1).tolist()  # the fifth drawing's square tells the character
    assert columns == sorted(set(columns))
    assert len(columns) == 10


def test_the_sorted_split_cuts_the_same_order_later(root: Path, cache: Path) -> None:
    alphabets, split = (omniglot.load(root, split=name, cache=cache) for name in ("alphabets", "sorted"))
    assert torch.equal(torch.cat(split), torch.cat(alphabets))
    assert (len(split.train), len(split.test)) == (7, 3)


def test_paper_split_mixes_the_alphabets_and_is_fixed(root: Path, cache: Path) -> None:
    paper = omniglot.load(root, cache=cache)
    alphabets = omniglot.load(root, split="alphabets", cache=cache)
    assert paper.train.shape == (7, 20, 20, 20)
    assert paper.test.shape == (3, 20, 20, 20)
    assert classes(paper.train) | classes(paper.test) == classes(torch.cat(alphabets))
    assert not classes(paper.train) & classes(paper.test)
    again = omniglot.load(root, split="paper", cache=cache.with_name("other"))
    assert torch.equal(again.train, paper.train)
    assert torch.equal(again.test, paper.test)


def test_other_split_tests_classes_that_the_papers_trains_on(root: Path, cache: Path) -> None:
    paper, other = omniglot.load(root, cache=cache), omniglot.load(root, split="other", cache=cache)
    assert (len(other.train), len(other.test)) == (len(paper.train), len(paper.test))
    assert classes(other.test) < classes(paper.train)
    assert classes(other.train) == classes(torch.cat(paper)) - classes(other.test)


@pytest.mark.parametrize("layout", ["folders", "torchvision", "torchvision zips", "inside torchvision"])
def test_every_layout_gives_the_same(layout: str, root: Path, tmp_path: Path, cache: Path) -> None:
    place = tmp_path / "other"
    if layout == "folders":
        extract(root, place)
    elif layout == "torchvision zips":
        shutil.copytree(root, place / "omniglot-py")
    else:
        extract(root, place / "omniglot-py")
        (place / "omniglot-py" / "images_background" / ".DS_Store").write_bytes(b"no drawing")
    expected = omniglot.load(root, cache=cache)
    found = omniglot.load(place / "omniglot-py" if layout == "inside torchvision" else place, cache=cache)
    assert torch.equal(found.train, expected.train)
    assert torch.equal(found.test, expected.test)


def test_other_entries_are_passed_over(root: Path, cache: Path, entries: dict[str, bytes]) -> None:
    expected = omniglot.load(root, cache=cache)
    entries["__MACOSX/images_background/Alphabet_A/character01/._0000_01.png"] = b"no image"
    entries["images_background/README"] = b"hello"
    write_zip(root / "images_background.zip", entries)
    assert torch.equal(omniglot.load(root, cache=cache).train, expected.train)


def test_unknown_split(root: Path, cache: Path) -> None:
    with pytest.raises(ValueError, match="split: got 'half', need one of 'paper', 'other', 'sorted', 'alphabets'"):
        omniglot.load(root, split="half", cache=cache)


@pytest.mark.parametrize("missing", ["images_background", "images_evaluation"])
def test_missing_archive(missing: str, root: Path, cache: Path) -> None:
    (root / f"{missing}.zip").unlink()
    with pytest.raises(FileNotFoundError, match=rf"data: found neither {missing}.zip nor {missing}/"):
        omniglot.load(root, cache=cache)
    assert not cache.exists()


if REAL.is_dir():

    def test_the_real_data(cache: Path) -> None:
        paper = omniglot.load(REAL, cache=cache)
        assert paper.train.shape == (1200, 20, 20, 20)
        assert paper.test.shape == (423, 20, 20, 20)
        alphabets = omniglot.load(REAL, split="alphabets", cache=cache)
        assert alphabets.train.shape == (964, 20, 20, 20)
        assert alphabets.test.shape == (659, 20, 20, 20)
        with zipfile.ZipFile(REAL / "images_evaluation.zip") as archive:
            name = max(name for name in archive.namelist() if name.endswith(".png"))
            image = Image.open(io.BytesIO(archive.read(name))).convert("L")
        ink = 1 - torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(105, 105).float() / 255
        assert torch.equal(alphabets.test[-1, -1], (255 * average_by_repeating(ink)).round().to(torch.uint8))
        digest = hashlib.sha256(bytes(paper.test.flatten().tolist())).hexdigest()
        assert digest == "8a3920db6cfa3eaf7b0f826f168805be627c48147dc864c282c8b0ab7279beff", "the draw is for ever"
