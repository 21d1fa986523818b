"""The picture of the benchmarks, from the results beside."""

from __future__ import annotations

from matplotlib.figure import Figure

from bench import figure


def test_a_curve_by_hand() -> None:
    """Two rows of mannkern and a bound: a line with a marker at each B, sorted, and a dashed one."""
    axes = Figure().subplots()
    rows = [{"name": name, "B": B, "us": us} for name, B, us in (("cpp", 4, 8.0), ("cpp", 2, 4.0), ("bound", 2, 1.0))]
    figure.curve(axes, rows, "B", "us")
    ours, bound = axes.lines
    assert (ours.get_label(), ours.get_xydata().tolist()) == ("mannkern", [[2.0, 4.0], [4.0, 8.0]])
    assert (bound.get_label(), bound.get_linestyle()) == ("bound", "--")


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
