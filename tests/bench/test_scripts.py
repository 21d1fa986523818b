"""The scripts of ``make bench``, at tiny sizes: their JSON has the fields of the results beside them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from bench import cell, copy_task, curves, episode, gpu_contests, memory, step
from bench.table import RESULTS
from mannkern.benchmark import contestants, harness, machine, timing

SCRIPTS = {"step": step, "copy": copy_task, "episode": episode, "cell": cell, "curves": curves}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without torch.compile and without measuring the machine."""
    of = contestants.of
    monkeypatch.setattr(
        contestants, "of", lambda *args, **named: [x for x in of(*args, **named) if x.name != "compiled"]
    )
    monkeypatch.setattr(timing, "product_rate", lambda: 1e9)
    monkeypatch.setattr(timing, "copy_rate", lambda device: 1e9)
    monkeypatch.setattr(timing, "SAMPLE", 0.0)
    monkeypatch.setattr(curves, "STEPS", (2,))
    monkeypatch.setattr(curves, "SIZES", {"N": (8,), "W": (4,), "R": (2,)})


@pytest.fixture(autouse=True)
def same_threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def fields(content: dict[str, Any]) -> dict[str, Any]:
    """Keys of a result, and those of the rows of each contestant."""
    rows = {row["name"]: list(row) for row in content["rows"] if row["name"] != "compiled"}
    return {"keys": list(content), "versions": list(content["versions"]), "rows": rows}


def test_json_by_hand(tmp_path: Path) -> None:
    """Written beside and renamed: nothing else is left in the folder."""
    machine.write(tmp_path / "new" / "x.json", {"rows": [1]})
    assert json.loads((tmp_path / "new" / "x.json").read_text()) == {"rows": [1]}
    assert len(list((tmp_path / "new").iterdir())) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_fields_are_those_of_the_results(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script: ModuleType = SCRIPTS[name]
    options = "--batch-size 2 --repeats 1" + " --threads 1" * (name != "curves")
    command = [f"bench/{name}.py", *options.split(), "--json", str(tmp_path / "x")]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as status:
        script.main()
    assert status.value.code == 0
    found = json.loads((tmp_path / "x").read_text())
    assert found["not_timed"] == []
    assert fields(found) == fields(json.loads((RESULTS / f"cpu-{name}.json").read_text()))


def test_whole_episodes_are_checked_on_each_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = []
    monkeypatch.setattr(episode, "check_whole", lambda report: checked.append(torch.get_num_threads()) or [])
    monkeypatch.setattr(episode, "check_first_steps", lambda report, B, whole: whole)
    monkeypatch.setattr(harness.Report, "time", lambda *_, **__: None)
    monkeypatch.setattr(sys, "argv", ["episode.py", "--batch-size", "2", "--threads", "2", "1"])
    with pytest.raises(SystemExit):
        episode.main()
    assert checked == [2, 1]


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
@pytest.mark.parametrize("name", [name for name, *_ in (*memory.CASES, *memory.SCANS[::2])])
def test_memory_of_each_case(name: str) -> None:
    recorded = json.loads((RESULTS / "cpu-memory.json").read_text())["rows"]
    assert name in {row["name"] for row in recorded}
    memory.task(name, 2, 2)()


@pytest.mark.slow
def test_rehearsal_of_the_gpu_check(tmp_path: Path) -> None:
    saved = []
    report = harness.Report("gpu", repeats=1)
    good = {}
    for name in gpu_contests.contests(tiny=True):
        good[name], not_timed, differs = gpu_contests.check(name, "cpu", tiny=True)
        assert not differs
        assert not_timed == []
    gpu_contests.run(report, lambda: saved.append(len(report.rows)), good, tiny=True)
    assert report.not_timed == []
    whats = list(dict.fromkeys(row["what"] for row in report.rows))
    assert whats == [
        "training, T = 3", "step with gradient", "step forward", "scan, T = 3", "copy task, T = 41",
        "ntm with gradient", "ntm forward",
    ]  # fmt: skip
    assert saved == sorted(saved)
    assert saved[-1] == len(report.rows)
