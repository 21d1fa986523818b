"""A new run takes the faster of one thread and all, says so, and keeps the number."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from mannkern.training import threads
from mannkern.training.checkpoint import read_config
from mannkern.training.errors import CommandError
from mannkern.training.threads import Trial, choose_threads, try_threads
from tests.training.parabola import Parabola, ParabolaConfig


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("trial", "chosen", "words"),
    [
        (Trial(0.04, 0.025, 2, 1.0), 2, "on one thread 40 ms, on 2 threads 25 ms: training takes 2 threads, about 640"),
        (Trial(0.04, 0.08, 2, 0.99), 1, "training takes one thread, about 400 points/s."),
        (Trial(0.16, 0.7, 4, 0.28), 1, "This machine is busy: a thread gets 28% of a processor. A step takes on one"),
        (Trial(0.16, 0.1, 4, 0.5), 4, "training takes 4 threads"),
    ],
)
def test_the_faster_number_by_hand(trial: Trial, chosen: int, words: str) -> None:
    assert trial.threads == chosen
    assert words in trial.text("points", 16)
    assert trial.text("points", 16).startswith("This machine is busy") == (trial.share < 0.8)


class Sleeper(Parabola):
    """A step takes much longer on ``slow`` threads than on any other number of them."""

    def __init__(self, slow: int) -> None:
        self.slow = slow

    def loss_and_sums(self, model: nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for _ in range(200 if torch.get_num_threads() == self.slow else 1):
            torch.rand(10_000).sort()
        return super().loss_and_sums(model, batch)


@pytest.mark.parametrize("slow", [1, 2])
def test_a_run_without_threads_takes_the_faster_number_and_writes_it_down(
    slow: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(threads, "SECONDS", 0.0)
    state = torch.get_rng_state()
    config = choose_threads(Sleeper(slow), ParabolaConfig(), tmp_path)
    assert config.threads == 3 - slow
    assert read_config(tmp_path)["threads"] == 3 - slow
    assert f"training takes {'one thread' if slow == 2 else '2 threads'}, about" in capsys.readouterr().out
    assert torch.get_num_threads() == 2  # the loop sets the number, not the trial
    assert torch.equal(torch.get_rng_state(), state)


def test_a_number_that_was_asked_for_is_not_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ParabolaConfig(threads=2)
    assert choose_threads(Parabola(), config, tmp_path) is config
    assert capsys.readouterr().out == ""
    assert not list(tmp_path.iterdir())


def test_one_thread_leaves_no_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)
    assert choose_threads(Parabola(), ParabolaConfig(), tmp_path).threads == 1
    assert capsys.readouterr().out == ""


def test_a_trial_that_fails_leaves_the_threads_alone() -> None:
    class Impossible(Parabola):
        def loss_and_sums(self, model: nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            raise CommandError("too large")

    with pytest.raises(CommandError, match="too large"):
        try_threads(Impossible(), ParabolaConfig())
    assert torch.get_num_threads() == 2
