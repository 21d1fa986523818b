"""What the tests of runs share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from mannkern.tasks import glyphs


@pytest.fixture(autouse=True)
def few_glyphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    split = glyphs.load(num_train=6, num_test=6)
    monkeypatch.setattr(glyphs, "load", lambda: split)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
