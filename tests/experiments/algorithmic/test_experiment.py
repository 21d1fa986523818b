"""Algorithmic tasks as an experiment: loss, bits per sequence and their interval, against models that are known."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mannkern.experiments.algorithmic.config import ALGORITHMIC_CONFIGS, CopyConfig
from mannkern.experiments.algorithmic.experiment import AlgorithmicExperiment, measure
from mannkern.tasks import seeds
from mannkern.tasks.algorithmic.copying import Copy
from mannkern.tasks.algorithmic.ngrams import DynamicNGrams
from mannkern.tasks.algorithmic.sequences import Sequences

CPU = torch.device("cpu")


class Answer(nn.Module):
    """Logits by a function of the inputs."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, inputs: Tensor) -> Tensor:
        return self.function(inputs)


def copied(inputs: Tensor, sure: float) -> Tensor:
    """The right answer to Copy, with logits of ``sure`` and ``-sure``."""
    length = len(inputs) // 2
    bits = torch.cat([torch.zeros_like(inputs[: length + 1]), inputs[:length]])
    return (2 * bits - 1)[..., :-1] * sure


def test_example() -> None:
    """Seven bits at probability 1/2 cost 1 each, one at 1/4 costs 2: 9 bits in two sequences, which is 4.5 each."""
    experiment = AlgorithmicExperiment(CopyConfig(bits=2))
    targets = torch.zeros(5, 2, 2)
    mask = torch.tensor([False] * 3 + [True] * 2).unsqueeze(1).expand(5, 2)
    batch = Sequences(torch.zeros(5, 2, 3), targets, mask)
    logits = torch.zeros(5, 2, 2)
    logits[:3] = 50.0  # nothing is asked there
    logits[3, 0, 0] = math.log(3)  # a 1 with probability 3/4, where a 0 comes: two bits, and one wrong
    loss, sums = experiment.loss_and_sums(Answer(lambda _: logits), batch)
    assert float(loss) == pytest.approx((7 + 2) * math.log(2) / 2)
    assert sums.tolist() == pytest.approx([9, 1, 2])
    assert experiment.summarize((sums + sums).tolist(), 2.0) == pytest.approx(
        {"bits_per_sequence": 4.5, "wrong_bits": 0.5}
    )


@pytest.mark.parametrize("task", ALGORITHMIC_CONFIGS)
def test_a_batch_depends_on_the_seed_and_the_step_alone(task: str) -> None:
    config = ALGORITHMIC_CONFIGS[task]
    one, other = AlgorithmicExperiment(config(batch_size=3)), AlgorithmicExperiment(config(batch_size=3, hidden_size=5))
    one.sample(0, CPU)
    assert all(torch.equal(a, b) for a, b in zip(one.sample(9, CPU), other.sample(9, CPU), strict=True))
    seeded = AlgorithmicExperiment(config(batch_size=3, seed=1)).sample(9, CPU)
    assert seeded.inputs.shape != one.sample(9, CPU).inputs.shape or not torch.equal(seeded[0], one.sample(9, CPU)[0])


def test_steps_of_copy_have_all_lengths() -> None:
    experiment = AlgorithmicExperiment(CopyConfig(batch_size=1))
    lengths = {len(experiment.sample(step, CPU).inputs) // 2 for step in range(200)}
    assert lengths == set(range(1, 21))


def test_a_model_that_copies_and_one_that_guesses() -> None:
    right = measure(Answer(lambda x: copied(x, 20.0)), Copy(), (30,), 150, 0, 0, CPU)
    assert (right.size, right.sequences, right.answer_bits, right.wrong_bits) == ((30,), 150, 240, 0)
    assert right.bits_per_sequence == pytest.approx(0, abs=1e-4)
    half = measure(Answer(lambda x: copied(x, math.log(3))), Copy(), (30,), 150, 0, 0, CPU)
    assert half.bits_per_sequence == pytest.approx(240 * math.log2(4 / 3))
    assert half.interval == pytest.approx(0, abs=1e-4)
    guess = measure(Answer(lambda x: torch.zeros(*x.shape[:2], 8)), Copy(), (10,), 20, 0, 0, CPU)
    assert guess.bits_per_sequence == pytest.approx(80)
    assert guess.optimal is None


def test_the_interval_is_that_of_the_mean_over_sequences() -> None:
    """A logit of log 3 on every bit costs 2 or log2(4/3) bits: each with probability 1/2, difference log2 3."""
    constant = Answer(lambda x: torch.full((*x.shape[:2], 8), math.log(3)))
    scores = measure(constant, Copy(), (20,), 1000, 0, 0, CPU)
    assert scores.interval == pytest.approx(1.96 * math.log2(3) / 2 * math.sqrt(160 / 1000), rel=0.1)
    assert scores.bits_per_sequence == pytest.approx(160 * (2 + math.log2(4 / 3)) / 2, abs=2 * scores.interval)
    other = measure(constant, Copy(), (20,), 1000, 0, 1, CPU)
    assert other.bits_per_sequence != scores.bits_per_sequence, "another index, other sequences"


def test_each_batch_has_sequences_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 250 sequences, in batches of 100. Those of another size are numbered from 65,536 on."""
    drawn, real = [], Copy.sample

    def sample(self: Copy, batch_size: int, generator: torch.Generator, size: tuple[int, ...]) -> Sequences:
        drawn.append((batch_size, generator.initial_seed()))
        return real(self, batch_size, generator, size)

    monkeypatch.setattr(Copy, "sample", sample)
    measure(Answer(lambda x: copied(x, 20.0)), Copy(), (3,), 250, 7, 1, CPU)
    starts = [seeds.generator(7, 65_536 + batch).initial_seed() for batch in range(3)]
    assert drawn == list(zip((100, 100, 50), starts, strict=True))


def test_the_optimal_model_of_n_grams_has_the_optimal_cost() -> None:
    task = DynamicNGrams(2, 40)

    def optimal(inputs: Tensor) -> Tensor:
        targets = torch.cat([inputs[1:], torch.zeros_like(inputs[:1])])  # the last target is used nowhere before
        return task.optimal(Sequences(inputs, targets, targets[..., 0] > 0))

    scores = measure(Answer(optimal), task, (40,), 120, 0, 0, CPU)
    assert scores.optimal is not None
    assert scores.bits_per_sequence == pytest.approx(scores.optimal, rel=1e-5)
    assert scores.to_dict()["optimal_bits_per_sequence"] == scores.optimal


def test_validation_is_at_the_largest_size_and_moves_no_generator() -> None:
    experiment = AlgorithmicExperiment(CopyConfig(bits=2, max_length=4))
    model = Answer(lambda x: torch.zeros(*x.shape[:2], 2) + 0 * torch.rand(1)).train()
    state = torch.get_rng_state()
    assert experiment.validate(model, CPU)["bits_per_sequence"] == pytest.approx(8)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    ngrams = AlgorithmicExperiment(ALGORITHMIC_CONFIGS["ngrams"](length=20))  # type: ignore[call-arg]
    found = ngrams.validate(Answer(lambda x: torch.zeros(*x.shape[:2], 1)), CPU)
    assert found["bits_per_sequence"] == pytest.approx(15)
    assert found["optimal_bits_per_sequence"] < 15


@pytest.mark.parametrize("task", ALGORITHMIC_CONFIGS)
def test_every_task_has_a_model(task: str) -> None:
    for model in ("ntm", "lstm"):
        config = ALGORITHMIC_CONFIGS[task](model=model, hidden_size=4, memory_slots=5, lstm_size=3, batch_size=2)
        experiment = AlgorithmicExperiment(config)
        batch = experiment.sample(0, CPU)
        loss, sums = experiment.loss_and_sums(experiment.make_model(), batch)
        loss.backward()
        assert sums.shape == (experiment.num_sums,)
        assert float(sums[0]) == pytest.approx(loss.item() / math.log(2) * 2, rel=1e-5)


@pytest.mark.parametrize("task", ["copy", "priority-sort"])
@pytest.mark.parametrize(
    ("part", "value", "usual", "refused"),
    [
        ("sharpness", 4.0, 1 + math.log(2), "1.0, need a number above 1"),
        ("gate", 0.05, 0.5, "1.0, need a number between"),
    ],
)
def test_heads_start_as_asked(task: str, part: str, value: float, usual: float, refused: str) -> None:
    """Where the controller says nothing, that part of every head is as asked, and all else as without the setting."""
    config = ALGORITHMIC_CONFIGS[task](hidden_size=4, memory_slots=5)
    asked, plain = (
        AlgorithmicExperiment(some).make_model().recurrent.cell.interface_vector(torch.zeros(1, 4))
        for some in (replace(config, **{f"initial_{part}": value}), config)
    )
    for vector, expected in ((asked, value), (plain, usual)):
        torch.testing.assert_close(getattr(vector, part), torch.full_like(getattr(vector, part), expected))
    same = asked._replace(**{part: getattr(plain, part)})
    assert all(torch.equal(x, y) for x, y in zip(same, plain, strict=True))
    with pytest.raises(ValueError, match=f"--initial-{part}: got {refused}"):
        replace(config, **{f"initial_{part}": 1.0})
    with pytest.raises(ValueError, match=f"--initial-{part}: got 0.0, need"):
        replace(config, **{f"initial_{part}": 0.0})
