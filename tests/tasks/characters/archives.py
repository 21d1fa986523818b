"""A tiny Omniglot: six characters and four, as archives."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from PIL import Image

BACKGROUND = [f"Alphabet_{a}/character0{c}" for a in "AB" for c in (1, 2, 3)]
EVALUATION = [f"Alphabet_{a}/character0{c}" for a in "CD" for c in (1, 2)]
FIRST = "images_background/Alphabet_A/character01/0000_01.png"


def png(number: int, size: tuple[int, int] = (105, 105), mode: str = "1") -> bytes:
    """White paper with a black square whose place tells the number."""
    image = Image.new(mode, size, "white")
    image.paste("black", (number % 10 * 10, number // 10 % 10 * 10, number % 10 * 10 + 6, number // 10 % 10 * 10 + 9))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def drawings(name: str, characters: list[str]) -> dict[str, bytes]:
    """The entries of one archive; each character has its own twenty images."""
    offset = 0 if name == "images_background" else len(BACKGROUND)
    return {
        f"{name}/{character}/{c:04d}_{d:02d}.png": png(c + 20 * (d % 5))
        for c, character in enumerate(characters, offset)
        for d in range(1, 21)
    }


def write_zip(path: Path, entries: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in reversed(entries.items()):  # an archive need not be sorted
            archive.writestr(name, content)


def extract(root: Path, into: Path) -> Path:
    for name in ("images_background", "images_evaluation"):
        with zipfile.ZipFile(root / f"{name}.zip") as archive:
            archive.extractall(into)
    return into
