"""Archives and folders that are not Omniglot are refused, and nothing is written."""

from __future__ import annotations

import builtins
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mannkern.tasks import omniglot
from tests.tasks.characters.archives import FIRST, extract, png, write_zip


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_example(root: Path, cache: Path) -> None:
    """A second entry for the first drawing is refused, the message names it, and no cache is written."""
    with zipfile.ZipFile(root / "images_background.zip", "a") as archive:
        archive.writestr(FIRST, png(1))
    with pytest.raises(ValueError, match=r"0000_01\.png: got it twice, need"):
        omniglot.load(root, cache=cache)
    assert not cache.exists()


def replace(entry: str, content: bytes) -> Callable[[dict[str, bytes]], None]:
    def change(entries: dict[str, bytes]) -> None:
        entries[entry] = content

    return change


def drop_all_of(prefix: str) -> Callable[[dict[str, bytes]], None]:
    def change(entries: dict[str, bytes]) -> None:
        for name in [name for name in entries if name.startswith(prefix)]:
            del entries[name]

    return change


DAMAGES = {
    "parent": (replace("../evil.png", b""), r"got the entry '../evil.png', need paths inside the folder"),
    "hidden parent": (replace("images_background/../../evil.png", b""), "need paths inside the folder"),
    "absolute": (replace("/etc/evil.png", b""), "got the entry '/etc/evil.png', need paths inside the folder"),
    "drive": (replace("C:/evil.png", b""), "got the entry 'C:/evil.png', need paths inside the folder"),
    "backslash": (replace("images_background\\..\\..\\evil.png", b""), "need paths inside the folder"),
    "small image": (replace(FIRST, png(1, (28, 28))), "0000_01.png: got 28 x 28 pixels .* need a PNG of 105 x 105"),
    "grey image": (replace(FIRST, png(1, mode="L")), "0000_01.png: got 105 x 105 pixels of mode 'L'.* of 1 bit"),
    "no image": (replace(FIRST, b"hello"), "0000_01.png: got a file of another kind, need a PNG"),
    "half an image": (replace(FIRST, png(1)[:60]), "0000_01.png: .*need a PNG"),
    "huge file": (replace(FIRST, bytes(1 << 17)), "0000_01.png: got 131072 bytes"),
    "one less": (drop_all_of(FIRST), "Alphabet_A/character01: got 19 drawings, need 20"),
    "one more": (replace(FIRST.replace("01.png", "21.png"), png(1)), "character01: got 21 drawings, need 20"),
    "class less": (drop_all_of(FIRST[:-12]), "images_background.zip: got 5 characters, need 6"),
    "class more": (replace(FIRST.replace("01/", "09/"), png(1)), "got 7 characters, need 6"),
    "nothing": (drop_all_of(""), "images_background.zip: got 0 characters, need 6"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_zip(damage: str, root: Path, tmp_path: Path, cache: Path, entries: dict[str, bytes]) -> None:
    change, message = DAMAGES[damage]
    change(entries)
    write_zip(root / "images_background.zip", entries)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=message) as caught:
        omniglot.load(root, cache=cache)
    assert "images_background.zip" in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before, "nothing is written"


@pytest.mark.parametrize("damage", ["small image", "no image", "huge file", "one less", "class less"])
def test_damaged_folder(damage: str, root: Path, tmp_path: Path, cache: Path, entries: dict[str, bytes]) -> None:
    change, message = DAMAGES[damage]
    change(entries)
    write_zip(root / "images_background.zip", entries)
    with pytest.raises(ValueError, match=message.replace("images_background.zip", "images_background")):
        omniglot.load(extract(root, tmp_path / "extracted"), cache=cache)
    assert not cache.exists()


@pytest.mark.parametrize("share", [0, 0.3, 0.9, 0.9999])
def test_truncated_zip(share: float, root: Path, cache: Path) -> None:
    path = root / "images_evaluation.zip"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"images_evaluation.zip: .*need an undamaged zip archive"):
        omniglot.load(root, cache=cache)
    assert not cache.exists()


def test_a_flipped_bit_in_a_zip(root: Path, cache: Path) -> None:
    path = root / "images_background.zip"
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(FIRST)
    content = bytearray(path.read_bytes())
    content[entry.header_offset + 30 + len(FIRST) + entry.compress_size // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"images_background.zip: .*0000_01.png: .*need an undamaged zip archive"):
        omniglot.load(root, cache=cache)
    assert not cache.exists()


def test_pillow_missing(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_pillow(name: str, *rest: object) -> object:
        if name == "PIL":
            raise ImportError(name)
        return real_import(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_pillow)
    with pytest.raises(ImportError, match="pip install pillow"):
        omniglot.load(root, cache=cache)
