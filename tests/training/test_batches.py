"""Batches come in order and once, whether they are made ahead or not."""

import threading

import pytest
import torch

from mannkern.training import batches, processes
from mannkern.training.batches import Batches
from tests.training.parabola import Parabola

CPU = torch.device("cpu")


class Numbered(Parabola):
    """The batch of a step is its number. Notes which threads made them, and with how many threads of torch."""

    def __init__(self) -> None:
        self.made: list[tuple[int, threading.Thread, int]] = []

    def sample(self, step: int, device: torch.device) -> torch.Tensor:
        if step < 0:
            raise ValueError("no such step")
        self.made.append((step, threading.current_thread(), torch.get_num_threads()))
        return torch.tensor(step)


@pytest.mark.parametrize("processors", [1, 64])
def test_every_batch_comes_in_order_and_once(processors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "usable_processors", lambda: processors)
    experiment, threads = Numbered(), torch.get_num_threads()
    with Batches(experiment, CPU) as source:
        assert [source.take(step).item() for step in (5, 6, 7)] == [5, 6, 7]
    is_ahead = processors > threads
    assert [step for step, *_ in experiment.made] == [5, 6, 7, 8][: 4 if is_ahead else 3]
    assert all((thread is threading.main_thread()) != is_ahead for _, thread, _ in experiment.made)
    assert {count for *_, count in experiment.made} == {1 if is_ahead else threads}
    assert torch.get_num_threads() == threads  # the other thread's number is its own


@pytest.mark.parametrize("processors", [3, 4])
def test_processes_of_one_machine_share_its_processors(processors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three processes of one thread each leave none of three processors free, and one of four."""
    monkeypatch.setattr(batches, "usable_processors", lambda: processors)
    monkeypatch.setattr(processes, "local_size", lambda: 3)
    assert torch.get_num_threads() == 1
    with Batches(Numbered(), CPU) as source:
        assert (source.executor is not None) == (processors == 4)


def test_a_batch_made_ahead_is_not_given_for_another_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "usable_processors", lambda: 64)
    with Batches(Numbered(), CPU) as source:
        assert [source.take(step).item() for step in (5, 9, 2)] == [5, 9, 2]


def test_an_error_of_a_batch_reaches_the_one_who_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "usable_processors", lambda: 64)
    with Batches(Numbered(), CPU) as source, pytest.raises(ValueError, match="no such step"):
        source.take(-1)


def test_a_process_may_use_at_least_one_processor() -> None:
    assert batches.usable_processors() >= 1
