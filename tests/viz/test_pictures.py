"""Pictures and animations of a recording: what they show, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from mannkern import MANN, NTM, viz

T, B, F, D, N, W, R = 4, 2, 4, 6, 7, 3, 2
LABELS = ["a", "b", "a", "b"]


@pytest.fixture(scope="module")
def recording() -> viz.Recording:
    torch.manual_seed(0)
    mann = MANN(F, D, N, W, R)
    with viz.record(mann) as recording:
        mann(torch.randn(T, B, F))
    return recording


def test_a_picture_has_a_panel_for_each_quantity(recording: viz.Recording) -> None:
    """The numbers in the panels are those of the chosen episode."""
    figure = viz.draw(recording, episode=1, labels=LABELS, title="A title")
    assert len(figure.axes) == 5
    painted = [axes.get_images()[0].get_array() for axes in figure.axes[:4]]
    assert recording.usage is not None
    expected = [
        recording.write_weights[:, 1].mean(1),
        recording.read_weights[:, 1].mean(1),
        recording.usage[:, 1],
        recording.memory[:, 1].norm(dim=-1),
    ]
    for got, values in zip(painted, expected, strict=True):
        assert torch.equal(torch.from_numpy(got.data), values.T)
    assert [text.get_text() for text in figure.axes[4].texts] == LABELS
    assert figure.get_suptitle() == "A title"


def test_a_picture_of_an_ntm_has_no_usage() -> None:
    ntm = NTM(F, D, N, W)
    with viz.record(ntm) as recording:
        ntm(torch.randn(T, B, F))
    assert len(viz.draw(recording).axes) == 3


def test_a_gif_has_a_frame_for_each_step(recording: viz.Recording, tmp_path: Path) -> None:
    path = viz.animate(
        recording, tmp_path / "a.gif", images=torch.rand(T, 8, 8), labels=LABELS, answers=["b", "b", "a", "b"]
    )
    with Image.open(path) as image:
        assert image.format == "GIF"
        assert getattr(image, "n_frames") == T  # noqa: B009
    assert [x.name for x in tmp_path.iterdir()] == ["a.gif"]


def test_a_page_has_a_frame_for_each_step(recording: viz.Recording, tmp_path: Path) -> None:
    text = viz.animate(recording, tmp_path / "a.html").read_text()
    assert text.count("data:image/png;base64") == T


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"episode": 2}, "^episode: got 2, need less than the 2"),
        ({"labels": ["a"]}, "^labels: got 1, need one for each of the 4 steps"),
        ({"answers": ["a"]}, "^answers: got 1"),
        ({"images": torch.zeros(3, 2, 2)}, "^images: got 3"),
        ({"path": "a.mp4"}, "^path: got 'a.mp4'"),
        ({"frames_per_second": 0}, "^frames_per_second: got 0"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else None,
)
def test_errors(recording: viz.Recording, tmp_path: Path, options: dict[str, object], message: str) -> None:
    arguments = {"path": "a.gif"} | options
    with pytest.raises(ValueError, match=message):
        viz.animate(recording, tmp_path / str(arguments.pop("path")), **arguments)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
