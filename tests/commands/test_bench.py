"""``python -m mannkern bench``: it times what agrees with the reference, at any sizes, and refuses the rest."""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from mannkern.benchmark import against, contest, contestants, harness, machine, timing
from mannkern.benchmark.problems import Problem
from mannkern.benchmark.workloads import EpisodeSizes
from mannkern.commands import bench
from tests.commands.calls import refused, run

SIZES = (
    "--length 3 --input-size 5 --hidden-size 6 --memory-slots 8 --memory-width 4 --num-reads 2 --classes 3 --threads 1 "
    "--repeats 2"
)
WITHOUT_COMPILER = ["mannkern (cpp)", "eager reference", "eager, products", "nn.LSTM", "bound"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without torch.compile and without measuring the machine."""
    every = contestants.every
    monkeypatch.setattr(contestants, "every", lambda name: [x for x in every(name) if x.name != "compiled"])
    monkeypatch.setattr(timing, "product_rate", lambda: 1e9)
    monkeypatch.setattr(timing, "copy_rate", lambda device: 1e9)
    monkeypatch.setattr(timing, "SAMPLE", 0.0)


def arguments(*parts: object) -> argparse.Namespace:
    """The options of a command line of ``bench``."""
    parser = argparse.ArgumentParser()
    bench.add_bench(parser.add_subparsers())
    return parser.parse_args(["bench", *" ".join(map(str, parts)).split()])


def test_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table, a JSON file and a picture of four contestants and the bound at two batch sizes."""
    files = tmp_path / "new" / "bench.json", tmp_path / "new" / "bench.png"
    assert run("bench", SIZES, "--batch-size 2 4 --json", files[0], "--plot", files[1]) == 0
    lines = capsys.readouterr().out.splitlines()
    begin = lines.index("mann, training step on cpu, 1 thread: B = 4, T = 3, F = 5, D = 6, N = 8, W = 4, R = 2")
    assert lines[begin + 1].endswith("  of the bound")
    assert [line[:16].strip() for line in lines[begin + 2 : begin + 7]] == WITHOUT_COMPILER
    content = json.loads(files[0].read_text())
    assert content["not_timed"] == []
    assert len(content["rows"]) == 10
    ours = content["rows"][5]
    assert (ours["name"], ours["B"], ours["N"], ours["ratio_to"]) == ("cpp", 4, 8, {"cpp": 1.0})
    with Image.open(files[1]) as picture:
        assert len(picture.convert("L").getcolors(256) or ()) > 10, "something is drawn"


@pytest.mark.parametrize(("share", "said"), [(0.5, "a thread gets 50% of a processor"), (0.9, "")])
def test_a_busy_machine_is_told(
    share: float, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 0 < machine.processor_share(0.01) < 1.1
    monkeypatch.setattr(bench, "processor_share", lambda: share)
    assert run("bench", SIZES, "--batch-size 2 --backend cpp --forward") == 0
    told = capsys.readouterr().err
    assert said in told
    assert ("busy" in told) == bool(said)


@pytest.mark.parametrize("option", ["--model ntm", "--forward", "--backend reference", "--plot"])
def test_options(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bars.svg"
    assert run("bench --batch-size 2", SIZES, option, file if option == "--plot" else "") == 0
    said = capsys.readouterr().out
    assert ("mannkern (cpp)" in said) == (option != "--backend reference")
    assert ("forward pass" in said) == (option == "--forward")
    assert file.exists() == (option == "--plot")


def test_who_differs_is_not_timed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    build = contestants.ways.module

    def slightly_wrong(backend: str) -> object:
        def wrong(problem: object) -> object:
            run = build(backend)(problem)

            def call() -> list[Tensor]:
                output, *gradients = run()
                return [output * (1 + 1e-3), *gradients]

            return call

        return wrong

    entrants = [x._replace(build=slightly_wrong("cpp")) if x.name == "cpp" else x for x in contestants.every("mann")]
    monkeypatch.setattr(contestants, "every", lambda name: entrants)
    assert run("bench --batch-size 2", SIZES) == 1
    said = capsys.readouterr().out
    assert "cpp is not timed. It differs from the reference: relative errors: outputs: 1.00e-03" in said
    assert "time / eager reference" in said
    assert "mannkern (cpp)" not in said


def test_loops_that_keep_too_much_take_fewer_episodes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three steps of 8 x 4 numbers: five copies are 1,920 bytes an episode."""
    monkeypatch.setattr(harness, "MOST_KEPT", 2 * 1920)
    assert run("bench --batch-size 5", SIZES) == 0
    names = [line.split("   ")[0] for line in capsys.readouterr().out.splitlines()]
    assert {"eager reference, B = 2", "eager, products, B = 2", "mannkern (cpp)", "nn.LSTM"} <= set(names)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--memory-slots 0", "--memory-slots: got 0, need at least 1"),
        ("--batch-size 4 0", "--batch-size: got 0, need at least 1"),
        ("--threads 0", "--threads: got 0, need at least 1"),
        ("--model lstm", "--model: got lstm, need one of mann, ntm"),
        ("--device nonsense", "--device nonsense: "),
        ("--backend nonsense", "--backend: got 'nonsense', need 'auto' or one of "),
        ("--backend triton --model ntm", "backend 'triton' has no kernels for 'ntm'"),
        ("--batch-size 1000000000", "lower --batch-size, --length, --input-size, --hidden-size, "),
        ("--plot picture.doc", "--plot: got picture.doc, need a name that ends in .png, .svg or .pdf"),
        ("--plot /dev/null/picture.png", "--plot: got /dev/null/picture.png, need a file in a folder"),
        ("--json /dev/null/new/times.json", "--json: got /dev/null/new/times.json, need a file in a folder"),
        ("--json tests", "--json: got tests, need a regular file"),
        (f"--threads {10**5}", "--threads: got 100000, need at most 1024"),
        (f"--hidden-size {10**5}", "lower --batch-size, --length, --input-size, --hidden-size, "),
        (f"--classes {10**9}", "GB are available"),
        ("--device meta", "--device meta: holds no numbers"),
        (
            "--against HEAD --plot x.png",
            "--plot: got x.png with --against, which draws no picture, need one of the two",
        ),
        ("--against no-such-commit", "--against: got no-such-commit, need a commit of "),
    ],
)
def test_what_cannot_be_timed_is_refused(options: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in refused(capsys, "bench", options)


def test_against_needs_a_clone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    assert "is no clone of mannkern's repository" in refused(capsys, "bench --against HEAD")
    assert machine.surroundings()["commit"] == "unknown"


def test_what_a_benchmark_writes_is_no_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit of a result says "with changes" where code differs from it, not where a page or a result does."""
    for folder in ("docs", "bench/results", "mannkern"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file").write_text("as committed")
    (tmp_path / "setup.py").write_text("")
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    name = ("-c", "user.name=A", "-c", "user.email=a@b")
    for arguments in (("init", "-q"), ("add", "."), (*name, "commit", "-q", "-m", "all")):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    for folder, changed in (("docs", False), ("bench/results", False), ("mannkern", True)):
        (tmp_path / folder / "file").write_text("changed")
        assert machine.surroundings()["commit"].endswith(" with changes") == changed, folder


def test_the_draw_whose_choices_lie_furthest_apart_is_checked() -> None:
    sizes = EpisodeSizes(T=3, F=5, D=6, N=300, W=4, R=2, C=3)
    chosen = contest.first_steps("mann", 2, sizes, "cpu")
    draws = [contest.episode("mann", 2, sizes, seed=seed) for seed in range(contest.DRAWS)]
    gaps = [contest._gap(draw, contest._choice_gap("mann")) for draw in draws]
    best = draws[gaps.index(max(gaps))]
    assert max(gaps) > 2 * min(gaps)
    assert torch.equal(chosen.inputs[0], best.inputs[0])


@pytest.mark.parametrize("option", ["", "--against HEAD"])
def test_the_second_gpu_is_the_one_that_is_timed(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of GPUs that are not there: PyTorch's current device, the report and the settings all name cuda:1."""
    current, devices = [], []

    @contextmanager
    def device(which: torch.device) -> Iterator[None]:
        current.append(str(which))
        yield
        current.append("as before")

    def run_contest(report: harness.Report, *_: object) -> None:
        devices.append((report.device, report.device_type, list(current)))

    def run_against(revision: str, settings: against.Settings, *_: object) -> list[dict[str, Any]]:
        devices.append((settings.device, "cuda", list(current)))
        return []

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(bench, "_check", lambda args, sizes, threads: torch.device(args.device))
    monkeypatch.setattr(contest, "run", run_contest)
    monkeypatch.setattr(against, "run", run_against)
    assert bench.run_bench(arguments(SIZES, "--device cuda:1", option)) == 0
    assert devices == [("cuda:1", "cuda", ["cuda:1"])]
    assert current == ["cuda:1", "as before"]


def test_inputs_lie_on_the_second_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The contest draws them on the device of the report, and asks for contestants by its type."""
    devices: set[str] = set()
    build = contest.episode

    def episode(model: str, B: int, sizes: EpisodeSizes, device: str, *rest: Any) -> Problem:
        devices.add(device)
        return build(model, B, sizes, "cpu", *rest)

    monkeypatch.setattr(contest, "episode", episode)
    monkeypatch.setattr(contestants, "of", lambda model, device: devices.add(f"type {device}") or [])
    monkeypatch.setattr(contestants, "graphs", lambda found: [])
    monkeypatch.setattr(harness.Report, "time", lambda *_, **__: None)
    contest.run(harness.Report("bench", 1, "cuda:1"), "mann", EpisodeSizes(3, 5, 6, 8, 4, 2, 3), [2], [1])
    assert devices == {"cuda:1", "type cuda"}


def test_results_are_checked_on_each_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """ "cpp" is wrong on two threads alone: there it is not timed."""
    timed = []

    def check(self: harness.Report, problem: Problem, entrants: list[contestants.Contestant]) -> Any:
        return [x for x in entrants if torch.get_num_threads() == 1 or x.name != "cpp"]

    def time(self: harness.Report, problem: Problem, entrants: Any, bases: list[str], **_: object) -> None:
        timed.append((self.where["threads"], "cpp" in [x.name for x in entrants], bases))

    monkeypatch.setattr(harness.Report, "check", check)
    monkeypatch.setattr(harness.Report, "time", time)
    assert run("bench --batch-size 2", SIZES, "--threads 1 2") == 0
    assert timed == [(1, True, ["cpp"]), (2, False, ["reference"])]


@pytest.mark.parametrize("against_commit", [False, True])
def test_finished_configurations_are_in_the_file(
    against_commit: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second batch size is stopped, as by Ctrl-C."""
    file, timed = tmp_path / "times.json", harness.Report.time

    def stopped_at_the_second(self: harness.Report, problem: Problem, *args: Any, **named: Any) -> None:
        if problem.B == 3:
            raise KeyboardInterrupt
        timed(self, problem, *args, **named)

    def in_turn(sides: object, request: dict[str, Any], repeats: int) -> dict[str, Any]:
        if request["B"] == 3:
            raise KeyboardInterrupt
        return {"wrong": [], "seconds": {"old": 2.0, "here": 1.0}, "ratio": 2.0, "same_results": True}

    monkeypatch.setattr(harness.Report, "time", stopped_at_the_second)
    monkeypatch.setattr(against, "find_commit", lambda revision: "0123456789abcdef")
    monkeypatch.setattr(against, "prepare", lambda commit: tmp_path)
    monkeypatch.setattr(against, "_in_turn", in_turn)
    with pytest.raises(KeyboardInterrupt):
        bench.run_bench(arguments(SIZES, "--batch-size 2 3 --json", file, "--against HEAD" if against_commit else ""))
    content = json.loads(file.read_text())
    assert content["unfinished"]
    assert {row["B"] for row in content["rows"]} == {2}


@pytest.mark.slow
@pytest.mark.skipif(not machine.is_clone(), reason="needs a clone")
def test_two_commits_in_turn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last commit is timed beside the files as they are: both compute the same."""
    file = tmp_path / "against.json"
    assert run("bench --batch-size 2 --against HEAD", SIZES, "--json", file) == 0
    said = capsys.readouterr().out
    assert "times the time of the files here" in said
    (row,) = json.loads(file.read_text())["rows"]
    assert row["same_results"]
    assert row["wrong"] == []
    assert [len(samples) for samples in row["samples"].values()] == [2, 2]
