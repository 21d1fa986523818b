"""Skips the tests of this folder where Triton's interpreter is off: beside a GPU, tests/gpu runs the kernels there."""

from __future__ import annotations

import pytest

from mannkern.backends import unavailable


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = unavailable("triton", "cpu")
    for item in items:
        if reason and "tests/triton" in str(item.path):
            item.add_marker(pytest.mark.skip(reason=reason))
