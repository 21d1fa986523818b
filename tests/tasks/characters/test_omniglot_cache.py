"""Omniglot is decoded once, and the cache is whole or not there."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
import torch
from torch import Tensor

from mannkern.tasks import omniglot
from tests.tasks.characters.archives import FIRST, extract, png, write_zip


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sets that were decoded, in order."""
    done: list[str] = []
    decode = omniglot._decode

    def counted(source: Path, name: str) -> Tensor:
        done.append(name)
        return decode(source, name)

    monkeypatch.setattr(omniglot, "_decode", counted)
    return done


def test_example(root: Path, cache: Path, decodings: list[str]) -> None:
    """The first of three loads decodes the two archives; the others read the cache, which is one file."""
    first = omniglot.load(root, cache=cache)
    assert len(decodings) == 2
    second = omniglot.load(str(root), cache=str(cache))
    omniglot.load(root, split="alphabets", cache=cache)
    assert len(decodings) == 2
    assert torch.equal(first.train, second.train)
    assert [path.suffix for path in cache.iterdir()] == [".pt"]


@pytest.mark.parametrize("layout", ["zip", "folder"])
def test_a_changed_source_is_decoded_anew(
    layout: str, root: Path, tmp_path: Path, cache: Path, entries: dict[str, bytes], decodings: list[str]
) -> None:
    source = root if layout == "zip" else extract(root, tmp_path / "extracted")
    before = omniglot.load(source, split="alphabets", cache=cache)
    entries[FIRST] = png(99)
    if layout == "zip":
        write_zip(root / "images_background.zip", entries)
    else:
        (source / FIRST).write_bytes(entries[FIRST])
    after = omniglot.load(source, split="alphabets", cache=cache)
    assert len(decodings) == 4
    assert not torch.equal(after.train[0, 0], before.train[0, 0])
    assert torch.equal(after.train[1:], before.train[1:])


def flip_a_pixel(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize(
    "corrupt",
    [
        flip_a_pixel,
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"hello"),
        lambda path: torch.save(torch.zeros(10, 20, 20, 20), path),
        lambda path: torch.save(torch.zeros(3, dtype=torch.uint8), path),
        lambda path: torch.save({"train": 1}, path),
        lambda path: torch.save(Path("code that weights_only refuses"), path),
    ],
    ids=["flipped", "truncated", "empty", "text", "dtype", "shape", "dict", "object"],
)
def test_a_corrupt_cache_is_replaced(
    corrupt: Callable[[Path], object], root: Path, cache: Path, decodings: list[str]
) -> None:
    first = omniglot.load(root, cache=cache)
    (path,) = cache.iterdir()
    corrupt(path)
    second = omniglot.load(root, cache=cache)
    assert len(decodings) == 4
    assert torch.equal(first.train, second.train)
    omniglot.load(root, cache=cache)
    assert len(decodings) == 4
    assert list(cache.iterdir()) == [path]


@pytest.mark.parametrize("step", ["save", "replace"])
def test_a_failed_write_leaves_nothing(step: str, root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half_written(images: Tensor, file: IO[bytes]) -> None:
        file.write(b"half")
        raise OSError("no space left")

    def interrupted(*paths: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if step == "save":
            patch.setattr(torch, "save", half_written)
        else:
            patch.setattr(os, "replace", interrupted)
        with pytest.raises((OSError, KeyboardInterrupt)):
            omniglot.load(root, cache=cache)
    assert list(cache.iterdir()) == []
    omniglot.load(root, cache=cache)


def test_default_cache_is_the_users(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    omniglot.load(root)
    assert len(list((tmp_path / "home" / "mannkern").iterdir())) == 1
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "me")
    omniglot.load(root)
    assert len(list((tmp_path / "me" / ".cache" / "mannkern").iterdir())) == 1


@pytest.mark.parametrize("place", ["file", "no home"])
def test_without_a_cache_the_images_are_decoded_each_time(
    place: str,
    root: Path,
    tmp_path: Path,
    decodings: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The user's own cache is a help, not a need: one line says that there is none. A ``cache`` given is a need."""
    first = omniglot.load(root, cache=tmp_path / "cache")
    if place == "file":
        (tmp_path / "home").write_text("no folder")
        said = f"mannkern: {tmp_path / 'home' / 'mannkern'}: cannot be written (Not a directory)"
    else:
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", no_home)
        said = "mannkern: $XDG_CACHE_HOME/mannkern: cannot be written (Could not determine home directory.)"
    for _ in range(2):
        again = omniglot.load(root)
        assert torch.equal(again.train, first.train)
        (line,) = capsys.readouterr().err.splitlines()
        assert line == f"{said}; without this cache the images are decoded each time"
    assert len(decodings) == 6
    (tmp_path / "other").write_text("no folder")
    with pytest.raises(OSError, match="other"):
        omniglot.load(root, cache=tmp_path / "other")


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_a_full_disk_is_an_error(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(images: Tensor, file: IO[bytes]) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        omniglot.load(root)
    assert list((tmp_path / "home" / "mannkern").iterdir()) == []


def test_the_source_may_be_read_only(root: Path, cache: Path) -> None:
    before = sorted(root.rglob("*"))
    for path in [*before, root]:
        path.chmod(0o555)
    omniglot.load(root, cache=cache)
    assert sorted(root.rglob("*")) == before
    root.chmod(0o755)
