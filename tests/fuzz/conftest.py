"""Says at the end how many problems were drawn, and how many of them were left out and why."""

from __future__ import annotations

from collections import Counter
from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The numbers that the tests recorded, also those of the processes of pytest-xdist."""
    counts: Counter[str] = Counter()
    for report in [report for reports in terminalreporter.stats.values() for report in reports]:
        if getattr(report, "when", "") == "call" and report.nodeid.startswith("tests/fuzz/"):
            counts.update(dict(report.user_properties))
    if counts:
        numbers = [f"{reason}: {number:,}" for reason, number in counts.items() if reason != "drawn"]
        terminalreporter.write_line(f"problems drawn: {counts['drawn']:,}; left out: {', '.join(numbers) or 'none'}")
