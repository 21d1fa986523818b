"""The tutorial's code and the notebook run, and show what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mannkern.viz import animation as frames
from tests.docs.markdown import ROOT, python_blocks, text


@pytest.mark.slow
def test_the_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    in_full = frames.new_figure

    def small(*arguments: Any) -> Any:
        figure = in_full(*arguments)
        figure.set_dpi(40)
        return figure

    monkeypatch.setattr(frames, "new_figure", small)  # writing fifty large frames takes as long as the rest
    scope: dict[str, Any] = {}
    for block in python_blocks(text("docs/tutorial.md")):
        exec(block, scope)
    assert capsys.readouterr().out.startswith("tensor([")
    right = sum(a == b for a, b in zip(scope["targets"], scope["answers"], strict=True))
    assert right > 25, "of 50; chance is 10"
    with Image.open("episode.png") as picture, Image.open("episode.gif") as animation:
        assert picture.width > 1000
        assert getattr(animation, "n_frames") == 50  # noqa: B009


def test_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells run in order; it is stored without outputs."""
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((ROOT / "examples" / "tour.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 4
    scope: dict[str, Any] = {}
    for cell in cells:
        assert cell["outputs"] == []
        exec("".join(cell["source"]), scope)
    assert scope["outputs"].shape == (50, 16, 360)
    assert len(scope["figure"].axes) == 5
