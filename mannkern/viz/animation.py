"""``animate``: an episode step by step, with what the network sees, where it writes and where it reads."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mannkern.files import write_atomically
from mannkern.integers import check_integer
from mannkern.training.drawing import INK, new_figure, rgb
from mannkern.viz.picture import check_episode, colour_of, finite, labels_of, text_of
from mannkern.viz.recording import Recording

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import StepPatch
    from numpy import ndarray

WRITTEN = 0.1  # of a write weight: from here on a slot counts as written by the step
BARS = ("#0072B2", "#D55E00")  # of what is read and of what is written
MAP: dict[str, Any] = {"aspect": "auto", "origin": "lower", "interpolation": "nearest"}


def animate(
    recording: Recording,
    path: str | Path,
    *,
    images: Tensor | None = None,
    labels: Sequence[Any] | None = None,
    answers: Sequence[Any] | None = None,
    episode: int = 0,
    frames_per_second: int = 3,
) -> Path:
    """Write an animation of one episode, a frame for each step, and return its path.

    A frame shows the input of the step if it is an image, the label that is right and the answer that was given, and
    all slots: what they hold, the label of the step that wrote to them last, and how much is read from each and
    written to each. So one sees how a glyph is bound to its label and found again.

    path:    ends in .gif, which needs Pillow, or in .html, which a browser plays with buttons
    images:  (T, height, width), the inputs of the steps, from 0 to 1
    labels:  the right label of each of the T steps; answers: those that the model gave

    What is not finite is blank. Raises ValueError or TypeError for a path, an episode, or images, labels and answers
    that do not fit, naming them. An error, also of the disk, leaves no file, or the one that was there.
    """
    path = Path(path)
    if path.suffix not in (".gif", ".html"):
        raise ValueError(f"path: got {path.name!r}, need a name that ends in .gif or .html")
    check_integer("frames_per_second", frames_per_second)
    check_episode(recording, episode)
    labels, answers = labels_of("labels", labels, recording), labels_of("answers", answers, recording)
    frames = _Frames(recording, episode, _images_of(images, len(recording)), labels, answers)
    import matplotlib
    from matplotlib.animation import FuncAnimation, PillowWriter

    animation = FuncAnimation(frames.figure, frames.show, frames=len(recording), interval=1000 / frames_per_second)
    if path.suffix == ".html":
        with matplotlib.rc_context({"animation.embed_limit": math.inf}):  # else frames beyond 20 MB are left out
            content = animation.to_jshtml(fps=frames_per_second).encode()
    else:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "a.gif")  # the writer takes a path, and its ending
            animation.save(file, writer=PillowWriter(fps=frames_per_second))
            content = file.read_bytes()
    write_atomically(path, lambda file: file.write(content))
    return path


def _images_of(images: Any, T: int) -> Tensor | None:
    """The images as float32 on the CPU."""
    if images is None:
        return None
    if not isinstance(images, Tensor):
        raise TypeError(f"images: got {type(images).__name__}, need a tensor (T, height, width)")
    if images.is_complex():
        raise TypeError(f"images: got {images.dtype}, need numbers from 0 to 1")
    if len(images) != T:
        raise ValueError(f"images: got {len(images)}, need one for each of the {T} steps")
    if images.dim() != 3 or not images.numel():
        raise ValueError(f"images: got shape {tuple(images.shape)}, need (T, height, width)")
    return images.detach().to("cpu", torch.float32)


class _Frames:
    """The figure, drawn once, and what of it changes from step to step."""

    def __init__(
        self,
        recording: Recording,
        episode: int,
        images: Tensor | None,
        labels: list[Any] | None,
        answers: list[Any] | None,
    ) -> None:
        values, limit = finite(recording.memory[:, episode])
        self.memory = values.numpy()
        weights = [finite(w[:, episode].mean(1)) for w in (recording.read_weights, recording.write_weights)]
        self.weights = [w.numpy() for w, _ in weights]
        self.images, self.labels, self.answers = images, labels, answers
        self.figure: Figure = new_figure("", (10.0, 5.0))
        owners = labels is not None
        seen, memory, *bars = self.figure.subplots(1, 4 + owners, width_ratios=[2.2, 4, *([0.35] * owners), 2, 2])
        self.title = self.figure.suptitle("step 1", x=0.02, ha="left", fontsize=13, fontweight="bold", color=INK)
        self._draw_seen(seen)
        limit = max(limit, 1e-12)
        self.cells = memory.imshow(self.memory[0], **MAP, cmap="PuOr", vmin=-limit, vmax=limit)
        _name(memory, "memory: orange below 0, purple above", "column")
        memory.set_ylabel("slot")
        self.owners = None
        if labels is not None:
            strip = bars.pop(0)
            self.colours = _last_colours(self.weights[1], labels)
            self.owners = strip.imshow(self.colours[0], **MAP)
            strip.set_xticks([])
            strip.set_yticks([])
            _name(strip, "written\nlast for", "")
            self._draw_legend(labels)
        self.stairs = [
            _draw_bars(axes, w, largest, name, colour)
            for axes, (w, largest), name, colour in zip(bars, weights, ("read from", "written to"), BARS, strict=True)
        ]
        self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")  # frames do not lay the panels out again

    def show(self, t: int) -> None:
        """Draw step t."""
        self.title.set_text(f"step {t + 1} of {len(self.memory)}")
        if self.images is not None:
            self.image.set_data(self.images[t].numpy())
        self.said.set_text(self._answer(t))
        self.cells.set_data(self.memory[t])
        if self.owners is not None:
            self.owners.set_data(self.colours[t])
        for stairs, weights in zip(self.stairs, self.weights, strict=True):
            stairs.set_data(weights[t])

    def _draw_legend(self, labels: list[Any]) -> None:
        from matplotlib.lines import Line2D

        names = _sorted(labels)
        marks = [Line2D([], [], ls="", marker="s", color=colour_of(name, labels)) for name in names]
        numbers = [str(k) for k in range(len(names))]  # a legend hides names that begin with _
        legend = self.figure.legend(marks, numbers, loc="lower left", ncols=3, frameon=False, title="label", fontsize=9)
        for text, name in zip(legend.get_texts(), names, strict=True):
            text.set_parse_math(False)
            text.set_text(text_of(name))

    def _draw_seen(self, axes: Axes) -> None:
        axes.set_axis_off()
        if self.images is not None:
            self.image = axes.imshow(self.images[0].numpy(), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        self.said = axes.set_title(self._answer(0), loc="left", fontsize=12, color=INK, parse_math=False)

    def _answer(self, t: int) -> str:
        lines = [] if self.labels is None else [f"label {text_of(self.labels[t])}"]
        if self.answers is not None:
            mark = "" if self.labels is None else ", right" if self.labels[t] == self.answers[t] else ", wrong"
            lines.append(f"answer {text_of(self.answers[t])}{mark}")
        return "\n".join(lines)


def _name(axes: Axes, title: str, below: str) -> None:
    axes.set_title(title, loc="left", fontsize=9, color=INK)
    axes.set_xlabel(below)


def _sorted(labels: Iterable[Any]) -> list[Any]:
    """Each label once, in order if there is one."""
    names = list(dict.fromkeys(labels))
    try:
        return sorted(names, key=lambda name: (str(type(name)), name))
    except TypeError:  # such as complex numbers
        return names


def _draw_bars(axes: Axes, weights: Tensor, largest: float, name: str, colour: str) -> StepPatch:
    """A bar for each slot, of the weights (T, N), up to ``largest``."""
    patch = axes.stairs(weights[0].numpy(), orientation="horizontal", fill=True, color=colour)
    axes.set_xlim(0, max(largest, 1e-12))
    axes.set_ylim(0, weights.shape[1])
    axes.set_yticks([])
    axes.spines[["top", "right"]].set_visible(False)
    _name(axes, name, "weight, mean\nof the heads")
    return patch


def _last_colours(write: ndarray, labels: Sequence[Any]) -> list[ndarray]:
    """For each step (N, 1, 3), the colour of the label that each slot was written for last; white where it was not."""
    import numpy as np

    colours = np.ones((write.shape[1], 1, 3))
    after = []
    for weights, label in zip(write, labels, strict=True):
        colours[weights > WRITTEN] = rgb(colour_of(label, labels))
        after.append(colours.copy())
    return after
