"""Time of calls: several short calls are one sample, and no run always follows the same one."""

from __future__ import annotations

import pytest
from torch import Tensor

from mannkern.benchmark import timing


def test_samples_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a clock that only "a" (2 s) and "b" (3 s) advance: two warm-up calls each, then in turn, "b" first in round
    two."""
    now, calls = 0.0, []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now)

    def lasting(name: str, seconds: float) -> timing.Run:
        def run() -> list[Tensor]:
            nonlocal now
            now += seconds
            calls.append(name)
            return []

        return run

    found = timing.interleave({"a": lasting("a", 2.0), "b": lasting("b", 3.0)}, 2)
    assert found == {"a": [2.0, 2.0], "b": [3.0, 3.0]}
    assert calls == ["a", "a", "b", "b", "a", "b", "b", "a"]


def test_short_calls_are_timed_several_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now, count = 0.0, 0
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now)

    def run() -> list[Tensor]:
        nonlocal now, count
        now, count = now + timing.SAMPLE / 8, count + 1
        return []

    (sample,) = timing.interleave({"short": run}, 1)["short"]
    assert sample == pytest.approx(timing.SAMPLE / 8)
    assert count == 2 + 8


def test_rates_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product of 768 x 768 numbers is 2 * 768^3 FLOPs; a copy reads and writes 4 bytes a number. The best counts."""
    runs: dict[str, timing.Run] = {}

    def timed(given: dict[str, timing.Run], repeats: int) -> dict[str, list[float]]:
        runs.update(given)
        return {name: [2.0, 1.0, 4.0] for name in given}

    monkeypatch.setattr(timing, "interleave", timed)
    monkeypatch.setattr(timing.torch, "randn", lambda *sizes, device="cpu": timing.torch.ones(3, 3, device=device))
    assert timing.product_rate() == 2 * 768**3
    monkeypatch.setattr(timing.torch, "empty", lambda *sizes, device="cpu": timing.torch.zeros(3, 3, device=device))
    assert timing.copy_rate("cpu") == 2 * 9 * 4
    (copied,) = runs["copy"]()
    assert copied.tolist() == [[1, 1, 1]] * 3
