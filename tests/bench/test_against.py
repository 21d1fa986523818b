"""Two commits in turn: who is wrong is not timed, and the ratio is that of the other commit to the files here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mannkern.benchmark import against, turn
from mannkern.benchmark.workloads import EpisodeSizes
from mannkern.commands import bench

SIDES = {"then": Path("then"), "here": Path("here")}
SIZES = EpisodeSizes(T=3, F=5, D=6, N=8, W=4, R=2, C=3)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sides that are timed, in order. The other commit takes 6, 8 and 3 seconds, the files here 2, 2 and 3."""
    names: list[str] = []

    class Side:
        good = True
        norms = (1.0, 2.0)

        def __init__(self, name: str, tree: Path, request: dict[str, Any]) -> None:
            self.name, self.seconds = name, iter([6.0, 8.0, 3.0] if name == "then" else [2.0, 2.0, 3.0])

        def __enter__(self) -> Side:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def answer(self) -> dict[str, Any]:
            return {"good": self.good or self.name == "here", "error": 0.5, "norms": self.norms}

        def time(self) -> float:
            names.append(self.name)
            return next(self.seconds)

    monkeypatch.setattr(against, "_Side", Side)
    return names


def test_the_ratio_by_hand(called: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The other commit takes 3, 4 and 1 times as long, in the median 3; the order is reversed in each round."""
    row = against._in_turn(SIDES, {}, 3)
    assert called == ["then", "here", "here", "then", "then", "here"]
    assert row["ratio"] == 3.0
    assert row["seconds"] == {"then": 6.0, "here": 2.0}
    assert row["same_results"]
    bench._show_against(row | {"B": 2, "threads": 1}, against.Settings("mann", SIZES, "cpu", None, True), 3)
    said = capsys.readouterr().out
    assert [line.split()[-1] for line in said.splitlines() if line.startswith(("then", "here"))] == ["3.00", "1.00"]
    assert "the median of 3 rounds: 3.000 times the time of the files here" in said


def test_who_is_wrong_is_not_timed(called: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(against._Side, "good", False)
    row = against._in_turn(SIDES, {}, 3)
    assert row == {"errors": {"then": 0.5, "here": 0.5}, "wrong": ["then"]}
    assert called == []


@pytest.mark.parametrize(("part", "same"), [(1e-7, True), (1e-5, False)])
@pytest.mark.usefixtures("called")
def test_other_numbers_are_told(part: float, same: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(against._Side, "norms", property(lambda side: (1.0, 2 + 2 * part * (side.name == "here"))))
    assert against._in_turn(SIDES, {}, 1)["same_results"] == same


@pytest.mark.parametrize(("part", "good"), [(1e-9, True), (1e-7, False), (float("nan"), False)])
def test_a_side_checks_itself(part: float, good: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its backend against its own reference, in float64: here the second result is harmed."""
    asked = []

    def step(settings: dict[str, Any], B: int, T: int, dtype: torch.dtype, backend: str) -> Callable[[], list[Tensor]]:
        asked.append((B, T, dtype, backend))
        exact = torch.tensor([3.0, 4.0], dtype=dtype)
        return lambda: [exact, exact * (1 + part) if backend == "cpp" else exact]

    monkeypatch.setattr(turn, "step", step)
    checked = turn.check({"sizes": SIZES._asdict(), "backend": "cpp"})
    assert asked == [(2, 3, torch.float64, "cpp"), (2, 3, torch.float64, "reference")]
    assert (checked["good"], checked["norms"]) == (good, [5.0, 5.0])
