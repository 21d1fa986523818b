"""The README's figure and tables, from the results that are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import figure, table


def test_every_panel_shows_mannkern_and_what_it_is_measured_by() -> None:
    panels = figure.draw().axes
    assert [axes.get_xlabel() for axes in panels] == [
        "episodes at a time B",
        "steps T",
        "slots N",
        "episodes at a time B",
        "width W",
        "heads R",
    ]
    for axes in panels:
        lines = {line.get_label() for line in axes.lines}
        assert lines >= {"mannkern", "bound"}
        assert lines & {"nn.LSTM", "eager reference"}


def test_tables_are_written_between_the_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "README.md"
    file.write_text("before\n" + "\nold\n".join(table.MARKS) + "\nafter\n")
    monkeypatch.setattr(table, "README", file)
    table.write()
    text = file.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert table.table() in text
    assert table.memory_table() in text
    assert list(tmp_path.iterdir()) == [file]
