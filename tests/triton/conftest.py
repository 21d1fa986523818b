"""The Triton backend on the CPU: only where its interpreter is on, which it is not beside a GPU (tests/gpu)."""

from __future__ import annotations

import pytest

from mannkern.backends import BACKENDS, why_not

COMPILED_NOWHERE = ("test_table.py", "test_tiling.py", "test_paths.py")  # sizes and choices alone: no kernel runs


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = why_not(BACKENDS["triton"], "lrua", "cpu")
    for item in items:
        if "tests/triton" in str(item.path):
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))
            if item.path.name not in COMPILED_NOWHERE:
                item.add_marker(pytest.mark.interpreter)
