"""Images in the layout of mini-ImageNet: what is read, what is refused, and the episodes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from mannkern.tasks import ImageSampler, images


def write_images(root: Path, part: str, classes: int, each: int = 4, size: tuple[int, int] = (12, 8)) -> None:
    """Class c of the part is of one colour, red 20 c; image k of it has the blue 10 k."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    rows = ["filename,label"]
    for number in range(classes * each):
        c, k = number % classes, number // classes
        name = f"{part}{number}.png"
        Image.new("RGB", size, (20 * c, 0, 10 * k)).save(root / "images" / name)
        rows.append(f"{name},n{c:08}")
    (root / f"{part}.csv").write_text("\n".join(rows) + "\n")


def test_two_classes_by_hand(tmp_path: Path) -> None:
    write_images(tmp_path, "val", 2, each=3)
    first, second = images.load(tmp_path, "val", side=4)
    assert first.shape == second.shape == (3, 3, 4, 4)
    assert first.dtype == torch.uint8
    assert second[:, 0].unique().tolist() == [20]
    assert second[:, 2, 0, 0].tolist() == [0, 10, 20]


def test_a_list_as_excel_writes_it(tmp_path: Path) -> None:
    """With a mark before its first line, and lines that end as on Windows."""
    write_images(tmp_path, "val", 2, each=3)
    before = images.load(tmp_path, "val", side=4)
    file = tmp_path / "val.csv"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    for one, other in zip(images.load(tmp_path, "val", side=4), before, strict=True):
        assert torch.equal(one, other)
    for head, got in (("file,label", "file, label"), ("", "none")):
        file.write_text(head + "\na.png,x\n" * bool(head))
        with pytest.raises(ValueError, match=rf"val.csv: columns: got {got}, need filename and label"):
            images.load(tmp_path, "val", side=4)


def test_a_query_has_the_label_of_its_class_and_is_no_example(tmp_path: Path) -> None:
    write_images(tmp_path, "train", 6)
    classes = images.load(tmp_path, "train", side=2)
    sampler = ImageSampler([*classes[:5], classes[5][:3]], classes_per_episode=3, shots=2, queries=1, seed=1)
    support, labels, queries, targets = sampler.sample(40, 0)
    assert support.shape == (40, 6, 3, 2, 2)
    assert queries.shape == (40, 3, 3, 2, 2)
    colour, number = ((support[..., i, 0, 0] * 255).round() for i in (0, 2))
    asked, other = ((queries[..., i, 0, 0] * 255).round() for i in (0, 2))
    for b in range(40):
        names = dict(zip(colour[b].tolist(), labels[b].tolist(), strict=True))
        assert [names[c] for c in asked[b].tolist()] == targets[b].tolist()
        shown = set(zip(colour[b].tolist(), number[b].tolist(), strict=True))
        assert len(shown) == 6
        assert not shown & set(zip(asked[b].tolist(), other[b].tolist(), strict=True))
    assert len(colour.unique()) == 6
    again = ImageSampler([*classes[:5], classes[5][:3]], classes_per_episode=3, shots=2, queries=1, seed=1)
    again.sample(2, 0)
    assert all(torch.equal(x, y) for x, y in zip(again.sample(40, 0), (support, labels, queries, targets), strict=True))


def test_labels_and_places_tell_nothing_of_a_class() -> None:
    """Each of three classes has each label, and each place, in 200 of 600 episodes; the deviation of that is 12."""
    classes = [torch.full((2, 3, 1, 1), c, dtype=torch.uint8) for c in range(3)]
    support, labels, queries, targets = ImageSampler(classes, classes_per_episode=3, queries=1).sample(600, 0)
    for shown, names in ((support, labels), (queries, targets)):
        of = (255 * shown[:, :, 0, 0, 0]).round().long()
        for other in (names, torch.arange(3).expand(600, 3)):
            counts = (3 * of + other).flatten().bincount(minlength=9)
            assert counts.sum() == 1800
            assert 140 < counts.min() <= counts.max() < 260
    assert 50 < (labels == targets).all(1).sum() < 150, (
        "queries are shuffled for themselves: of six orders one is equal"
    )


@pytest.mark.parametrize(
    ("row", "need"),
    [
        ("../escape.png,a", "the columns filename and label"),
        ("gone.png,a", "gone.png"),
        ("text.png,a", "text.png: got a file of another kind, need an undamaged"),
    ],
)
def test_what_is_refused(tmp_path: Path, row: str, need: str) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "text.png").write_text("no image")
    (tmp_path / "escape.png").write_text("outside")
    (tmp_path / "train.csv").write_text(f"filename,label\n{row}\n")
    with pytest.raises((ValueError, OSError), match=need):
        images.load(tmp_path)
    with pytest.raises(ValueError, match="part: got 'none'"):
        images.load(tmp_path, "none")
    with pytest.raises(FileNotFoundError):
        images.load(tmp_path, "test")


def test_sizes_that_cannot_be() -> None:
    classes = [torch.zeros(3, 3, 2, 2, dtype=torch.uint8)] * 2
    with pytest.raises(ValueError, match=r"^classes_per_episode: got 3, need at most 2"):
        ImageSampler(classes, classes_per_episode=3)
    with pytest.raises(ValueError, match=r"^shots and queries: got 2 and 2, need at most 3 together"):
        ImageSampler(classes, classes_per_episode=2, shots=2, queries=2)


def test_a_list_that_names_an_image_again_and_again_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of 4 MB may name an image of a few bytes 100,000 times, which becomes 314 GB at 1024 pixels a side."""
    write_images(tmp_path, "val", 1, each=2)
    monkeypatch.setattr(images, "MOST_BYTES", 3 * 4 * 4)
    with pytest.raises(ValueError, match=r"^val.csv: got more than 48 bytes of images, need at most as many"):
        images.load(tmp_path, "val", side=4)


def test_an_image_of_too_many_pixels_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a few kB may have any number of them, which take memory when it is decoded."""
    write_images(tmp_path, "val", 1, each=2)
    monkeypatch.setattr(images, "MOST_PIXELS", 12 * 8)
    assert images.load(tmp_path, "val", side=4)[0].shape == (2, 3, 4, 4)
    monkeypatch.setattr(images, "MOST_PIXELS", 12 * 8 - 1)
    with pytest.raises(ValueError, match=r"val0.png: .*got 12 x 8 pixels, need at most 95"):
        images.load(tmp_path, "val", side=4)


def test_images_of_another_kind_are_refused() -> None:
    good = [torch.zeros(6, 3, 8, 8, dtype=torch.uint8) for _ in range(5)]
    for wrong, error, message in (
        (torch.rand(6, 3, 8, 8), TypeError, r"got torch.float32, need a tensor of torch.uint8"),
        (good[0][..., :7], ValueError, r"got shape \(6, 3, 8, 7\), need \(n, ...\) of images \(3, 8, 8\)"),
        (good[0][0], ValueError, r"got shape \(3, 8, 8\)"),
    ):
        with pytest.raises(error, match=r"^classes\[4\]: " + message):
            ImageSampler([*good[:4], wrong])
