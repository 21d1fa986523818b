"""Skips the tests of this folder where Triton's interpreter is off: beside a GPU, tests/gpu runs the kernels there."""

from __future__ import annotations

import pytest

from mannkern.backends import BACKENDS, why_not

RULES = ("test_table.py", "test_tiling.py")  # tests of sizes and choices alone, which run no kernel


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = why_not(BACKENDS["triton"], "lrua", "cpu")
    for item in items:
        if "tests/triton" in str(item.path):
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))
            if item.path.name not in RULES:
                item.add_marker(pytest.mark.interpreter)
