"""Episodes of ``verify``: they are compared with a loop on the reference alone, on inputs that choose slots clearly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from mannkern.memories import registry
from mannkern.verification import episodes
from mannkern.verification.accuracy import Error


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episodes, "SIZES", {"small": (2, 3, 5, 3, 1)})
    monkeypatch.setattr(episodes, "LENGTHS", {"short": (2, 2)})


def found(name: str, **changes: Any) -> dict[str, Error]:
    """The errors of an episode of a family on the backend ``cpp``, in float64."""
    episode = registry.FAMILIES[name].episode
    assert episode is not None
    arguments = "cpp", "cpu", "lstm", "small", "short"
    return episodes.episode_errors(episode._replace(**changes), *arguments, dtype=torch.float64, seed=0)


@pytest.mark.parametrize("name", ["lrua", "ntm"])
def test_a_wrong_step_is_no_measure_of_an_episode(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step's kernel is as wrong as that of the episode, so a loop over it would agree."""
    assert all(error.measured <= error.allowed for error in found(name).values())
    cell = registry.FAMILIES[name].cell
    episode, step = cell.fused_episode, cell.fused_step

    def wrong_episode(*arguments: Any) -> Any:
        output, state = episode(*arguments)
        return 1.001 * output, state

    def wrong_step(*arguments: Any) -> Any:
        result = step(*arguments)
        return result if result is None else (1.001 * result[0], result[1])

    monkeypatch.setattr(cell, "fused_episode", wrong_episode)
    monkeypatch.setattr(cell, "fused_step", wrong_step)
    output = found(name)["output"]
    assert output.measured == pytest.approx(1e-3)
    assert output.measured > output.allowed


def test_episodes_are_drawn_until_their_choices_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two choices in each draw: of the first draw the second is too close, of the second draw none."""
    gaps: Iterator[float] = iter([1.0, 1e-6, 1.0, 1.0, *[1.0] * 4])
    assert all(error.measured <= error.allowed for error in found("lrua", choice_gap=lambda *_: next(gaps)).values())
    assert len(list(gaps)) == 4
    monkeypatch.setattr(episodes, "ATTEMPTS", 2)
    with pytest.raises(RuntimeError, match=r"^small, short: no inputs of 2 that keep the choices of slots apart$"):
        found("lrua", choice_gap=lambda *_: 1e-6)
