"""Images of a user's own: folders, formats, sizes, the cache, the split, and what is refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from mannkern.tasks import image_folder
from mannkern.tasks.characters.episodes import EpisodeSampler
from mannkern.tasks.characters.few_shot import FewShotSampler
from mannkern.tasks.characters.image_set import ImageSet
from mannkern.tasks.image_folder import image_files, load, natural_shape, read_images


def write(path: Path, colour: object = 255, size: tuple[int, int] = (8, 6), mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)  # type: ignore[arg-type]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five classes, of 3 to 7 images; the grey of an image tells its class, in tens, and its place."""
    for c in range(5):
        for i in range(3 + c):
            write(tmp_path / "data" / f"class{c}" / f"{i}.png", 30 * c + i)
    return tmp_path / "data"


def test_each_part_has_at_least_one_class() -> None:
    """Of three classes, whatever share is held out."""
    for share, number in ((0.01, 1), (0.3, 1), (0.6, 2), (0.99, 2)):
        assert len(image_folder.tested_names("data", ["a", "b", "c"], share, None)) == number


def test_five_classes_by_hand(root: Path, tmp_path: Path) -> None:
    """A fifth of five classes is one; both parts together have every image once, by class and name."""
    split = load(root, (6, 8), cache=tmp_path / "cache")
    assert (len(split.train_names), len(split.test_names)) == (4, 1)
    assert sorted(split.train_names + split.test_names) == [f"class{c}" for c in range(5)]
    for images, names in ((split.train, split.train_names), (split.test, split.test_names)):
        assert images.counts.tolist() == [3 + int(name[-1]) for name in names]
        expected = [30 * int(name[-1]) + i for name in names for i in range(3 + int(name[-1]))]
        assert images.pixels[:, 0, 0].tolist() == expected
        assert images.pixels.shape[1:] == (6, 8)


def test_they_are_decoded_once_and_anew_after_a_change(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    first = load(root, (6, 8), cache=cache)
    (file,) = cache.iterdir()
    decode = image_folder.read_images
    monkeypatch.setattr(image_folder, "read_images", None)
    assert torch.equal(load(root, (6, 8), cache=cache).train.pixels, first.train.pixels)
    monkeypatch.setattr(image_folder, "read_images", decode)
    file.write_bytes(file.read_bytes()[:-30])
    assert torch.equal(load(root, (6, 8), cache=cache).train.pixels, first.train.pixels)
    write(root / "class0" / "0.png", 9)
    load(root, (6, 8), cache=cache)
    load(root, (6, 8), cache=cache, invert=True)
    assert len(list(cache.iterdir())) == 3


def test_without_a_cache_they_are_decoded_each_time(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("no folder")
    first = load(root, (6, 8), cache=tmp_path / "cache")
    assert torch.equal(load(root, (6, 8)).train.pixels, first.train.pixels)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"mannkern: {tmp_path / 'file' / 'mannkern'}: cannot be written (Not a directory)")


def test_a_folder_with_train_and_test_is_split_already(tmp_path: Path) -> None:
    for part, classes in (("train", "ab"), ("test", "cd")):
        for name in classes:
            write(tmp_path / "data" / part / name / "1.png", ord(name))
    split = load(tmp_path / "data", (6, 8), cache=tmp_path / "cache", held_out=0.9)
    assert (split.train_names, split.test_names) == (["a", "b"], ["c", "d"])
    assert split.test.pixels[:, 0, 0].tolist() == [ord("c"), ord("d")]


def test_a_class_in_both_train_and_test_is_refused(tmp_path: Path) -> None:
    for part, classes in (("train", "ab"), ("test", "bc")):
        for name in classes:
            write(tmp_path / "data" / part / name / "1.png")
    with pytest.raises(ValueError, match="got the class 'b' in both train and test, need it in one, because a model"):
        load(tmp_path / "data", (6, 8), cache=tmp_path / "cache")


def test_named_classes_are_for_testing_whatever_else_is_there(root: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    names = load(root, (6, 8), cache=cache, held_out=0.4).test_names
    write(root / "a_new_class" / "1.png")
    split = load(root, (6, 8), cache=cache, held_out=0.4, test_names=names)
    assert split.test_names == names != load(root, (6, 8), cache=cache, held_out=0.4).test_names
    assert sorted(split.train_names + names) == ["a_new_class", *(f"class{c}" for c in range(5))]
    for wrong, message in ((["class9"], "got no class 'class9', need it"), (sorted({*names, *split.train_names}), "6")):
        with pytest.raises(ValueError, match=message):
            load(root, (6, 8), cache=cache, test_names=wrong)


def test_formats_colours_and_sizes(tmp_path: Path) -> None:
    """Grey stays grey, colour becomes three planes; transparent is white; a camera's turn is undone."""
    for name, mode, colour in (
        ("1.png", "1", 1),
        ("2.jpg", "RGB", (0, 0, 255)),
        ("3.bmp", "L", 200),
        ("4.png", "RGBA", (9, 9, 9, 0)),
        ("5.webp", "RGB", (255, 0, 0)),
        ("6.pgm", "L", 7),
        ("7.png", "P", 0),
    ):
        write(tmp_path / name, colour, mode=mode)
    turned = Image.new("L", (8, 4))
    turned.putpixel((0, 0), 255)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    turned.save(tmp_path / "8.png", exif=exif)
    paths = sorted(tmp_path.iterdir())
    grey = read_images(paths, (2, 3))
    assert grey.shape == (8, 2, 3)
    assert grey[[0, 2, 3, 5], 0, 0].tolist() == [255, 200, 255, 7]
    colours = read_images(paths, (3, 2, 3))
    assert colours.shape == (8, 3, 2, 3)
    assert colours[1, 2].float().mean() > 250 > 5 > colours[1, 0].float().mean()
    assert torch.equal(read_images(paths, (2, 3), invert=True), 255 - grey)
    upright = read_images(paths[7:], (8, 4))[0]
    assert int(upright.argmax()) == 3, "the first corner is now at the right"


def test_the_natural_shape(tmp_path: Path) -> None:
    for name, sizes, mode, expected in (
        ("small", [(8, 6)], "L", (6, 8)),
        ("large", [(64, 48)], "RGB", (3, 24, 32)),
        ("several", [(8, 6), (6, 8)], "L", (32, 32)),
    ):
        for place, size in enumerate(sizes * 2):
            write(tmp_path / name / f"class{place}" / "1.png", size=size, mode=mode, colour=0)
        assert natural_shape(tmp_path / name) == expected


def test_the_natural_shape_of_turned_photos_and_of_palettes(tmp_path: Path) -> None:
    """A camera stores a portrait lying down, and says so; a palette may be of greys alone."""
    exif = Image.Exif()
    exif[image_folder.ORIENTATION] = 6
    for place in range(2):
        folder = tmp_path / "turned" / f"class{place}"
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 6)).save(folder / "1.jpg", exif=exif)
    assert natural_shape(tmp_path / "turned") == (3, 8, 6)
    for name, palette, expected in (("grey", [0, 0, 0, 9, 9, 9], (6, 8)), ("red", [0, 0, 0, 9, 0, 0], (3, 6, 8))):
        for place in range(2):
            folder = tmp_path / name / f"class{place}"
            folder.mkdir(parents=True)
            image = Image.new("P", (8, 6), 1)
            image.putpalette(palette)
            image.save(folder / "1.png")
        assert natural_shape(tmp_path / name) == expected


def test_samplers_take_classes_of_any_size_and_shape() -> None:
    """Three rectangular classes of 2, 3 and 9 images whose first pixel is the class and second the place."""
    counts = torch.tensor([2, 3, 9])
    pixels = torch.zeros(14, 3, 4, 5, dtype=torch.uint8)
    pixels[:, 0, 0, 0] = torch.arange(3).repeat_interleave(counts) + 1
    pixels[:, 0, 0, 1] = torch.cat([torch.arange(int(n)) for n in counts])
    images = ImageSet(pixels, counts)
    sampler = EpisodeSampler(images, classes_per_episode=3, length=6)
    episodes = sampler.sample(200, 0)
    assert episodes.inputs.shape == (6, 200, 60 + 3) == (6, 200, sampler.input_size)
    code = (episodes.inputs[..., :2] * 255).round().long()
    seen = {(int(c), int(i)) for c, i in code.flatten(0, 1)}
    assert seen == {(c + 1, i) for c in range(3) for i in range(int(counts[c]))}, "every image comes up"
    for episode in code.transpose(0, 1):
        assert len({tuple(x) for x in episode.tolist()}) == 6, "and none twice"
    assert torch.equal(sampler.sample(200, 0).inputs, episodes.inputs)
    few = FewShotSampler(images, classes_per_episode=2, shots=1, queries=1, augment=True).sample(5, 0)
    assert few.support.shape == few.queries.shape == (5, 2, 3, 4, 5)
    with pytest.raises(ValueError, match=r"^length: got 9, need at most 6, for a class has 2 drawings$"):
        EpisodeSampler(images, classes_per_episode=3, length=9)
    with pytest.raises(ValueError, match=r"^rotate_classes: got images of 4 x 5 pixels, need squares$"):
        EpisodeSampler(images, classes_per_episode=3, length=6, rotate_classes=True)
    with pytest.raises(ValueError, match=r"^images: got shape \(14, 3, 4, 5\) for 5 images of 2 classes"):
        EpisodeSampler(ImageSet(pixels, counts[:2]), classes_per_episode=2, length=2)


def test_quarter_turns_of_squares_are_classes() -> None:
    pixels = torch.zeros(5, 6, 6, dtype=torch.uint8)
    pixels[:, 0, 0] = torch.tensor([10, 11, 20, 21, 22])
    sampler = EpisodeSampler(
        ImageSet(pixels, torch.tensor([2, 3])), classes_per_episode=8, length=16, rotate_classes=True
    )
    x = (sampler.sample(3, 0).inputs[..., :36] * 255).round().long()
    corner, value = x.argmax(-1), x.amax(-1)
    assert set(corner.flatten().tolist()) == {0, 5, 30, 35}
    for episode in range(3):
        classes = {(int(c), int(v) // 10) for c, v in zip(corner[:, episode], value[:, episode], strict=True)}
        assert len(classes) == 8


def test_what_is_no_folder_of_images_is_refused(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        load(tmp_path / "none", (6, 8))
    (root / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: got no images, need at least one of .png"):
        image_files(root)
    (root / "empty").rmdir()
    for name, content in (("broken.png", b"\x89PNG nothing"), ("text.jpg", b"text")):
        path = root / "class0" / name
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}: .*; need an image with 8 bits a channel"):
            load(root, (6, 8), cache=tmp_path / "cache")
        path.unlink()
    write(root / "class0" / "deep.png", 7, mode="I;16")
    with pytest.raises(ValueError, match="got 8 x 6 pixels of mode 'I;16'; need an image with 8 bits"):
        load(root, (6, 8), cache=tmp_path / "cache")
    (root / "class0" / "deep.png").unlink()
    monkeypatch.setattr(image_folder, "MOST_PIXELS", 40)
    with pytest.raises(ValueError, match="need an image with 8 bits a channel and at most 40 pixels"):
        load(root, (6, 8), cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists(), "a failed call leaves nothing"
    monkeypatch.setattr(image_folder, "MOST_FILE_BYTES", 10)
    with pytest.raises(ValueError, match="got more than 10 bytes"):
        load(root, (6, 8), cache=tmp_path / "cache")
    monkeypatch.setattr(image_folder, "MOST_ENTRIES", 4)
    with pytest.raises(ValueError, match="got more than 4"):
        image_files(root)


def test_files_of_other_kinds_are_counted_too(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All names of a class are read before they are sorted."""
    for number in range(30):
        (root / "class0" / f"{number}.txt").touch()
    monkeypatch.setattr(image_folder, "MOST_ENTRIES", 30)
    with pytest.raises(ValueError, match="class0: got more than 30 entries"):
        image_files(root)


def test_a_pipe_among_the_images_is_refused(root: Path, tmp_path: Path) -> None:
    os.mkfifo(root / "class0" / "pipe.png")
    with pytest.raises(ValueError, match="got no regular file"):
        load(root, (6, 8), cache=tmp_path / "cache")


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")
def test_names_that_are_no_text(root: Path, tmp_path: Path) -> None:
    """Linux takes any bytes as a name."""
    os.rename(root / "class0", os.fsencode(root) + b"/class\xff\n0")
    names = load(root, (6, 8), cache=tmp_path / "cache")
    assert "class\udcff\n0" in names.train_names + names.test_names


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    """By its path alone: Pillow's own message names an object in memory."""
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"text\.png: content: got another file, need PNG or [A-Z ]+ or ") as caught:
        image_folder.read_images([tmp_path / "text.png"], (8, 8))
    assert "object at 0x" not in str(caught.value)
