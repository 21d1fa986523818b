"""Instruction counts beside measured times: of a GPU that is made up, and with the times of the one that is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import gpu, gpu_counts, table
from bench.gpu_counts import Gpu, compare

A_GPU = Gpu(90, 100, 1e9, 1e12)  # an instruction cycle of all multiprocessors is 0.01 ns; a byte takes 0.001 ns


def kernel(backend: str, name: str, issue: float, shared: float, bytes_: float) -> dict[str, Any]:
    return {"backend": backend, "kernel": name, "issue": issue, "shared": shared, "bytes": bytes_}


KERNELS = [
    kernel("triton", "step_forward", issue=1000, shared=500, bytes_=20_000),
    kernel("triton", "step_backward", issue=3000, shared=4000, bytes_=30_000),
    kernel("cuda", "lrua_step", issue=500, shared=800, bytes_=20_000),
]
ROWS = [
    {"what": "step forward", "B": 100, "name": "triton", "seconds": 1.0},
    {"what": "step forward", "B": 1000, "name": "triton", "seconds": 60e-6},
    {"what": "step forward", "B": 1000, "name": "triton, graph", "seconds": 40e-6},
    {"what": "step forward", "B": 1000, "name": "lstm", "seconds": 1e-6},
]


def test_example() -> None:
    """1,000 cycles of issue are 10 ns, 20,000 bytes are 20 ns; 40 us for 1,000 episodes are 40 ns each."""
    found = compare(KERNELS, A_GPU, ROWS)
    (row,) = (row for row in found["rows"] if (row["what"], row["name"]) == ("step forward", "triton"))
    assert row == {
        "what": "step forward", "name": "triton", "issue_ns": 10, "shared_ns": 5, "dram_ns": 20, "bound_ns": 20,
        "B": 1000, "measured_ns": pytest.approx(40),
    }  # fmt: skip


def test_kernels_of_one_call_come_one_after_the_other() -> None:
    """Forward takes 20 ns of memory, backward 40 ns of shared memory. What was not measured or counted is left out."""
    rows = compare(KERNELS, A_GPU, ROWS)["rows"]
    names = [(row["what"], row["name"]) for row in rows]
    assert names == [("step forward", "triton"), ("step forward", "cuda"), ("step with gradient", "triton")]
    assert rows[2]["bound_ns"] == 60
    assert rows[2]["measured_ns"] is None


def test_a_scan_is_divided_by_its_steps() -> None:
    kernels = [kernel("triton", name, 100, 100, 100) for name in ("scan_forward", "scan_backward")]
    rows = [{"what": "scan, T = 50", "B": 20, "name": "triton", "seconds": 1e-3}]
    (row,) = compare(kernels, A_GPU, rows)["rows"]
    assert row["measured_ns"] == pytest.approx(1000)


def test_the_table_is_drawn_where_a_report_has_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of the H200, with counts that are made up."""
    report = json.loads((table.RESULTS / "nvidia-h200.json").read_text())
    assert len(table.gpu_tables(report)) == 1 + ("counts" in report)
    report["counts"] = compare(KERNELS, A_GPU, report["rows"])
    text = table.gpu_tables(report)[1]
    assert text.splitlines()[0].endswith("| at least, by instruction count | measured | measured / at least |")
    assert "| step forward | triton | 10.0 | 5.0 | 20.0 | 20.0 | 31.6 (B = 16384) | 1.6 |" in text
    assert "| step forward | cuda | 5.0 | 8.0 | 20.0 | 20.0 |  |  |" in text


def test_tables_of_a_gpu_say_measured() -> None:
    for report in table.gpu_reports():
        assert table.small_gpu_table(report).startswith(f"| {report['gpu']}, measured |")


REPORT = {"gpu": "a GPU", "hardware": A_GPU._asdict(), "rows": ROWS, "checks": {}, "unfinished": []}


def test_a_report_gets_counts_and_prints_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the commit whose kernels were counted, which may be another than that of the times."""
    monkeypatch.setenv("COMMIT", "counted")
    monkeypatch.setattr(gpu_counts, "count", lambda arch, seconds: (KERNELS, ""))
    assert gpu.counts(REPORT, 1.0) == {"counts": compare(KERNELS, A_GPU, ROWS) | {"commit": "counted"}}
    assert "| step forward | triton | 10.0 |" in capsys.readouterr().out
    monkeypatch.setattr(gpu_counts, "count", lambda arch, seconds: ([], f"no Triton in {seconds} s"))
    assert gpu.counts(REPORT, 1e9) == {"no_counts": f"no Triton in {gpu_counts.SECONDS} s"}
    assert "no instruction counts: no Triton" in capsys.readouterr().out
    assert gpu.counts(REPORT, 0.0) == {"no_counts": "no time was left"}
    assert gpu.counts({"rows": []}, 1.0) == {"no_counts": "no bandwidth was measured"}


def test_counts_are_added_to_a_file_without_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file says so no longer that they are missing; where there are none it stays as it is."""
    file = tmp_path / "a.json"
    before = REPORT | {"no_counts": "no time was left", "not_run": ["counts: no time was left"]}
    file.write_text(json.dumps(before))
    monkeypatch.setattr(gpu_counts, "count", lambda arch, seconds: ([], "no Triton"))
    assert gpu_counts.main([str(file)]) == 1
    assert json.loads(file.read_text()) == before
    monkeypatch.setattr(gpu_counts, "count", lambda arch, seconds: (KERNELS, ""))
    assert gpu_counts.main([str(file), "--seconds", "9"]) == 0
    after = json.loads(file.read_text())
    assert after.pop("counts")["rows"] == compare(KERNELS, A_GPU, ROWS)["rows"]
    assert after == REPORT | {"not_run": []}


def test_a_file_without_a_gpus_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, text = tmp_path / "old.json", tmp_path / "text.json"
    old.write_text('{"gpu": "a GPU", "rows": []}')
    text.write_text("no JSON")
    for options, said in {
        str(old): f"file: got {old} without hardware, need one that the stage bench of bench/gpu.py wrote",
        str(text): f"file: got {text}, need a JSON of bench/gpu.py (Expecting value",
        f"{tmp_path}/none.json": f"file: got {tmp_path}/none.json, need a JSON of bench/gpu.py ([Errno 2]",
        f"{old} --seconds 0": "--seconds: got 0.0, need more than 0",
    }.items():
        with pytest.raises(SystemExit) as status:
            gpu_counts.main(options.split())
        assert status.value.code == 2
        assert said in capsys.readouterr().err


def test_counts_that_take_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nsleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setattr(gpu_counts.sys, "executable", str(slow))
    assert gpu_counts.count(90, 0.6) == ([], "the counts took more than 1 s")


def test_counts_that_fail_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_counts.sys, "executable", "false")
    assert gpu_counts.count(90) == ([], "no counts")
