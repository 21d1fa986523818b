"""``draw``: one episode as a picture, with time from left to right."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mannkern.integers import check_integer
from mannkern.training.drawing import INK, corner_note, panels_of
from mannkern.viz.recording import Recording

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONGEST = 24  # letters of a label that are drawn
SHADES = "cividis"  # read alike with and without colour blindness
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#5c6670")  # Okabe and Ito 2008


def draw(recording: Recording, episode: int = 0, labels: Sequence[Any] | None = None, title: str = "") -> Figure:
    """One episode over time: write weights, read weights, usage (of a MANN), and how much every slot holds.

    Weights are means over the heads. A slot holds the length of its vector. labels: what each of the T steps is
    about, such as its class, in a strip below; each label has a colour and its text. What is not finite is blank.
    Returns a figure of matplotlib: ``draw(recording).savefig("episode.png")``.

    Raises ValueError or TypeError for an episode or labels that do not fit, naming them.
    """
    check_episode(recording, episode)
    labels = labels_of("labels", labels, recording)
    maps = {
        "write weights, mean of the heads": recording.write_weights[:, episode].mean(1),
        "read weights, mean of the heads": recording.read_weights[:, episode].mean(1),
    }
    if recording.usage is not None:
        maps["usage"] = recording.usage[:, episode]
    maps["length of the vector in each slot"] = recording.memory[:, episode].double().norm(dim=-1)
    ratios = [10.0] * len(maps) + ([1.2] if labels is not None else [])
    size = 10.5, 2.0 * len(maps) + (1.5 if labels is not None else 1.0)
    figure, panels = panels_of(title or "One episode", len(ratios), size, sharex=True, ratios=ratios)
    for axes, (name, values) in zip(panels, maps.items(), strict=False):
        paint(axes, values, name)
    if labels is not None:
        _strip(panels[-1], labels)
    panels[-1].set_xlabel("time step")
    return figure


def check_episode(recording: Recording, episode: int) -> None:
    """Whether there is such an episode."""
    if not isinstance(recording, Recording):
        raise TypeError(f"recording: got {type(recording).__name__}, need a Recording, from viz.record")
    check_integer("episode", episode, 0)
    B = recording.read_weights.shape[1]
    if episode >= B:
        raise ValueError(f"episode: got {episode}, need less than the {B} that were recorded")


def labels_of(name: str, labels: Any, recording: Recording) -> list[Any] | None:
    """The labels as a list, one for each step; also of a tensor or an array."""
    if labels is None:
        return None
    T = len(recording)
    try:
        listed = list(labels.tolist() if hasattr(labels, "tolist") else labels)
    except TypeError:
        raise TypeError(f"{name}: got {type(labels).__name__}, need one for each of the {T} steps") from None
    if len(listed) != T:
        raise ValueError(f"{name}: got {len(listed)}, need one for each of the {T} steps")
    for label in listed:
        if not isinstance(label, Hashable):
            raise TypeError(f"{name}: got a {type(label).__name__}, need numbers or texts")
    return listed


def text_of(label: Any) -> str:
    """A label as text that has room."""
    text = str(label)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def colour_of(label: Any, labels: Sequence[Any]) -> str:
    """The colour of a label among all: by the order in which they come first, round and round."""
    return COLOURS[list(dict.fromkeys(labels)).index(label) % len(COLOURS)]


def finite(values: Tensor) -> tuple[Tensor, float]:
    """float64, with NaN, which is drawn blank, where a number is not finite; and the largest absolute value of others.

    matplotlib subtracts the limits of a scale, which overflows in float32.
    """
    values = values.double()
    values = torch.where(values.isfinite(), values, math.nan)
    return values, float(values.abs().nan_to_num(0).max())


def paint(axes: Axes, values: Tensor, name: str) -> None:
    """Values (T, N) of the slots over time, from dark at 0 to light at the largest."""
    values, largest = finite(values)
    image = {"aspect": "auto", "origin": "lower", "interpolation": "nearest", "cmap": SHADES}
    axes.imshow(values.T.numpy(), vmin=0, vmax=largest or 1, **image)  # type: ignore[arg-type]
    axes.set_ylabel("slot")
    axes.locator_params(integer=True)
    axes.set_title(name, loc="left", fontsize=10, color=INK)
    blank = "   blank: not finite" if values.isnan().any() else ""
    corner_note(axes, f"dark: 0   light: {largest:.2g}{blank}")
    axes.grid(False)


def _strip(axes: Axes, labels: Sequence[Any]) -> None:
    for t, label in enumerate(labels):
        axes.axvspan(t - 0.5, t + 0.5, color=colour_of(label, labels), lw=0)
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7, "color": "white", "fontweight": "bold"}
        axes.text(t, 0.5, text_of(label), parse_math=False, **style)
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.set_ylabel("label", rotation=0, ha="right", va="center")
    axes.grid(False)
