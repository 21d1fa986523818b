"""``make gpu-proof``: what it prints, and when it fails."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.ptx import proof
from tests.ptx import record as module
from tests.ptx.build import ROOT
from tests.ptx.table import SMALL, Row
from tests.ptx.worker import WAYS, Result

ROW = SMALL[0]
GOOD = Result([], "1e-7 of 1e-6 grad key", {"step_forward"})
BAD = Result(["race of warps in shared memory: write, read"], "", set())


class Processes:
    """Stands in for processes: every row has these results, and takes a second."""

    def __init__(self, *results: Result) -> None:
        self.results = dict(zip(WAYS, results, strict=True))

    def submit(self, _: Any, row: Row, gpu: int) -> Future[tuple[dict[str, Result], float]]:
        future: Future[tuple[dict[str, Result], float]] = Future()
        future.set_result((self.results, 1.0))
        return future


@pytest.fixture(autouse=True)
def record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where results are written."""
    monkeypatch.setattr(proof, "RECORD", tmp_path / "new" / "record.jsonl")
    return tmp_path / "new" / "record.jsonl"


def run(monkeypatch: pytest.MonkeyPatch, results: list[Result], *arguments: str) -> int:
    """Run the command without running a kernel."""

    @contextmanager
    def pool(count: int) -> Iterator[Processes]:
        yield Processes(*results)

    monkeypatch.setattr(proof, "pool", pool)
    monkeypatch.setattr(proof, "MISSING", {False: "", True: ""})
    monkeypatch.setattr(proof, "every_kernel", lambda gpu: {"step_forward", "step_backward"})
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


def test_a_run_goes_on_where_it_was_stopped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], record: Path
) -> None:
    """Results that are recorded are printed and not run again; a line that was cut off is no result."""
    assert run(monkeypatch, [GOOD] * 3, "--only", ROW.name) == 0
    capsys.readouterr()
    assert run(monkeypatch, [BAD] * 3, "--only", ROW.name) == 0
    said = capsys.readouterr().out
    count = said.count("good sm_90")
    assert f"{count} of {count} rows are in" in said
    text = record.read_text()
    record.write_text(text[:-9])
    assert run(monkeypatch, [BAD] * 3, "--only", ROW.name) == 1
    assert f"{count - 1} of {count} rows are in" in capsys.readouterr().out
    assert run(monkeypatch, [GOOD] * 3, "--only", ROW.name) == 1  # the line behind the one that was cut off is whole
    assert run(monkeypatch, [GOOD] * 3, "--only", ROW.name, "--fresh") == 0


def test_a_result_counts_for_what_was_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a kernel has changed, its rows run again."""
    assert run(monkeypatch, [GOOD] * 3, "--only", ROW.name) == 0
    monkeypatch.setattr(proof, "state", lambda row: "another")
    assert run(monkeypatch, [BAD] * 3, "--only", ROW.name) == 1


def test_what_a_row_depends_on() -> None:
    """The Triton kernels that its launcher imports, and what the CUDA files include, from the first file on."""
    scan = {path.name for path in module.imported(ROOT / "mannkern" / "triton" / "launch" / "scan.py")}
    assert {"scan.py", "step.py", "lrua.py", "block_math.py", "tiling.py", "common.py"} <= scan
    assert "product.py" not in scan
    mann = {path.name for path in module.included(ROOT / "csrc" / "cuda" / "mann.cu")}
    assert {"mann.cu", "persistent_memory.h", "row_math.h", "persistent.h", "tensors.h"} <= mann
    assert "lrua_step.h" not in mann
    assert len({module.state(row) for row in SMALL}) > 4
