"""The algorithmic tasks: small sequences by hand, sizes, and that they depend on their arguments alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mannkern.tasks import seeds
from mannkern.tasks.algorithmic.copying import Copy, RepeatCopy
from mannkern.tasks.algorithmic.ngrams import DynamicNGrams
from mannkern.tasks.algorithmic.recall import AssociativeRecall
from mannkern.tasks.algorithmic.sequences import (
    Sequences,
    SequenceTask,
    answer_bits,
    answer_cost,
    bits_per_sequence,
    wrong_bits,
)
from mannkern.tasks.algorithmic.sorting import PrioritySort

TASKS: list[SequenceTask] = [Copy(), RepeatCopy(), AssociativeRecall(), DynamicNGrams(), PrioritySort()]


def generator(index: int = 0) -> torch.Generator:
    return seeds.generator(7, index)


def rows(steps: Tensor) -> list[list[float]]:
    """(T, features) as T lists."""
    return steps.tolist()


def test_copying_one_bit_by_hand() -> None:
    """The bit, the delimiter on the last channel, then nothing while the bit is the answer."""
    inputs, targets, mask = Copy(bits=1).sample(1, generator(), (1,))
    bit = inputs[0, 0, 0].item()
    assert rows(inputs[:, 0]) == [[bit, 0], [0, 1], [0, 0]]
    assert rows(targets[:, 0]) == [[0], [0], [bit]]
    assert mask[:, 0].tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("task", "size", "steps", "features", "answer"),
    [
        (Copy(), (20,), 41, (9, 8), 160),
        (RepeatCopy(), (10, 10), 112, (10, 9), 909),
        (AssociativeRecall(), (6,), 32, (8, 6), 18),
        (DynamicNGrams(), (200,), 199, (1, 1), 195),
        (PrioritySort(), (20,), 37, (10, 8), 128),
    ],
)
def test_the_papers_sizes(
    task: SequenceTask, size: tuple[int, ...], steps: int, features: tuple[int, int], answer: int
) -> None:
    assert task.largest == size
    assert (task.input_size, task.output_size) == features
    sequences = task.sample(3, generator(), size)
    assert sequences.inputs.shape == (steps, 3, features[0])
    assert sequences.targets.shape == (steps, 3, features[1])
    assert sequences.mask.shape == (steps, 3)
    assert (sequences.inputs.dtype, sequences.mask.dtype) == (torch.float32, torch.bool)
    assert answer_bits(sequences) == answer
    assert not sequences.targets[~sequences.mask].any()


@pytest.mark.parametrize("task", TASKS, ids=lambda task: type(task).__name__)
def test_a_pure_function_of_its_arguments(task: SequenceTask) -> None:
    state = torch.get_rng_state()
    first, again, other = (task.sample(4, generator(index)) for index in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert first.inputs.shape != other.inputs.shape or not torch.equal(first.inputs, other.inputs)
    assert task.sample(0, generator()).inputs.shape[1] == 0
    for size in task.evaluation_sizes:
        assert task.sample(1, generator(), size).mask.any()


def test_copy() -> None:
    sequences = Copy(bits=2).sample(2, generator(), (3,))
    for b in range(2):
        shown, answered = sequences.inputs[:, b], sequences.targets[:, b]
        assert rows(shown[3:]) == [[0, 0, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
        assert not shown[:3, 2].any()
        assert rows(answered) == [[0, 0]] * 4 + rows(shown[:3, :2])
        assert sequences.mask[:, b].tolist() == [False] * 4 + [True] * 3
    assert not torch.equal(sequences.inputs[:, 0], sequences.inputs[:, 1])


def test_sizes_are_drawn_uniformly() -> None:
    task, g = Copy(min_length=3, max_length=7), generator()
    lengths = torch.tensor([task.draw_size(g)[0] for _ in range(2000)]).bincount()
    assert lengths[:3].tolist() == [0, 0, 0]
    assert torch.allclose(lengths[3:] / 2000, torch.tensor(1 / 5), atol=0.04)
    both = [RepeatCopy(max_length=2, max_repeats=3).draw_size(g) for _ in range(200)]
    assert set(both) == {(length, repeats) for length in (1, 2) for repeats in (1, 2, 3)}


def test_bits_are_fair() -> None:
    bits = Copy().sample(500, generator(), (20,)).targets[21:]
    assert float(bits.mean()) == pytest.approx(0.5, abs=0.01)
    assert bits.unique().tolist() == [0, 1]


def test_repeat_copy() -> None:
    task = RepeatCopy(bits=2, max_repeats=3)
    sequences = task.sample(2, generator(), (2, 3))
    number = math.sqrt(3 / 2)  # of 1, 2, 3: mean 2, variance 2/3
    for b in range(2):
        shown, answered = sequences.inputs[:, b], sequences.targets[:, b]
        vectors = rows(shown[:2, :2])
        assert not shown[:2, 2:].any()
        assert rows(shown[2]) == pytest.approx([0, 0, 1, number])
        assert not shown[3:].any()
        assert rows(answered[:3]) == [[0, 0, 0]] * 3
        assert rows(answered[3:9]) == [[*vector, 0] for vector in vectors * 3]
        assert rows(answered[9:]) == [[0, 0, 1]]
        assert sequences.mask[:, b].tolist() == [False] * 3 + [True] * 7


def test_the_number_of_repeats_is_normalised_by_a_fixed_map() -> None:
    task = RepeatCopy()
    numbers = torch.tensor([task.normalised(k) for k in range(1, 11)])
    assert float(numbers.mean()) == pytest.approx(0, abs=1e-6)
    assert float(numbers.var(correction=0)) == pytest.approx(1)
    assert task.normalised(20) == pytest.approx(14.5 / math.sqrt(8.25)), "the same map beyond training"
    assert RepeatCopy(min_repeats=4, max_repeats=4).normalised(5) == 1


def test_associative_recall() -> None:
    sequences = AssociativeRecall(bits=3, vectors=2).sample(40, generator(), (3,))
    queried = set()
    for b in range(40):
        shown = sequences.inputs[:, b]
        delimiters = [[0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]
        assert [rows(shown)[t] for t in (0, 3, 6)] == [delimiters[0]] * 3
        assert [rows(shown)[t] for t in (9, 12)] == [delimiters[1]] * 2
        assert not shown[13:].any()
        items = [rows(shown[t : t + 2]) for t in (1, 4, 7)]
        query, answer = rows(shown[10:12]), rows(sequences.targets[13:, b])
        followed = [i for i in (0, 1) if items[i] == query and [v[:3] for v in items[i + 1]] == answer]
        assert followed, "the query is an item and the answer the one after it"
        queried.update(followed)
        assert sequences.mask[:, b].tolist() == [False] * 13 + [True] * 2
    assert queried == {0, 1}


def test_n_grams_follow_their_table() -> None:
    """With as long a sequence as this, a context's share of ones is its probability: those are Beta(1/2, 1/2)."""
    task = DynamicNGrams(context=1, length=2000)
    sequences = task.sample(200, generator())
    bits = torch.cat([sequences.inputs[:, :, 0], sequences.targets[-1:, :, 0]])
    assert torch.equal(sequences.targets[:, :, 0], bits[1:])
    after_one = (bits[:-1] * bits[1:]).sum(0)[bits[:-1].sum(0) > 200] / bits[:-1].sum(0)[bits[:-1].sum(0) > 200]
    assert float(after_one.var()) > 0.08, "towards 0 and 1: the variance is 1/8, that of a uniform one 1/12"
    first = DynamicNGrams().sample(3000, generator()).inputs[:5]
    assert float(first.mean()) == pytest.approx(0.5, abs=0.02)


def test_the_table_of_an_n_gram_is_arcsine() -> None:
    """Two bits after the same context agree with probability 3/4, the mean of p p + (1 - p) (1 - p)."""
    bits = DynamicNGrams(context=2, length=6).sample(20_000, generator()).inputs[:, :, 0]
    again = (bits[0] != bits[1]) & (bits[0] == bits[2]) & (bits[1] == bits[3])  # 0101: bits 2 and 4 come after 01
    assert float((bits[2] == bits[4])[again].float().mean()) == pytest.approx(0.75, abs=0.02)


def optimal_by_hand(bits: list[int], context: int) -> list[float]:
    """The probability of a 1 at each step from the first full context on, counting in a dictionary."""
    seen: dict[tuple[int, ...], list[int]] = {}
    found = []
    for t in range(context, len(bits)):
        counts = seen.setdefault(tuple(bits[t - context : t]), [0, 0])
        found.append((counts[1] + 0.5) / (counts[0] + counts[1] + 1))
        counts[bits[t]] += 1
    return found


@pytest.mark.parametrize(("context", "length"), [(1, 2), (2, 30), (5, 200)])
def test_the_optimal_prediction_of_n_grams(context: int, length: int) -> None:
    task = DynamicNGrams(context, length)
    sequences = task.sample(5, generator())
    logits = task.optimal(sequences)
    assert logits.shape == sequences.targets.shape
    assert not logits[~sequences.mask].any()
    for b in range(5):
        bits = [*sequences.inputs[:, b, 0].int().tolist(), int(sequences.targets[-1, b, 0])]
        expected = optimal_by_hand(bits, context)
        assert torch.sigmoid(logits[context - 1 :, b, 0]).tolist() == pytest.approx(expected, abs=1e-6)


def test_no_constant_prediction_beats_the_optimal_one() -> None:
    task = DynamicNGrams()
    sequences = task.sample(200, generator())
    best = bits_per_sequence(task.optimal(sequences), sequences).mean()
    assert 120 < best < 150
    assert best < bits_per_sequence(0.9 * task.optimal(sequences), sequences).mean()


def test_priority_sort() -> None:
    sequences = PrioritySort(bits=8, vectors=5, answers=3).sample(4, generator())
    for b in range(4):
        shown = sequences.inputs[:, b]
        listed = sorted(rows(shown[:5]), key=lambda row: -row[8])
        assert rows(sequences.targets[6:, b]) == [row[:8] for row in listed[:3]]
        assert rows(shown[5:]) == [[0] * 9 + [1], *[[0] * 10] * 3]
        assert not shown[:5, 9].any()
        assert sequences.mask[:, b].tolist() == [False] * 6 + [True] * 3
    priorities = PrioritySort().sample(500, generator()).inputs[:20, :, 8]
    assert float(priorities.min()) < -0.99
    assert float(priorities.max()) > 0.99
    assert float(priorities.mean()) == pytest.approx(0, abs=0.02)


def test_bits_per_sequence_by_hand() -> None:
    """Two steps of one bit, of which the second is asked: P = 1/4 for a 1 that comes, then for a 0 that comes."""
    targets = torch.tensor([[[1.0], [1.0]], [[1.0], [0.0]]])
    sequences = Sequences(torch.zeros(2, 2, 1), targets, torch.tensor([[False, False], [True, True]]))
    logits = torch.full((2, 2, 1), math.log(1 / 3))
    assert bits_per_sequence(logits, sequences).tolist() == pytest.approx([2, math.log2(4 / 3)])
    assert answer_cost(logits, sequences).tolist() == pytest.approx([math.log(4), math.log(4 / 3)])
    assert wrong_bits(logits, sequences).tolist() == [1, 0]
    assert answer_bits(sequences) == 1


@pytest.mark.parametrize("task", TASKS, ids=lambda task: type(task).__name__)
def test_guessing_costs_a_bit_a_bit(task: SequenceTask) -> None:
    sequences = task.sample(3, generator())
    cost = bits_per_sequence(torch.zeros_like(sequences.targets), sequences)
    assert cost.tolist() == pytest.approx([answer_bits(sequences)] * 3)


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (Copy, {"min_length": 5, "max_length": 4}, "max_length: got 4, need at least 5"),
        (Copy, {"min_length": 0}, "min_length: got 0, need at least 1"),
        (RepeatCopy, {"bits": 0}, "bits: got 0"),
        (RepeatCopy, {"max_repeats": 0}, "max_repeats: got 0, need at least 1"),
        (AssociativeRecall, {"min_items": 1}, "min_items: got 1, need at least 2"),
        (DynamicNGrams, {"length": 5}, "length: got 5, need at least 6"),
        (PrioritySort, {"answers": 21}, "answers: got 21, need at most 20"),
    ],
)
def test_sizes_that_cannot_be(task: type[Any], options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        task(**options)


def test_a_size_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"size: got \(2,\), need 2 numbers, at least 1, 1"):
        RepeatCopy().sample(1, generator(), (2,))
    with pytest.raises(ValueError, match=r"size: got \(15,\), need 1 numbers, at least 16"):
        PrioritySort().sample(1, generator(), (15,))
