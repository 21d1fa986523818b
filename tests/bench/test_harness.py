"""The harness: only contestants that agree with the reference are timed, and the rows say how long they took."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mannkern.benchmark import contestants, harness, machine, timing
from mannkern.benchmark.contestants import Contestant
from mannkern.benchmark.timing import Run
from mannkern.benchmark.workloads import EpisodeSizes, episode
from tests.bench.helpers import doubling, fails, times


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(contestants.CONTESTANTS, "doubling", [times(2.0, "reference")])


def test_rule_by_hand() -> None:
    """1.5 x beside 2 x: each number and each gradient is a quarter too small. float32 doubles exactly, so 1e-6 is
    allowed."""
    accuracy = harness.Accuracy(doubling())
    accuracy.check(times(2.0).build(doubling()))
    with pytest.raises(AssertionError) as error:
        accuracy.check(times(1.5).build(doubling()))
    assert str(error.value) == ("relative errors: y: 2.50e-01, allowed 1.00e-06; grad x: 2.50e-01, allowed 1.00e-06")


def test_float64_is_held_to_its_own_tolerance() -> None:
    accuracy = harness.Accuracy(doubling().double())
    accuracy.check(times(2 + 1e-9).build(doubling().double()))
    with pytest.raises(AssertionError, match=r"y: 1.00e-07, allowed 1.00e-08"):
        accuracy.check(times(2 + 2e-7).build(doubling().double()))
    with pytest.raises(AssertionError, match=r"y: nan, allowed 1.00e-08"):
        accuracy.check(times(float("nan")).build(doubling().double()))


def test_who_differs_or_fails_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    report = harness.Report("test", repeats=1)
    report.begin({"B": 4, "threads": 1})
    wrong_but_another_thing = times(3.0, "other")._replace(checked=False)
    entrants = [times(2.0, "right"), times(2.001, "wrong"), Contestant("broken", fails), wrong_but_another_thing]
    assert [x.name for x in report.check(doubling(), entrants)] == ["right", "other"]
    assert report.differs
    wrong, broken = report.not_timed
    assert {k: wrong[k] for k in ("B", "threads", "name")} == {"B": 4, "threads": 1, "name": "wrong"}
    assert wrong["reason"].startswith("differs from the reference: relative errors: y: 5.00e-04")
    assert broken["reason"] == "cannot run: RuntimeError: no compiler"
    assert "broken is not timed. It cannot run" in capsys.readouterr().out


def test_who_computes_in_float32_alone_is_compared_there() -> None:
    report = harness.Report("test", repeats=1)
    single = times(2.001, "single")._replace(single=True)
    assert report.check(doubling().double(), [single]) == [single]
    assert report.check(doubling(), [single]) == []
    assert report.differs


def test_who_only_fails_is_no_difference() -> None:
    report = harness.Report("test", repeats=1)
    assert report.check(doubling(), [Contestant("broken", fails)]) == []
    assert not report.differs


def test_rows_by_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Four episodes of 8 bytes at 16 bytes a second: a bound of 2 seconds."""
    monkeypatch.setattr(timing, "interleave", lambda runs, repeats: {"fast": [4.0, 4.0, 4.0], "slow": [8.0]})
    monkeypatch.setattr(timing, "copy_rate", lambda device: 16.0)
    report = harness.Report("test", repeats=3, file=tmp_path / "folder" / "test.json")
    report.begin({"B": 4, "threads": 1})
    report.time(doubling(), [times(2.0, "fast"), times(2.0, "slow")], bases=["fast"])
    fast, slow, bound = report.rows
    assert fast == {
        "B": 4,
        "threads": 1,
        "name": "fast",
        "seconds": 4.0,
        "episodes_per_second": 1.0,
        "ratio_to": {"fast": 1.0},
        "quartiles": [4.0, 4.0],
        "samples": 3,
    }
    assert slow["ratio_to"] == {"fast": 2.0}
    assert slow["quartiles"] == [8.0, 8.0]
    assert (bound["name"], bound["seconds"], bound["ratio_to"]) == ("bound", 2.0, {"fast": 0.5})
    with pytest.raises(SystemExit) as status:
        report.end()
    assert status.value.code == 0
    content = json.loads((tmp_path / "folder" / "test.json").read_text())
    assert content["rows"] == report.rows
    assert {"benchmark", "command", "date", "machine", "load_before", "versions", "commit"} <= content.keys()


@pytest.mark.parametrize(("flops", "seconds"), [(8.0, 2.0), (32.0, 4.0)])
def test_the_bound_is_the_longer_of_flops_and_bytes(
    flops: float, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four episodes at 32 FLOP/s: 1 and 4 seconds, beside the 2 seconds that their bytes take."""
    monkeypatch.setattr(timing, "product_rate", lambda: 32.0)
    monkeypatch.setattr(timing, "copy_rate", lambda device: 16.0)
    assert harness.Report("test", repeats=1)._bound(replace(doubling(), flops=flops)) == seconds


def test_a_forward_pass_keeps_nothing() -> None:
    problem = episode("mann", 2, EpisodeSizes(T=3, F=5, D=6, N=8, W=4, R=2, C=3))
    assert harness.kept_bytes(problem) == 2 * 3 * 5 * 4 * 8 * 4
    assert harness.kept_bytes(replace(problem, gradient=False)) == 0


def test_finished_configurations_are_in_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The second configuration is stopped, as by Ctrl-C: the first one is written, and marked as not all."""
    monkeypatch.setattr(timing, "interleave", lambda runs, repeats: {name: [1.0] for name in runs})
    monkeypatch.setattr(timing, "copy_rate", lambda device: 16.0)
    file = tmp_path / "test.json"
    report = harness.Report("test", repeats=1, file=file)
    report.begin({"B": 4, "threads": 1})
    report.time(doubling(), [times(2.0, "fast")], bases=["fast"])
    report.begin({"B": 4, "threads": 2})

    def stopped(runs: object, repeats: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(timing, "interleave", stopped)
    with pytest.raises(KeyboardInterrupt):
        report.time(doubling(), [times(2.0, "fast")], bases=["fast"])
    content = json.loads(file.read_text())
    assert [(row["threads"], row["name"]) for row in content["rows"]] == [(1, "fast"), (1, "bound")]
    assert content["unfinished"]
    report.write()
    assert "unfinished" not in json.loads(file.read_text())


def test_a_difference_is_the_exit_code() -> None:
    report = harness.Report("test", repeats=1)
    report.check(doubling(), [times(3.0)])
    with pytest.raises(SystemExit) as status:
        report.end()
    assert status.value.code == 1


def test_too_many_episodes_for_a_contestant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four episodes of one number: a loop keeps 80 bytes of them, and may keep 60."""
    monkeypatch.setattr(timing, "interleave", lambda runs, repeats: {name: [1.0] for name in runs})
    monkeypatch.setattr(timing, "copy_rate", lambda device: 1.0)
    monkeypatch.setattr(harness, "MOST_KEPT", 60)
    entrants = [times(2.0, "all"), times(2.0, "few")._replace(keeps_all=True)]
    report = harness.Report("test", repeats=1)
    report.time(doubling(4), entrants, bases=["all"])
    assert [row["name"] for row in report.rows] == ["all", "bound"]
    assert report.not_timed == [{"name": "few", "reason": "would keep about 0 GB"}]
    report = harness.Report("test", repeats=1)
    report.time(doubling(4), entrants, bases=["all"], smaller=doubling)
    everything, few, _ = report.rows
    assert (few["B"], few["episodes_per_second"], everything["episodes_per_second"]) == (3, 3.0, 4.0)
    assert few["ratio_to"] == {"all": 4 / 3}


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that is not there: a call takes a second for each tensor it returns, copies move 16 bytes in one."""
    monkeypatch.setattr(timing, "copy_rate", lambda device: 16.0)
    monkeypatch.setattr(timing, "gpu_seconds", lambda run, repeats: [float(len(run()))] * repeats)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)


@pytest.mark.usefixtures("on_a_gpu")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_rows_of_a_gpu(device: str) -> None:
    report = harness.Report("gpu", repeats=2, device=device)
    report.begin({"what": "doubling", "B": 4})
    report.time(doubling(), [times(2.0, "kernel"), Contestant("broken", fails)], bases=["kernel"])
    kernel, bound = report.rows
    assert (kernel["what"], kernel["B"], kernel["seconds"], kernel["of_bound"]) == ("doubling", 4, 2.0, 1.0)
    assert bound["seconds"] == 2.0
    assert [x["name"] for x in report.not_timed] == ["broken"]


@pytest.mark.usefixtures("on_a_gpu")
def test_a_compilers_error_while_timing_costs_one_contestant() -> None:
    """It is raised by the call itself. Triton's errors are no RuntimeError."""

    def compile_(problem: object) -> Run:
        raise ValueError("out of shared memory\nand more lines")

    report = harness.Report("gpu", repeats=1, device="cuda")
    report.time(doubling(), [Contestant("broken", compile_), times(2.0, "good")], bases=[])
    assert [row["name"] for row in report.rows] == ["good", "bound"]
    assert report.not_timed == [{"name": "broken", "reason": "cannot run: ValueError: out of shared memory"}]


@pytest.mark.usefixtures("on_a_gpu")
def test_nothing_begins_after_the_deadline() -> None:
    report = harness.Report("gpu", repeats=1, device="cuda", deadline=0.0)
    report.time(doubling(), [times(2.0, "late")], bases=["late"])
    assert [row["name"] for row in report.rows] == ["bound"]
    assert report.not_timed == [{"name": "late", "reason": harness.NO_TIME}]


@pytest.mark.parametrize(("load", "warns"), [(2.0, False), (3.12, True), (None, False)])
def test_a_busy_machine(
    load: float | None, warns: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "LOAD", load)
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 2)
    harness.Report("step", 1).write()
    assert ("warning: the load was 3.1 on 2 cores before this" in capsys.readouterr().err) == warns
