"""The tables of docs/performance.md and README.md, from results that are written here by hand and from those beside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import table


@pytest.fixture
def documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Documents with marks and old tables."""
    monkeypatch.setattr(table, "DOCUMENTS", tmp_path)
    (tmp_path / "docs").mkdir()
    for name, marks in table.MARKS.items():
        (tmp_path / name).write_text("before\n" + "\nold\n".join(marks) + "\nafter\n")
    return tmp_path


def test_small_table_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 episodes a second are 2,000 us each; the reference takes 8 times as long; there is no torch.compile."""
    rows = [
        {"B": 16, "threads": 1, "name": "cpp", "episodes_per_second": 500.0, "ratio_to": {"cpp": 1.0}},
        {"B": 16, "threads": 1, "name": "reference", "episodes_per_second": 62.5, "ratio_to": {"cpp": 8.0}},
        {"B": 16, "threads": 1, "name": "lstm", "episodes_per_second": 666.7, "ratio_to": {"cpp": 0.75}},
        {"B": 4096, "threads": 1, "name": "cpp", "episodes_per_second": 400.0, "ratio_to": {"cpp": 1.0}},
    ]
    (tmp_path / "cpu-episode.json").write_text(json.dumps({"rows": rows}))
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    assert table.small_table().splitlines() == [
        "| B | threads | mannkern, per episode | reference | `torch.compile` | `nn.LSTM` |",
        "|---|---|---|---|---|---|",
        "| 16 | 1 | 2,000 us | 8.00 |  | 0.75 |",
    ]


def test_rate_of_products_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An episode of 1 GFLOP: 100 a second on one thread and 180 on two are 100 and 90 GFLOP/s on a core."""
    monkeypatch.setattr(table.bound, "mann_flops", lambda *_: 10**9)
    monkeypatch.setattr(table.bound, "ntm_flops", lambda *_: 10**9)
    rows = [
        {"B": 16, "threads": threads, "name": "bound", "episodes_per_second": rate}
        for threads, rate in ((1, 100.0), (2, 180.0))
    ]
    for name in ("episode", "copy"):
        (tmp_path / f"cpu-{name}.json").write_text(json.dumps({"rows": rows}))
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    assert (
        table.product_rates()
        == "In the runs of the training steps a core multiplied large matrices at 90 to 100 GFLOP/s."
    )


def test_small_table_has_five_batch_sizes_on_one_and_two_threads() -> None:
    lines = [line.split(" | ")[:2] for line in table.small_table().splitlines()[2:]]
    assert lines == [[f"| {B}", f"{threads}"] for B in (1, 16, 64, 256, 1024) for threads in (1, 2)]


def test_tables_are_written_between_the_marks(documents: Path) -> None:
    table.write()
    performance, readme = ((documents / name).read_text() for name in (table.PERFORMANCE, table.README))
    for text in (performance, readme):
        assert text.startswith("before\n")
        assert text.endswith("\nafter\n")
        assert "old" not in text
    assert table.product_rates() in performance
    assert table.OF_A_GPU in performance
    assert table.table() in performance
    assert table.curves_table() in performance
    assert table.memory_table() in performance
    assert table.small_table() in readme
    assert sorted(x.name for x in documents.rglob("*")) == ["README.md", "docs", "performance.md"]
    table.write()
    assert (documents / table.README).read_text() == readme


@pytest.mark.parametrize("name", table.MARKS)
def test_a_document_without_marks_is_named(documents: Path, name: str) -> None:
    first, last = table.MARKS[name]
    (documents / name).write_text(f"{last}\n{first}\n")
    with pytest.raises(ValueError, match=rf"{name}: need the marks <!-- .* -->, in this order"):
        table.write()
    assert (documents / name).read_text() == f"{last}\n{first}\n"


def test_table_of_a_gpu() -> None:
    named = {"triton": 2e-3, "triton, graph": 1e-3, "reference": 8e-3, "compiled": 3e-3, "bound": 5e-4}
    rows = [{"what": "step", "B": 16, "name": name, "seconds": x, "of_bound": 5e-4 / x} for name, x in named.items()]
    rows.append({"what": "step", "B": 64, "name": "reference", "seconds": 1.0, "of_bound": 0.1})  # alone: no ratio
    report = {"gpu": "some-gpu", "rows": rows}
    assert table.gpu_table(report).splitlines() == [
        "| some-gpu, measured | B | mannkern, a call | mannkern, CUDA graph | of the bound in bytes "
        "| reference | compiled |",
        "|---|---|---|---|---|---|---|",
        "| step | 16 | 2,000 us | 1,000 us | 50% | 8.00 | 3.00 |",
    ]
    assert table.gpu_table(report, "st", {"reference": "eager", "lstm": "not timed"}).splitlines() == [
        "| some-gpu, measured | B | mannkern, a call | mannkern, CUDA graph | of the bound in bytes | eager |",
        "|---|---|---|---|---|---|",
        "| step | 16 | 2,000 us | 1,000 us | 50% | 8.00 |",
    ]
    assert table.gpu_table(report, "other").splitlines() == [
        "| some-gpu, measured | B | of the bound in bytes |",
        "|---|---|---|",
    ]


def test_a_gpu_that_was_timed_is_in_both_documents(documents: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = {"triton": 2e-3, "reference": 8e-3, "compiled, graph": 3e-3, "lstm": 1e-3, "bound": 5e-4}
    rows = [
        {"what": what, "B": 16, "name": name, "seconds": x, "of_bound": 5e-4 / x}
        for what in ("training, T = 50", "step forward")
        for name, x in named.items()
    ]
    monkeypatch.setattr(table, "gpu_reports", lambda: [{"gpu": "some-gpu", "rows": rows}])
    table.write()
    performance, readme = ((documents / name).read_text() for name in (table.PERFORMANCE, table.README))
    line = "| training, T = 50 | 16 | 2,000 us | 25% | 4.00 | 1.50 | 0.50 |"
    assert line in performance
    assert line in readme
    assert "step forward" in performance
    assert "step forward" not in readme
