"""The checks on a GPU, one test each."""

from __future__ import annotations

import pytest
import torch

from tests.gpu.checks import CHECKS

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]


@pytest.mark.parametrize("name", CHECKS)
def test_gpu(name: str) -> None:
    reason = CHECKS[name]()
    if reason:
        pytest.skip(reason)
