"""Archives and folders made to harm: each is a ``ValueError``, and none of them takes memory or waits."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mannkern.tasks.characters import sources
from tests.tasks.characters.archives import FIRST

ROOT = Path(__file__).parents[3]
MOST_MEGABYTES = 100  # beyond what importing takes

# What is said of each source, and how far the peak of the process rises meanwhile, in kB.
READ = """
import json, resource, sys
from pathlib import Path
from mannkern.tasks.characters import sources
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
entries = lambda source: list((sources.read_folder if source.is_dir() else sources.read_zip)(source))
before, said = peak(), {}
for path in sys.argv[1:]:
    for read in (sources.checksum, entries):
        try:
            read(Path(path))
        except ValueError as error:
            said[path] = str(error)
print(json.dumps({"kB": peak() - before, "said": said}))
"""


def lying(path: Path) -> None:
    """An entry that says it has 650 bytes and inflates to 300 MB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        with archive.open(FIRST, "w") as file:
            for _ in range(300):
                file.write(bytes(1 << 20))
        entry = archive.getinfo(FIRST)
    content = bytearray(path.read_bytes())
    for at in (entry.header_offset + 22, content.rindex(b"PK\1\2") + 24):
        content[at : at + 4] = struct.pack("<I", 650)
    path.write_bytes(content)


def many_large(path: Path) -> None:
    """2,000 entries that inflate to 64 KiB each, 128 MB together."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(2000):
            archive.writestr(f"images_background/A/c/{number:05}.png", bytes(1 << 16))


def many_names(path: Path) -> None:
    """200,000 entries without content: the list of entries alone would take 100 MB."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"")
    content = path.read_bytes()
    start = content.index(b"PK\1\2")
    entry, end = content[start : start + 47], content[start + 47 :]
    directory = entry * 200_000
    path.write_bytes(content[:start] + directory + end[:12] + struct.pack("<I", len(directory)) + end[16:])


def huge(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(3 << 30)


def folder_with(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def build(path: Path) -> None:
        character = path / "Alphabet" / "character01"
        character.mkdir(parents=True)
        make(character / "0000_01.png")

    return build


HARMFUL: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "lying size": (".zip", lying, "0000_01.png: .*need an undamaged zip"),
    "many large entries": (".zip", many_large, "got more than 33554432 bytes of drawings"),
    "many names": (".zip", many_names, "list of entries: got more than 4194304 bytes"),
    "sparse zip": (".zip", huge, "got 3221225472 bytes, need at most 67108864"),
    "pipe as zip": (".zip", os.mkfifo, "got no regular file"),
    "device": ("", folder_with(lambda path: path.symlink_to("/dev/zero")), "got no regular file"),
    "pipe": ("", folder_with(os.mkfifo), "got no regular file"),
    "sparse drawing": ("", folder_with(huge), "got 3221225472 bytes, need at most 65536"),
    "folder as drawing": ("", folder_with(Path.mkdir), "got no regular file"),
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="pipes, sparse files and the unit of a peak are those of Linux")
def test_what_is_made_to_harm_is_refused_in_little_memory(tmp_path: Path) -> None:
    paths = {}
    for harm, (suffix, build, _) in HARMFUL.items():
        folder = tmp_path / harm
        folder.mkdir()
        paths[harm] = folder / f"images_background{suffix}"
        build(paths[harm])
    command = [sys.executable, "-c", READ, *map(str, paths.values())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=True)
    result = json.loads(done.stdout)
    for harm, (_, _, message) in HARMFUL.items():
        said = result["said"].get(str(paths[harm]), "nothing")
        assert re.search(message, said), f"{harm}: {said}"
    assert result["kB"] < MOST_MEGABYTES * 1000


def test_a_compression_without_bounds_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images_background.zip", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr(FIRST, bytes(1 << 10))
    with pytest.raises(ValueError, match=r"0000_01\.png: compression: got 12"):
        list(sources.read_zip(tmp_path / "images_background.zip"))


def test_entries_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MOST_ENTRIES", 3)
    with zipfile.ZipFile(tmp_path / "images_background.zip", "w") as archive:
        for number in range(4):
            archive.writestr(f"images_background/A/c/{number}.png", b"")
    (tmp_path / "folder" / "A" / "c").mkdir(parents=True)
    for name in "xy":
        (tmp_path / "folder" / "A" / "c" / f"{name}.png").touch()
    for read, source in ((sources.read_zip, "images_background.zip"), (sources.read_folder, "folder")):
        with pytest.raises(ValueError, match="got more than 3 entries"):
            list(read(tmp_path / source))
