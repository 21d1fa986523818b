"""Instruction counts beside measured times: of a GPU that is made up, and with the times of the one that is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

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


def test_the_check_of_a_gpu_counts_and_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_counts, "gpu_at_hand", lambda bandwidth: A_GPU._replace(bandwidth=bandwidth))
    monkeypatch.setattr(gpu_counts, "count", lambda arch: (KERNELS, ""))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    assert gpu.counts(1e12, ROWS) == {"counts": compare(KERNELS, A_GPU, ROWS)}
    assert "| step forward | triton | 10.0 |" in capsys.readouterr().out
    monkeypatch.setattr(gpu_counts, "count", lambda arch: ([], "no Triton"))
    assert gpu.counts(1e12, ROWS) == {"no_counts": "no Triton"}
    assert "no instruction counts: no Triton" in capsys.readouterr().out


def test_counts_that_fail_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_counts.sys, "executable", "false")
    assert gpu_counts.count(90) == ([], "no counts")
