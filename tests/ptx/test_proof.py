"""``make gpu-proof``: what it prints, and when it fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.ptx import proof
from tests.ptx.table import SMALL, Row
from tests.ptx.worker import WAYS, Result

ROW = SMALL[0]
GOOD = Result([], "1e-7 of 1e-6 grad key", {"step_forward"})
BAD = Result(["race of warps in shared memory: write, read"], "", set())


class Processes:
    """Stands in for processes: every row has these results."""

    def __init__(self, *results: Result) -> None:
        self.results = dict(zip(WAYS, results, strict=True))

    def map(self, _: Any, rows: Iterable[Row], gpus: Iterable[int]) -> Iterator[dict[str, Result]]:
        return (self.results for _ in zip(rows, gpus, strict=True))


def run(monkeypatch: pytest.MonkeyPatch, results: list[Result], *arguments: str) -> int:
    """Run the command without running a kernel."""

    @contextmanager
    def pool(count: int) -> Iterator[Processes]:
        yield Processes(*results)

    monkeypatch.setattr(proof, "pool", pool)
    monkeypatch.setattr(proof, "MISSING", {False: "", True: ""})
    monkeypatch.setattr(proof, "every_kernel", lambda: {"step_forward", "step_backward"})
    return proof.main([*arguments, "--gpus", "90"])


def test_a_good_row(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, [GOOD] * 3, "--only", ROW.name) == 0
    said = capsys.readouterr().out
    assert f"good sm_90  {ROW.name}" in said
    assert "Not proved: NVIDIA's assembler" in said
    assert all(f"  - {way}\n" in said for way in WAYS)


def test_a_bad_row(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It is told in which way the row is bad."""
    assert run(monkeypatch, [GOOD, GOOD, BAD], "--only", ROW.name) == 1
    said = capsys.readouterr().out
    assert f"BAD  sm_90  {ROW.name}" in said
    assert f"{list(WAYS)[2]}: race of warps in shared memory: write, read" in said


def test_kernels_that_no_row_launches(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, [GOOD] * 3) == 1
    assert "BAD  never launched: step_backward, sm_90" in capsys.readouterr().out


def test_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was proved, so that it fails."""
    assert run(monkeypatch, [GOOD] * 3, "--only", "no such row") == 1
