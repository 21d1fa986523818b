"""What every test of the command line has: few glyphs, small pictures, and torch's number of threads as it was."""

from collections.abc import Iterator

import matplotlib
import pytest
import torch

from mannkern.tasks import glyphs


@pytest.fixture(autouse=True)
def few_glyphs(monkeypatch: pytest.MonkeyPatch) -> None:
    split = glyphs.load(num_train=6, num_test=4)
    monkeypatch.setattr(glyphs, "load", lambda: split)


@pytest.fixture(autouse=True)
def few_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests ask whether pictures are drawn; those of tests/experiments draw them in full."""
    monkeypatch.setitem(matplotlib.rcParams, "savefig.dpi", 30)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
