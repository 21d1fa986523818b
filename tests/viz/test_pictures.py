"""Pictures and animations of a recording: what they show, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import pytest
import torch
from PIL import Image

from mannkern import MANN, NTM, viz
from mannkern.training.drawing import rgb
from mannkern.viz import animation

T, B, F, D, N, W, R = 4, 2, 4, 6, 7, 3, 2
LABELS = ["a", "b", "a", "b"]


@pytest.fixture(scope="module")
def recording() -> viz.Recording:
    torch.manual_seed(0)
    mann = MANN(F, D, N, W, R)
    with viz.record(mann) as recording:
        mann(torch.randn(T, B, F))
    return recording


@pytest.fixture(scope="module")
def two_steps(recording: viz.Recording) -> viz.Recording:
    short = viz.Recording()
    short.steps = recording.steps[:2]
    return short


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
        recording.memory[:, 1].double().norm(dim=-1),
    ]
    for got, values in zip(painted, expected, strict=True):
        assert torch.equal(torch.from_numpy(got.data), values.T.double())
    assert [text.get_text() for text in figure.axes[4].texts] == LABELS
    assert figure.get_suptitle() == "A title"


def test_a_title_is_no_formula_and_steps_and_slots_are_whole(two_steps: viz.Recording, tmp_path: Path) -> None:
    figure = viz.draw(two_steps, title="loss $x_$")
    figure.savefig(tmp_path / "picture.png")
    for axes in figure.axes:
        if axes.get_images():
            ticks = [*axes.get_xticks(), *axes.get_yticks()]
            assert all(tick == round(tick) for tick in ticks), ticks


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


@pytest.mark.parametrize("t", [1, 3])
def test_a_frame_shows_its_step(recording: viz.Recording, t: int) -> None:
    """Of the chosen episode, whatever step was drawn before: memory, weights, image, label and answer."""
    images, answers = torch.rand(T, 8, 8), ["b", "b", "b", "b"]
    frames = animation._Frames(recording, 1, images, LABELS, answers)
    frames.show(2)
    frames.show(t)
    assert torch.equal(torch.from_numpy(frames.cells.get_array().data), recording.memory[t, 1].double())
    for stairs, weights in zip(frames.stairs, (recording.read_weights, recording.write_weights), strict=True):
        assert torch.equal(torch.from_numpy(stairs.get_data().values), weights[:, 1].mean(1)[t].double())
    assert torch.equal(torch.from_numpy(frames.image.get_array().data), images[t])
    assert frames.said.get_text() == "label b\nanswer b, right"
    assert frames.title.get_text() == f"step {t + 1} of {T}"
    frames.show(0)
    assert frames.said.get_text() == "label a\nanswer b, wrong"


def test_a_slot_has_the_colour_of_the_last_label_written_to_it() -> None:
    """Slot 0 is written by both steps, slot 1 by the second one, slot 2 by neither, since 0.05 is no write."""
    first, second = animation._last_colours(torch.tensor([[0.9, 0.05, 0.05], [0.5, 0.45, 0.05]]).numpy(), ["a", "b"])
    a, b = (rgb(viz.picture.colour_of(label, ["a", "b"])) for label in "ab")
    assert first[:, 0].tolist() == [list(a), [1, 1, 1], [1, 1, 1]]
    assert second[:, 0].tolist() == [list(b), list(b), [1, 1, 1]]


def test_a_page_has_a_frame_for_each_step(recording: viz.Recording, tmp_path: Path) -> None:
    with matplotlib.rc_context({"animation.embed_limit": 0.001}):  # MB; matplotlib leaves out frames beyond it
        text = viz.animate(recording, tmp_path / "a.html").read_text()
    assert text.count("data:image/png;base64") == T


def altered(recording: viz.Recording, value: float) -> viz.Recording:
    """The recording with ``value`` at one place of every tensor, from the second step on."""
    after = viz.Recording()
    for t, step in enumerate(recording.steps):
        tensors = [x.clone() for x in step if x is not None]
        for x in tensors[: 5 * t]:
            x[..., 0] = value
        after.steps.append(type(step)(*tensors))
    return after


@pytest.mark.parametrize("value", [float("nan"), -float("inf"), 3e38])
def test_numbers_that_cannot_be_drawn_are_blank(two_steps: viz.Recording, value: float) -> None:
    """That is where one looks for a NaN. The scale is that of the other numbers."""
    figure = viz.draw(altered(two_steps, value))
    figure.draw_without_rendering()
    painted = figure.axes[3].get_images()[0].get_array()
    assert painted.mask.any() == (value != 3e38)
    assert all(axes.get_images()[0].get_clim()[1] < float("inf") for axes in figure.axes)


@pytest.mark.parametrize("labels", [["$\\frac{$", "_a"], ["x" * 300, None], [1j, 1]])
def test_any_text_is_a_label(two_steps: viz.Recording, labels: list[Any]) -> None:
    """It is cut where it is long, and no mathematics."""
    figure = viz.draw(two_steps, labels=labels)
    figure.draw_without_rendering()
    assert all(len(text.get_text()) <= 24 and not text.get_parse_math() for text in figure.axes[4].texts)


def test_labels_may_be_a_tensor(two_steps: viz.Recording) -> None:
    figure = viz.draw(two_steps, labels=torch.tensor([3, 1]))
    assert [text.get_text() for text in figure.axes[4].texts] == ["3", "1"]


@pytest.mark.parametrize(
    ("value", "labels", "images"),
    [
        (float("nan"), ["$\\frac{$", "_a"], torch.rand(2, 8, 8, dtype=torch.bfloat16)),
        (3e38, [1j, "x" * 300], torch.rand(2, 8, 8, requires_grad=True)),
    ],
    ids=["NaN", "huge"],
)
def test_an_animation_of_anything(
    two_steps: viz.Recording, tmp_path: Path, value: float, labels: list[Any], images: torch.Tensor
) -> None:
    """Neither a link at its name nor one at the name of a temporary file is followed."""
    (tmp_path / "other").write_text("precious")
    for name in ("a.gif", ".a.gif.tmp.gif"):
        (tmp_path / name).symlink_to(tmp_path / "other")
    viz.animate(altered(two_steps, value), tmp_path / "a.gif", labels=labels, answers=labels[::-1], images=images)
    assert (tmp_path / "other").read_text() == "precious"
    with Image.open(tmp_path / "a.gif") as image:
        assert getattr(image, "n_frames") == 2  # noqa: B009


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recording": None}, "^recording: got NoneType, need a Recording"),
        ({"labels": 5}, "^labels: got int, need one for each"),
        ({"labels": [[1]] * T}, "^labels: got a list, need numbers or texts"),
        ({"images": [[1]] * T}, "^images: got list, need a tensor"),
        ({"images": torch.rand(T, 2, 2).cfloat()}, "^images: got torch.complex64, need"),
        ({"images": torch.rand(T, 2)}, r"^images: got shape \(4, 2\), need \(T, height, width\)"),
        ({"images": torch.rand(T, 0, 2)}, r"^images: got shape \(4, 0, 2\)"),
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
    arguments = {"recording": recording, "path": "a.gif"} | options
    path = tmp_path / str(arguments.pop("path"))
    with pytest.raises((TypeError, ValueError), match=message):
        viz.animate(path=path, **arguments)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
