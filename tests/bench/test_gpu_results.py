"""The file of a GPU after a second call of the GPU check, which measured only a part."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import gpu, gpu_contests, gpu_jobs
from bench.gpu_results import merged
from mannkern.benchmark import contestants, harness, timing
from mannkern.benchmark.contestants import Contestant


def row(what: str, name: str, seconds: float, B: int = 16) -> dict[str, Any]:
    return {"what": what, "B": B, "name": name, "seconds": seconds}


BEFORE: dict[str, Any] = {
    "commit": "old",
    "date": "2026-01-01",
    "note": "by hand",
    "checks": {"split_batch": "holds", "modules": "holds"},
    "verify": [{"backend": "triton", "good": True}],
    "rows": [row("step", "triton", 1.0), row("scan", "triton", 2.0), row("scan", "lstm", 3.0)],
    "not_timed": [{"what": "scan", "B": 16, "name": "reference", "reason": "has no time left"}],
    "crashed": ["checks modules: KeyError: x", "bench copy: KeyError: y"],
    "unfinished": ["checks split_batch", "verify triton usage float32: 3 of 5 checks", "bench copy"],
    "differs": ["copy"],
}
NOW: dict[str, Any] = {
    "commit": "new",
    "date": "2026-02-02",
    "checks": {"modules": "AssertionError", "split_batch": "not run: no time was left"},
    "verify": [],
    "crashed": [],
    "unfinished": ["checks split_batch"],
    "differs": [],
}


def test_example() -> None:
    """Two checks ran again, and one came to its end; the rest stays, with its own commit."""
    both = merged(BEFORE, NOW, {"checks modules", "bench copy"})
    assert (both["commit"], both["date"]) == ("new", "2026-02-02")
    assert both["checks"] == {"split_batch": "holds", "modules": "AssertionError"}
    assert both["verify"] == BEFORE["verify"]
    assert both["rows"] == [{"commit": "old", **x} for x in BEFORE["rows"]]
    assert both["crashed"] == []
    assert both["unfinished"] == ["verify triton usage float32: 3 of 5 checks", "checks split_batch"]
    assert both["differs"] == []
    assert both["earlier"] == {"verify": "old", "checks split_batch": "old"}
    assert both["sources"] == {"old": {"date": "2026-01-01", "note": "by hand"}}


def test_what_did_not_come_to_its_end_still_counts() -> None:
    """What was wrong with a job stays so until it is run to its end; what is wrong again is named once."""
    again = {"crashed": ["bench copy: KeyError: z"], "differs": ["copy"]}
    both = merged(BEFORE, NOW | again, set())
    assert both["crashed"] == ["checks modules: KeyError: x", "bench copy: KeyError: z"]
    assert both["differs"] == ["copy"]
    assert both["unfinished"] == [*BEFORE["unfinished"][1:], "checks split_batch"]


def test_counts_replace_the_reason_why_there_were_none() -> None:
    both = merged(BEFORE | {"no_counts": "no time was left"}, NOW | {"counts": {"rows": []}}, ())
    assert "no_counts" not in both
    assert merged(BEFORE | {"no_counts": "no time was left"}, NOW, ())["no_counts"] == "no time was left"


def test_a_configuration_that_is_timed_again_is_replaced_as_a_whole() -> None:
    """Step and scan were begun again: of the step there is only the bound, since the time was over."""
    rows = [row("scan", "triton", 1.5), row("scan", "bound", 0.5), row("step", "bound", 0.1)]
    left = {"what": "step", "B": 16, "name": "triton", "reason": "has no time left"}
    both = merged(BEFORE, NOW | {"rows": rows, "not_timed": [left]}, ())
    assert both["rows"] == [{"commit": "old", **BEFORE["rows"][0]}, *rows[:2]]
    assert both["not_timed"] == [left]


def test_a_third_call_leaves_the_first_ones_commit() -> None:
    third = merged(merged(BEFORE, NOW, ()), NOW | {"commit": "newest", "checks": {"modules": "holds"}}, ())
    assert third["earlier"] == {"verify": "old", "checks split_batch": "old"}
    assert {x["commit"] for x in third["rows"]} == {"old"}
    assert list(third["sources"]) == ["old"]


def test_the_first_call_is_as_it_is() -> None:
    assert merged({}, NOW, ()) == NOW


def test_checks_alone_keep_the_rows_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rehearsal.json"
    file.write_text(json.dumps({"benchmark": "gpu", **BEFORE, "crashed": [], "unfinished": [], "differs": []}))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu_jobs, "run", lambda jobs, deadline: [])
    monkeypatch.setattr(gpu, "_triton_version", lambda: "none")
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--tiny", "--only", "checks", "--out", str(tmp_path)])
    assert gpu.main() == 0
    content = json.loads(file.read_text())
    assert content["rows"] == [{"commit": "old", **x} for x in BEFORE["rows"]]
    assert content["checks"] == BEFORE["checks"]
    assert content["failed"] == []


def test_options_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(gpu_contests.contests()) == list(gpu.CONTESTS)
    (tmp_path / "file").touch()
    for options, said in {
        "--contests nonsense": "invalid choice: 'nonsense'",
        "--repeats 0": "--repeats: got 0, need at least 1",
        f"--out {tmp_path}/file": f"--out: got {tmp_path}/file, need a folder",
    }.items():
        with pytest.raises(SystemExit) as status:
            gpu.arguments(options.split())
        assert status.value.code == 2
        assert said in capsys.readouterr().err


def test_only_the_chosen_contests_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody of the scan is right, and the other contests are not chosen."""
    monkeypatch.setattr(timing, "interleave", lambda runs, repeats: {name: [1.0] for name in runs})
    monkeypatch.setattr(timing, "copy_rate", lambda device: 1e9)
    stub = [Contestant("cpp", lambda problem: lambda: [])]
    monkeypatch.setattr(contestants, "of", lambda workload, device, names: stub)
    report = harness.Report("gpu", repeats=1)
    gpu_contests.run(report, lambda: None, {"ntm": ["cpp"], "scan": []}, tiny=True)
    assert list(dict.fromkeys(x["what"] for x in report.rows)) == ["ntm with gradient", "ntm forward"]


def test_nobody_to_time() -> None:
    assert timing.interleave({}, 2) == {}
