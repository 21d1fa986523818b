"""Labels of classes: their form, how often they come, and what an answer to one costs."""

import math

import pytest
import torch
from torch import Tensor

from mannkern.tasks.characters.episodes import EpisodeSampler
from mannkern.tasks.characters.labels import OneHotLabels, StringLabels, answered_right, encode, label_loss


def test_example() -> None:
    """A wrong letter costs log(e + 2), a right one log(e^2 + 2) - 2, and one of three equal logits log 3."""
    symbols = torch.tensor([[0, 2], [1, 1]])
    logits = torch.zeros(2, 6)
    logits[0, 2] = 1.0  # of the first letter's three logits, the one of symbol 2, which is wrong
    logits[1, 4] = 2.0  # of the second letter's, symbol 1, which is right
    expected = [math.log(2 + math.e) + math.log(3), math.log(3) + math.log(2 + math.exp(2)) - 2]
    assert label_loss(logits, symbols).tolist() == pytest.approx(expected)


def images(classes: int) -> Tensor:
    return torch.randint(256, (classes, 20, 3, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def strings(num_classes: int, episodes: int) -> Tensor:
    """Symbols (C, B, 5) of every class of every episode."""
    targets = torch.arange(num_classes)[:, None].expand(-1, episodes)
    return StringLabels().draw(targets, num_classes, torch.Generator().manual_seed(0))


def test_one_hot_labels_are_the_classes() -> None:
    sampler = EpisodeSampler(images(9))
    episodes = sampler.sample(6, 3)
    assert (sampler.label_size, sampler.input_size) == (5, 14)
    assert torch.equal(episodes.symbols[..., 0], episodes.targets)
    assert torch.equal(encode(episodes.symbols, 5), torch.nn.functional.one_hot(episodes.targets, 5).float())


def test_a_string_is_five_one_hot_letters_and_arrives_one_step_later() -> None:
    sampler = EpisodeSampler(images(30), classes_per_episode=15, length=150, labels=StringLabels())
    episodes = sampler.sample(4, 7)
    assert (sampler.label_size, sampler.input_size) == (25, 34)
    assert episodes.symbols.shape == (150, 4, 5)
    assert episodes.symbols.is_contiguous()
    given = episodes.inputs[..., 9:]
    assert not given[0].any()
    assert torch.equal(given[1:].unflatten(-1, (5, 5)).argmax(-1), episodes.symbols[:-1])
    assert torch.equal(given[1:].sum(-1), torch.full((149, 4), 5.0))
    for b in range(4):
        name_of: dict[int, tuple[int, ...]] = {}
        for target, name in zip(episodes.targets[:, b].tolist(), map(tuple, episodes.symbols[:, b].tolist())):
            assert name_of.setdefault(target, name) == name, "a class keeps its string"
        assert len(set(name_of.values())) == 15, "classes have different strings"


def test_strings_are_drawn_uniformly_for_every_episode() -> None:
    drawn = EpisodeSampler(images(6), length=5, labels=StringLabels()).sample(8000, 0).symbols
    for place in range(5):
        for step in range(5):
            share = drawn[step, :, place].bincount(minlength=5) / 8000
            assert torch.allclose(share, torch.tensor(0.2), atol=0.02)
    number = (drawn * 5 ** torch.arange(5)).sum(-1).flatten().bincount(minlength=3125)
    assert number.min() > 0, "12.8 of each string are expected"
    assert number.max() < 40


def test_every_string_is_used_where_there_are_as_many_classes() -> None:
    drawn = strings(3125, 2)
    for b in range(2):
        assert len(drawn[:, b].unique(dim=0)) == 3125
    with pytest.raises(ValueError, match="classes_per_episode: got 3126, need at most 3125, one a string"):
        StringLabels().size(3126)


def test_drawing_strings_leaves_the_drawings_as_they_are() -> None:
    one, other = (EpisodeSampler(images(9), labels=labels).sample(5, 2) for labels in (OneHotLabels(), StringLabels()))
    assert torch.equal(one.inputs[..., :9], other.inputs[..., :9])
    assert torch.equal(one.targets, other.targets)


def test_one_symbol_costs_its_cross_entropy() -> None:
    logits, targets = torch.randn(4, 3, 5), torch.randint(5, (4, 3))
    expected = torch.nn.functional.cross_entropy(logits.movedim(-1, 1), targets, reduction="none")
    torch.testing.assert_close(label_loss(logits, targets.unsqueeze(-1)), expected)


def test_an_answer_is_right_as_a_whole_or_not_at_all() -> None:
    symbols = torch.tensor([[3, 1, 4, 0, 2]]).expand(6, -1)
    answers = symbols.clone()
    answers[torch.arange(5), torch.arange(5)] += 1  # one letter wrong in each but the last
    assert answered_right(encode(answers % 5, 25), symbols).tolist() == [False] * 5 + [True]
