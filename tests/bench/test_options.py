"""The options of the scripts of bench: what cannot be used is refused before anything is timed or written."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from bench import cell, copy_task, curves, episode, memory, scaling, step, table
from mannkern.benchmark import harness, machine

SCRIPTS = (step, copy_task, episode, cell, curves)


def refused(
    script: ModuleType, options: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """The last line with which a script refuses its options."""

    def began(*_: object, **__: object) -> None:
        pytest.fail("it began")

    monkeypatch.setattr(harness, "Report", began)
    monkeypatch.setattr(machine, "surroundings", began)
    monkeypatch.setattr(scaling, "rate", began)
    monkeypatch.setattr(table, "write", began)
    monkeypatch.setattr(table, "table", began)
    monkeypatch.setattr(sys, "argv", [f"{script.__name__}.py", *options.split()])
    with pytest.raises(SystemExit) as status:
        script.main()
    assert status.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--batch-size 4 -3", "--batch-size: got -3, need at least 1"),
        ("--repeats 0", "--repeats: got 0, need at least 1"),
        ("--threads 0", "--threads: got 0, need at least 1"),
        ("--threads 100000", "--threads: got 100000, need at most 1024"),
    ],
)
def test_counts(
    script: ModuleType,
    options: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if script is curves and "--threads" in options:
        said = "unrecognized arguments"  # it runs on one thread
    assert said in refused(script, options, monkeypatch, capsys)


@pytest.mark.parametrize("script", [*SCRIPTS, memory, scaling], ids=lambda script: script.__name__)
def test_a_file_that_cannot_be_written(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "need a regular file" in refused(script, f"--json {tmp_path}", monkeypatch, capsys)
    said = refused(script, "--json /dev/null/new/x.json", monkeypatch, capsys)
    assert "--json: got /dev/null/new/x.json, need a file in a folder that can be written to" in said
    assert list(tmp_path.iterdir()) == []


def test_a_misspelt_option_of_the_tables(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "unrecognized arguments: --wirte" in refused(table, "--wirte", monkeypatch, capsys)


def test_a_result_that_cannot_be_written_leaves_nothing_beside(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        machine.write(tmp_path / "taken", {"rows": []})
    assert [x.name for x in tmp_path.iterdir()] == ["taken"]
