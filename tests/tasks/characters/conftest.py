"""Fixtures of the tests of Omniglot."""

from __future__ import annotations

from pathlib import Path

import pytest

from mannkern.tasks import omniglot
from tests.tasks.characters.archives import BACKGROUND, EVALUATION, drawings, write_zip


@pytest.fixture
def entries() -> dict[str, bytes]:
    return drawings("images_background", BACKGROUND)


@pytest.fixture
def root(tmp_path: Path, entries: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny data set, which is taken for the whole; the user's own cache stays out of it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(omniglot, "CLASSES", {"images_background": 6, "images_evaluation": 4})
    monkeypatch.setattr(omniglot, "PAPER_TRAIN_CLASSES", 7)
    folder = tmp_path / "data"
    folder.mkdir()
    write_zip(folder / "images_background.zip", entries)
    write_zip(folder / "images_evaluation.zip", drawings("images_evaluation", EVALUATION))
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"
