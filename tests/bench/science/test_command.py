"""The command of the plan: which runs it carries out, where their results and their page go, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.science import __main__ as command
from bench.science import quick, runner
from bench.science.plan import Planned
from bench.science.records import read_records
from mannkern.training.errors import CommandError
from tests.bench.science.records import SIZES, record, write_record


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with two planned runs, both of which have results with an accuracy of 75%, and a page."""
    planned = [Planned("quick", "MANN", 0, 1, SIZES, 4), Planned("table-1", "MANN", 0, 1, SIZES, 4)]
    monkeypatch.setattr(command, "plan", lambda: iter(planned))
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setattr(command, "RESULTS", tmp_path / "committed")
    for study in ("quick", "table-1"):
        write_record(tmp_path / "committed", episodes=123, level=0.75, study=study)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "results.md").write_text("the page\n")
    return tmp_path


def run(root: Path, *arguments: str) -> int:
    return command.main(["--runs", str(root / "runs"), "--data", "nowhere", *arguments])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_fresh_clone_trains_and_keeps_what_is_committed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    committed = files(root / "committed")
    assert run(root, "--list") == 0
    assert capsys.readouterr().out.splitlines() == ["quick/mann-0: 1 minutes", "table-1/mann-0: 1 minutes"]
    assert run(root, "--only", "table") == 0
    page = root / "runs" / "results" / "results.md"
    assert capsys.readouterr().out.splitlines()[-1] == f"The page is {page}"
    (trained,) = read_records(root / "runs" / "results", "table-1")["MANN"]
    assert trained["step"] == 4
    assert "| MANN | 1 | 8 |" in page.read_text()
    assert f"`{page.parent}/*/*.json`" in page.read_text(), "it names the results that it is made from"
    assert "sentences were written about those of the repository" in page.read_text()
    assert (page.parent / "results" / "table-1.png").stat().st_size > 1000
    assert files(root / "committed") == committed
    assert (root / "docs" / "results.md").read_text() == "the page\n"
    assert run(root, "--list") == 0
    assert capsys.readouterr().out.splitlines() == ["quick/mann-0: 1 minutes", "table-1/mann-0: done"]


def test_the_page_is_of_the_committed_results(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "--page") == 0
    page = root / "docs" / "results.md"
    assert capsys.readouterr().out == f"The page is {page}\n"
    assert "| MANN | 1 | 123 |" in page.read_text()
    assert "your runs." not in page.read_text().split("## ")[0]
    assert not (root / "committed" / "results.md").exists()


def test_maintainers_publish_into_the_committed_folder(root: Path) -> None:
    (root / "committed" / "table-1" / "mann-0.json").unlink()
    assert run(root, "--only", "table", "--results", str(root / "docs" / ".." / "committed")) == 0
    assert json.loads((root / "committed" / "table-1" / "mann-0.json").read_text())["step"] == 4
    assert "| MANN | 1 | 8 |" in (root / "docs" / "results.md").read_text()


@pytest.mark.parametrize("arguments", [[], ["--page"], ["--list"], ["--collect"], ["--again"]])
def test_a_name_of_no_run_is_refused(root: Path, arguments: list[str]) -> None:
    with pytest.raises(CommandError) as error:
        run(root, "--only", "nonsense", *arguments)
    assert str(error.value) == "--only: got 'nonsense', need a part of a run's name; --list has them"
    with pytest.raises(CommandError, match="; --quick --list has them"):
        run(root, "--quick", "--only", "table")
    assert (root / "docs" / "results.md").read_text() == "the page\n"


def test_a_mistake_in_an_option_is_told_in_one_line(root: Path) -> None:
    """As that of every command of mannkern."""
    with pytest.raises(CommandError) as error:
        run(root, "--threads", "x")
    assert str(error.value) == "--threads: got 'x', need an integer (python -m bench.science --help)"


@pytest.mark.parametrize("arguments", [[], ["--page"], ["--list"], ["--collect"], ["--again"], ["--quick"]])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[: len(text) // 2], "got damaged content ("),
        (lambda text: "\udcff", "got damaged content ("),
        (lambda text: "[]", "got list"),
        (lambda text: text.replace('"seed": 0', '"seed": "x"'), "seed: got 'x'"),
        (lambda text: text.replace('"finished"', '"ended"'), "finished: got none"),
        (lambda text: json.dumps(json.loads(text) | {"curve": None}), "curve: got None"),
        (lambda text: json.dumps(json.loads(text) | {"evaluation": None}), "evaluation: got none of a finished run"),
    ],
)
def test_a_damaged_result_is_named(root: Path, arguments: list[str], damage: Callable[[str], str], said: str) -> None:
    results = root / ("runs/quick-results/quick" if arguments == ["--quick"] else "committed/table-1")
    write_record(root / "runs" / "quick-results", episodes=123, level=0.75, study="quick")
    file = results / "mann-0.json"
    file.write_bytes(damage(file.read_text()).encode(errors="surrogateescape"))
    before = files(root)
    folder = [] if arguments == ["--quick"] else ["--results", str(root / "committed"), "--only", "table"]
    with pytest.raises(CommandError) as error:
        run(root, *arguments, *folder)
    assert str(error.value).startswith(f"{file}: {said}")
    assert str(error.value).endswith("need the JSON that bench.science wrote; move the file away or restore it")
    assert files(root) == before


def test_a_result_without_a_figure_of_the_page_is_named(root: Path) -> None:
    file = root / "committed" / "table-1" / "mann-0.json"
    content = json.loads(file.read_text())
    del content["evaluation"]["unseen"]["accuracy_by_instance"]["10"]
    file.write_text(json.dumps(content))
    with pytest.raises(CommandError, match=r"mann-0.json: 10: got none, need the JSON that bench.science wrote"):
        run(root, "--page")
    assert (root / "docs" / "results.md").read_text() == "the page\n"


@pytest.mark.parametrize("folder", ["missing", "empty", "docs"])
def test_a_page_of_no_results_is_refused(folder: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "empty" / "table-1").mkdir(parents=True)
    before = files(root)
    with pytest.raises(CommandError, match=rf"--results: got .*{folder}, need a folder with results, STUDY/ROW-SEED"):
        run(root, "--page", "--results", str(root / folder))
    monkeypatch.setattr(command, "RESULTS", root / folder)
    with pytest.raises(CommandError, match=rf"--results: got .*{folder}, need"):
        run(root, "--page")
    assert files(root) == before


def test_quick_runs_stand_beside_the_spread_of_ours(tmp_path: Path) -> None:
    write_record(tmp_path / "here", episodes=100, level=0.8, study="quick")
    for seed, level in enumerate((0.7, 0.75, 0.9)):
        write_record(tmp_path / "ours", episodes=100, level=level, study="quick", seed=seed)
    lines = [line.split() for line in quick.compare(tmp_path / "here", tmp_path / "ours").splitlines()]
    assert lines[2] == ["MANN", "2nd", "instance,", "%", "80.0", "70.0", "to", "90.0"]
    assert "not measured yet" in quick.compare(tmp_path / "here", tmp_path / "none")


def test_an_interrupted_quick_run_is_not_compared(tmp_path: Path) -> None:
    write_record(tmp_path / "here", episodes=100, level=0.8, study="quick")
    begun = record(100, 0.8, "quick", "LSTM") | {"finished": False, "evaluation": None}
    (tmp_path / "here" / "quick" / "lstm-0.json").write_text(json.dumps(begun))
    table = quick.compare(tmp_path / "here", tmp_path / "none")
    assert "MANN" in table
    assert "LSTM" not in table


def test_quick_runs_have_folders_of_their_own(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    committed = files(root / "committed")
    assert run(root, "--quick") == 0
    assert "75.0 to 75.0" in capsys.readouterr().out
    assert read_records(root / "runs" / "quick-results", "quick")["MANN"][0]["step"] == 4
    assert not (root / "runs" / "results").exists()
    assert files(root / "committed") == committed
    assert (root / "docs" / "results.md").read_text() == "the page\n"


def test_a_quick_run_of_another_commit_is_set_aside(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commit = "first"
    for module in (quick, runner):
        monkeypatch.setattr(module, "surroundings", lambda: {"commit": commit})
    result = root / "runs" / "quick-results" / "quick" / "mann-0.json"
    folder = root / "runs" / "quick" / "quick"
    assert run(root, "--quick") == 0
    first = result.read_text()
    before = files(root)
    assert run(root, "--quick") == 0
    commit = "unknown"
    assert run(root, "--quick") == 0
    assert files(root) == before, "nothing is done again"
    commit = "second"
    capsys.readouterr()
    assert run(root, "--quick", "--list") == 0
    assert capsys.readouterr().out == "quick/mann-0: 1 minutes, its result is of another commit\n"
    assert files(root) == before, "a list changes nothing"
    assert run(root, "--quick") == 0
    again = json.loads(result.read_text())
    assert (again["commit"], again["step"], again["finished"]) == ("second", 4, True)
    assert result.with_name("mann-0.json.1").read_text() == first
    assert (folder / "mann-0.1" / "checkpoint.pt").exists()
    commit = "third"
    assert run(root, "--quick") == 0
    assert json.loads(result.with_name("mann-0.json.2").read_text()) == again
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["mann-0", "mann-0.1", "mann-0.2"]
