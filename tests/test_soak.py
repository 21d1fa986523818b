"""A short form of each part of `make soak`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mannkern.tasks import glyphs
from tests import kills, soak


@pytest.fixture
def few_glyphs(monkeypatch: pytest.MonkeyPatch) -> None:
    split = glyphs.load(num_train=6, num_test=4)
    monkeypatch.setattr(glyphs, "load", lambda: split)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.usefixtures("few_glyphs")
@pytest.mark.parametrize("kind", ["glyphs", "sinusoids"])
def test_kills(tmp_path: Path, kind: str) -> None:
    assert kills.kills(kind, 2, tmp_path) > 3


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the ranks in /proc")
@pytest.mark.usefixtures("few_glyphs")
def test_kills_of_ranks(tmp_path: Path) -> None:
    """Three ranks, because the sum of three numbers depends on their order."""
    assert kills.rank_kills("few-shot-glyphs", 2, 3, tmp_path) > 3


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's count of pages")
def test_memory_stays_flat(tmp_path: Path) -> None:
    assert soak.growth(600, tmp_path) < 10


def test_a_long_episode() -> None:
    soak.long_episode(500)


def test_truncated_segments() -> None:
    soak.segments(20)
