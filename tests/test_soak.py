"""A short form of each part of `make soak`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests import soak


@pytest.mark.slow
@pytest.mark.parametrize("task", ["glyphs", "sinusoids"])
def test_kills(tmp_path: Path, task: str) -> None:
    assert soak.kills(task, 2, tmp_path) > 3


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's count of pages")
def test_memory_stays_flat(tmp_path: Path) -> None:
    assert soak.growth(600, tmp_path) < 10


def test_a_long_episode() -> None:
    soak.long_episode(500)


def test_truncated_segments() -> None:
    soak.segments(20)
