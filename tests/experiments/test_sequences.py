"""Sequences of a user's own: their batches by hand, their losses, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset

import mannkern
from mannkern.experiments import registry
from mannkern.experiments.registry import register_task
from mannkern.experiments.sequences import SequenceExperiment, sequence_task
from mannkern.experiments.sequences.config import SequenceConfig
from mannkern.experiments.sequences.experiment import loss_and_score
from mannkern.experiments.sequences.stream import Batch, Stream, batch_of
from mannkern.training.checkpoint import load_checkpoint
from mannkern.training.errors import CommandError
from tests.commands.calls import run

CPU = torch.device("cpu")
SMALL = "--hidden-size 4 --memory-slots 4 --memory-width 3 --batch-size 2 --threads 1 --episodes 4"


class Counting(IterableDataset[tuple[Tensor, ...]]):
    """Sequence k has 1 + k % 2 steps, which show k; the answer is its parity, or k itself."""

    def __init__(self, number: int = 1000, kind: str = "classes") -> None:
        self.number, self.kind = number, kind

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for k in range(self.number):
            inputs = torch.full((1 + k % 2, 1), float(k))
            yield inputs, inputs[:, 0].long() % 2 if self.kind == "classes" else inputs % 2


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "KINDS", list(registry.KINDS))
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_batch_by_hand() -> None:
    """Sequences 0 and 1 of one and two steps: the first is padded, and no answer is due there."""
    inputs, targets, mask, due = batch_of(Stream("train", Counting()).take(0, 2), CPU)
    assert inputs[..., 0].tolist() == [[0, 1], [0, 1]]
    assert targets.tolist() == [[0, 1], [0, 1]]
    assert mask.tolist() == [[True, True], [False, True]]
    assert due == 3


def test_a_sequence_without_an_answer_counts_for_nothing() -> None:
    """Of four sequences the even ones have no answer due. A model that is always right is right in all the others."""

    class Right(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            odd = inputs[..., 0] % 2
            return 100 * torch.stack((1 - odd, odd), -1)

    def masked(number: int) -> list[tuple[Tensor, ...]]:
        return [(*pair, torch.full((len(pair[0]),), k % 2 == 1)) for k, pair in enumerate(Counting(number))]

    for number in (4, 2):
        kind = sequence_task(f"masked-{number}", masked(4), masked(number), loss="classes", outputs=2)
        experiment = kind.open(kind.tasks[f"masked-{number}"]())
        if number == 2:
            with pytest.raises(CommandError, match="got 1 sequences with an answer, need at least two"):
                experiment.validate(Right(), CPU)
            continue
        assert experiment.measure(Right(), CPU, 100) == {  # type: ignore[attr-defined]
            "loss": 0.0, "accuracy": 1.0, "interval_95": 0.0, "sequences": 2,
        }  # fmt: skip


def test_parts_of_a_batch_weigh_their_answers_alike() -> None:
    """Sequence 0 has one answer, sequence 1 two: the mean of the two losses is that of all three answers."""
    sequences = Stream("train", Counting()).take(0, 2)
    parts = [batch_of(sequences, CPU, slice(k, k + 1)) for k in (0, 1)]
    assert [part.due for part in parts] == [1.5, 1.5]
    experiment = SequenceExperiment(SequenceConfig(), Stream("", ()), Stream("", ()), "numbers", (1, 1))
    (one, one_sums), (two, two_sums) = (
        experiment.loss_and_sums(nn.Identity(), part._replace(targets=part.inputs - 1)) for part in parts
    )
    assert (one + two) / 2 == 1
    assert [one_sums.tolist(), two_sums.tolist()] == [[1, 1], [2, 2]]


def test_padding_is_no_part_of_the_loss() -> None:
    """A model says 2. The answers of sequence 0 and 1 are 0, and 1 and 1: squared errors 4, 1 and 1; then padding."""
    experiment = SequenceExperiment(SequenceConfig(), Stream("", ()), Stream("", ()), "numbers", (1, 1))
    batch = batch_of(Stream("train", Counting(kind="numbers")).take(0, 2), CPU)
    loss, sums = experiment.loss_and_sums(nn.Threshold(2.0, 2.0), batch)
    assert (loss, sums.tolist()) == (2, [6, 3])
    masked = batch._replace(mask=torch.tensor([[False, True], [False, False]]), due=torch.tensor(1.0))
    loss, sums = experiment.loss_and_sums(nn.Threshold(2.0, 2.0), masked)
    assert (loss, sums.tolist()) == (1, [1, 1])


def test_bits_are_0_or_1_where_an_answer_is_due() -> None:
    x, mask = torch.ones(2, 1), torch.tensor([True, False])
    assert len(Stream("train", [(x, torch.tensor([[1.0], [7.0]]), mask)], bits=True).take(0, 1)) == 1
    for targets in (2 * x, 0.5 * x, -x, x * math.nan):
        with pytest.raises(CommandError, match=r"^test: sequence 0: targets: got .*, need bits, 0 or 1$"):
            Stream("test", [(x, targets)], bits=True).first(1)


def test_sequences_are_found_by_their_place() -> None:
    """The next ones, earlier ones, and behind the end the first ones again."""
    stream = Stream("train", Counting(5))

    def numbers(start: int, count: int) -> list[int]:
        return [int(inputs[0, 0]) for inputs, _, _ in stream.take(start, count)]

    assert [numbers(0, 2), numbers(2, 2), numbers(4, 3), numbers(1, 2), numbers(11, 2)] == [
        [0, 1], [2, 3], [4, 0, 1], [1, 2], [1, 2],
    ]  # fmt: skip
    assert len(stream.first(9)) == 5


def test_losses_by_hand() -> None:
    mask = torch.ones(1, 1, dtype=torch.bool)
    logits = torch.tensor([[[0.0, math.log(3)]]])
    cost, score = loss_and_score(logits, Batch(logits, torch.tensor([[1]]), mask, mask.sum()), "classes")
    assert (cost.item(), score.item()) == (pytest.approx(math.log(4 / 3)), 1.0)
    target = torch.tensor([[[1.0, 0.0]]])
    cost, score = loss_and_score(logits, Batch(logits, target, mask, mask.sum()), "bits")
    assert (cost.item(), score.item()) == (pytest.approx((math.log(2) + math.log(4)) / 2), 0.0)
    cost, score = loss_and_score(logits, Batch(logits, target, mask, mask.sum()), "numbers")
    assert cost.item() == score.item() == pytest.approx((1 + math.log(3) ** 2) / 2)


@pytest.mark.parametrize(("loss", "model"), [("classes", "mann"), ("bits", "ntm"), ("numbers", "lstm")])
def test_every_loss_trains_and_resumes_bit_for_bit(tmp_path: Path, loss: str, model: str) -> None:
    data = Counting(7, loss)
    register_task(sequence_task("counting", data, Counting(3, loss), loss=loss, outputs=2))
    sizes = SMALL if model != "lstm" else SMALL.replace("--memory-slots 4 --memory-width 3 ", "")
    train = f"train counting --model {model} {sizes} --no-evaluate"
    assert run(train, "--steps 6 --run", tmp_path / "whole") == 0
    assert run(train, "--steps 2 --run", tmp_path / "parts") == 0
    assert run("train counting --resume --steps 6 --no-evaluate --run", tmp_path / "parts") == 0
    one, other = (load_checkpoint(tmp_path / name)["model"] for name in ("whole", "parts"))  # type: ignore[index]
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert run("evaluate --episodes 4", tmp_path / "whole") == 0
    answers = mannkern.load(tmp_path / "whole").predict(torch.zeros(5, 3, 1))
    assert answers.shape == ((5, 3) if loss == "classes" else (5, 3, 1))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (3, "train: sequence 0: got int, need tensors"),
        ((torch.zeros(3), torch.zeros(3)), r"train: sequence 0: inputs: got \(3,\) torch.float32, need \(T, F\)"),
        ((torch.zeros(3, 1), torch.zeros(2, 1)), r"train: sequence 0: targets: got \(2, 1\) torch.float32, need"),
        ((torch.zeros(3, 1), torch.zeros(3, 1), torch.zeros(3)), "train: sequence 0: mask: got"),
        (
            (torch.zeros(3, 1), torch.zeros(3, 1)),
            "^train: got targets \\(3, 1\\), need \\(T,\\) for the loss 'classes'",
        ),
    ],
    ids=["number", "inputs", "targets", "mask", "loss"],
)
def test_wrong_sequences_are_named(item: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sequence_task("wrong", [item], [item], loss="classes", outputs=2)


def test_wrong_arguments_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = Counting()
    for arguments, message in (
        ({"name": "Two words"}, "^name: got 'Two words', need small letters"),
        ({"loss": "hinge"}, "^loss: got 'hinge', need one of classes, bits, numbers"),
        ({"outputs": None}, "^outputs: got None, need the number of classes"),
        ({"train": []}, "^train: got no sequences"),
    ):
        given: dict[str, Any] = {"name": "x", "train": good, "test": good, "loss": "classes", "outputs": 2} | arguments
        with pytest.raises(ValueError, match=message):
            sequence_task(**given)
    with pytest.raises(ValueError, match=r"^kind: got the task 'glyphs', need a name that is not registered yet$"):
        register_task(sequence_task("glyphs", good, good, loss="classes", outputs=2))
    register_task(sequence_task("counting", good, good, loss="classes", outputs=2))
    late = [*Counting(3), (torch.zeros(2, 1), torch.tensor([0, 7]))]
    register_task(sequence_task("late", late, good, loss="classes", outputs=2))
    assert run(f"train late {SMALL} --steps 9 --run", tmp_path / "late") == 2
    assert "mannkern: train: targets: got 7, need classes 0 to 1" in capsys.readouterr().err
    kind = sequence_task("few", good, Counting(1), loss="classes", outputs=2)
    experiment = kind.open(kind.tasks["few"](hidden_size=2, memory_slots=2))  # type: ignore[call-arg]
    with pytest.raises(CommandError, match=r"^test: got 1 sequences, need at least two"):
        experiment.validate(experiment.make_model(), CPU)
