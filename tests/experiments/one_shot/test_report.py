"""Accuracy by instance and its interval, against models whose accuracy is known."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mannkern.experiments.one_shot.config import INSTANCES, OneShotConfig
from mannkern.experiments.one_shot.report import Evaluation, accuracies, note, ordinal, percent, table, verdict
from mannkern.experiments.one_shot.scores import Scores, measure
from mannkern.tasks.characters.episodes import Episodes, EpisodeSampler
from mannkern.tasks.characters.labels import StringLabels
from mannkern.training import experiment
from mannkern.training.tables import run_names

CPU = torch.device("cpu")


class OracleFromLabels(nn.Module):
    """Sees each class as one bright pixel: right from the second time on, as an ideal memory would be."""

    def forward(self, inputs: Tensor) -> Tensor:
        pixels, labels = inputs[..., :400], inputs[..., 400:]
        known = torch.zeros(inputs.shape[1], 400, labels.shape[-1])
        logits = []
        for t in range(len(inputs)):
            if t:
                known += pixels[t - 1].unsqueeze(-1) * labels[t].unsqueeze(1)
            logits.append(torch.einsum("bp,bpc->bc", pixels[t], known))
        return torch.stack(logits)


class Coin(nn.Module):
    """Guesses one label for a whole episode: the outcomes of an episode are as dependent as they can be."""

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.rand(1, inputs.shape[1], 2).expand(len(inputs), -1, -1)


def spots(classes: int) -> Tensor:
    """(classes, 20, 20, 20) uint8: class c is one bright pixel."""
    images = torch.zeros(classes, 20, 400, dtype=torch.uint8)
    images[torch.arange(classes), :, torch.arange(classes)] = 255
    return images.view(classes, 20, 20, 20)


def test_what_a_table_says_by_hand() -> None:
    """Of two classes the first label is a guess of 1/2, the second can be ruled out: (1 + 1/2) / 2 = 75%."""
    assert "so 75.0% is possible" in note(OneShotConfig(classes=2))
    assert [ordinal(k) for k in (1, 2, 3, 4, 10)] == ["1st", "2nd", "3rd", "4th", "10th"]
    assert [percent(share) for share in (0.5, 0.0125, 1 / 3125)] == ["50.0%", "1.2%", "0.03%"]
    scores = Scores(1000, 1.0, 0.5, [0.25] + [math.nan] * 9, [0.05] + [math.nan] * 9)
    assert accuracies(scores) == [" 25.0% ± 5.0%", "-", "-", "-", "-", "-"]


def test_an_ideal_memory_knows_a_class_from_the_second_time() -> None:
    scores = measure(OracleFromLabels(), EpisodeSampler(spots(30)), 150, CPU)
    assert scores.episodes == 150
    assert scores.by_instance[0] < 0.5
    assert scores.by_instance[1:] == [1.0] * 9
    assert scores.interval[1:] == [0.0] * 9
    assert scores.accuracy == pytest.approx(sum(scores.by_instance) / 10)


def test_the_interval_holds_for_dependent_outcomes() -> None:
    """One guess for an episode of two classes is right on exactly half of each instance: the episodes agree."""
    scores = measure(Coin(), EpisodeSampler(spots(30), classes_per_episode=2, length=20), 200, CPU)
    assert scores.by_instance == [0.5] * 10
    assert scores.interval == [0.0] * 10


def test_the_interval_is_that_of_the_mean_over_episodes() -> None:
    class Noise(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return torch.rand(*inputs.shape[:2], 5)

    scores = measure(Noise(), EpisodeSampler(spots(30)), 1000, CPU)
    for accuracy, interval in zip(scores.by_instance, scores.interval, strict=True):
        assert interval == pytest.approx(1.96 * math.sqrt(0.2 * 0.8 / 5 / 1000), rel=0.15)
        assert abs(accuracy - 0.2) < 3 * interval


def test_instances_that_never_come_are_none() -> None:
    scores = measure(OracleFromLabels(), EpisodeSampler(spots(30), classes_per_episode=3, length=6), 20, CPU)
    record = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert record["accuracy_by_instance"]["2"] == 1
    assert record["accuracy_by_instance"]["3"] is None
    assert record["interval_95_by_instance"]["3"] is None


def test_measuring_moves_no_generator_and_keeps_the_mode() -> None:
    model = Coin().train()
    state = torch.get_rng_state()
    first = measure(model, EpisodeSampler(spots(30), classes_per_episode=2, length=2), 30, CPU)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    again = measure(model, EpisodeSampler(spots(30), classes_per_episode=2, length=2), 30, CPU)
    assert first.loss == again.loss
    assert model.training


def test_each_batch_has_episodes_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 230 episodes, in batches of 100. The same ones again would narrow the interval without a reason."""
    drawn, real = [], EpisodeSampler.sample

    def sample(self: EpisodeSampler, batch_size: int, index: int) -> Episodes:
        drawn.append((batch_size, index))
        return real(self, batch_size, index)

    monkeypatch.setattr(EpisodeSampler, "sample", sample)
    sampler = EpisodeSampler(spots(6), classes_per_episode=2, length=2)
    assert measure(OracleFromLabels(), sampler, 230, CPU).episodes == 230
    assert drawn == [(100, 0), (100, 1), (30, 2)]


def result(run: str, config: OneShotConfig, level: float) -> Evaluation:
    scores = Scores(1000, 1.0, level, [level] * 10, [0.01] * 10)
    return Evaluation(Path(run), config, 12, scores, scores, scores)


def test_the_table_has_a_column_for_each_run_and_chance() -> None:
    lines = table([result("a", OneShotConfig(), 0.8), result("b", OneShotConfig(model="lstm"), 0.6)]).splitlines()
    assert "1,000 episodes" in lines[0]
    assert lines[4].split() == ["instance", "MANN", "LSTM", "chance"]
    assert [line.split()[0] for line in lines[5:11]] == ["1st", "2nd", "3rd", "4th", "5th", "10th"]
    assert lines[5].split() == ["1st", "80.0%", "±", "1.0%", "60.0%", "±", "1.0%", "20.0%"]


@pytest.mark.parametrize(
    ("first", "last", "begins"),
    [
        (
            0.3,
            0.93,
            "The model learned: at the 10th presentation of an unseen class it is right in 93.0%, and ",
        ),
        (
            0.3,
            0.45,
            "The model has begun to learn: at the 10th presentation of an unseen class it is right in 45.0%",
        ),
        (
            0.3,
            0.59,  # chance is 0.2, so half the way to knowing all is 0.6
            "The model has begun to learn: at the 10th presentation of an unseen class it is right in 59.0%",
        ),
        (
            0.3,
            0.31,
            "The model has not learned: at the 10th presentation of an unseen class it is right in 31.0%",
        ),
    ],
)
def test_a_sentence_says_whether_the_model_learned(first: float, last: float, begins: str) -> None:
    scores = Scores(1000, 1.0, 0.5, [first] + [0.4] * 8 + [last], [0.01] * 10)
    sentence = verdict(Evaluation(Path("runs/a"), OneShotConfig(), 100, scores, scores, scores))
    assert sentence.startswith(begins)
    assert "chance is 20.0%." in sentence
    assert ("--run runs/a --resume --steps" in sentence) == (last < 0.9)


def test_few_answers_do_not_decide() -> None:
    """Of 13 steps with 3 classes a class has 4 on average. That one comes ten times is luck, and says nothing."""
    config = OneShotConfig(classes=3, length=13, until=0.9)
    assert (config.judged, OneShotConfig().judged, OneShotConfig(classes=5, length=4).judged) == (4, 10, 1)
    lucky = [0.3, 0.4, 0.4, 0.4, *[math.nan] * 5, 1.0]
    scores = Scores(100, 1.0, 0.4, lucky, [0.01] * 4 + [math.nan] * 6)
    assert not config.is_reached(scores.summary(INSTANCES))
    assert config.is_reached(scores._replace(by_instance=[0.3, 0.4, 0.4, 0.95, *lucky[4:]]).summary(INSTANCES))
    assert verdict(Evaluation(Path("a"), config, 9, scores, scores, scores)).startswith(
        "The model has begun to learn: at the 4th presentation of an unseen class it is right in 40.0%"
    )
    assert accuracies(scores)[-2:] == ["-", "100.0%"]


@pytest.mark.parametrize(
    ("limits", "step", "option", "most"),
    [
        ({"steps": 12}, 12, "STEPS", "12"),
        ({"minutes": 1.5}, 12, "MINUTES", "1.5"),
        ({"steps": 12, "minutes": 3.0}, 12, "STEPS", "12"),
        ({"steps": 12, "minutes": 3.0}, 11, "MINUTES", "3"),
        ({}, 10_000, "STEPS", "10,000"),
    ],
)
def test_more_training_moves_the_limit_that_ended_it(limits: dict[str, Any], step: int, option: str, most: str) -> None:
    scores = Scores(1000, 1.0, 0.5, [0.3] * 10, [0.01] * 10)
    sentence = verdict(Evaluation(Path("runs/a b"), OneShotConfig(**limits), step, scores, scores, scores))
    assert f"More training ({option} counts the whole run: more than {most} in all): " in sentence
    assert sentence.endswith(f"python -m mannkern train --run 'runs/a b' --resume --{option.lower()} {option}")


def test_runs_of_one_model_are_told_apart_by_folder() -> None:
    lines = table([result("a", OneShotConfig(), 0.8), result("b", OneShotConfig(), 0.6)]).splitlines()
    assert lines[4].split() == ["instance", "MANN", "a", "MANN", "b", "chance"]


def test_a_run_and_its_exported_file_are_told_apart() -> None:
    """The file is called by its stem, which is the folder's name where both are here."""
    results = [result(name, OneShotConfig(), 0.8) for name in ("a.safetensors", "b", "a")]
    assert run_names(results[:2]) == ["MANN a", "MANN b"]
    assert run_names(results) == ["MANN a.safetensors", "MANN b", "MANN a"]


def test_the_paper_stands_beside_omniglot_only() -> None:
    assert "98.1%" in table([result("a", OneShotConfig(task="omniglot"), 0.8)])
    assert "98.1%" not in table([result("a", OneShotConfig(task="omniglot", classes=10), 0.8)])
    assert "98.1%" not in table([result("a", OneShotConfig(), 0.8)])


def test_the_papers_test_stands_beside_its_figures() -> None:
    """It has unequal numbers of drawings: the other form of a run that was trained on equal ones."""
    equal = result("a", OneShotConfig(task="omniglot", balanced=True), 0.8)
    assert "paper's test" not in table([equal])
    other = equal.augmented._replace(by_instance=[0.7] * 10)
    assert table([equal._replace(other_augmented=other)]).count("70.0% ± 1.0%") == 6
    unequal = result("a", OneShotConfig(task="omniglot"), 0.8)
    assert table([unequal._replace(other_augmented=other)]).count("80.0% ± 1.0%") == 12
    assert "paper's test" not in table([result("a", OneShotConfig(), 0.8)]), "of glyphs the paper has none"


def test_strings_have_a_chance_and_a_paper_of_their_own() -> None:
    five = table([result("a", OneShotConfig(task="omniglot", labels="strings"), 0.8)])
    assert "93.1%" in five
    assert "98.1%" not in five
    assert [line.split()[4] for line in five.splitlines() if "% ± " in line] == ["0.03%"] * 6
    assert "a string of the episode at random is right for 20.0%" in five
    fifteen = OneShotConfig(task="omniglot", labels="strings", classes=15, length=100, balanced=False)
    assert "95.3%" in table([result("a", fifteen, 0.8)])


def test_a_curriculum_has_a_table_by_classes() -> None:
    config = OneShotConfig(labels="strings", curriculum=True, classes=15, length=150)
    one = result("a", config, 0.8)
    text = table([one._replace(by_classes={15: one.unseen, 50: one.seen._replace(by_instance=[0.5] * 10)}, step=1251)])
    head, _, top, first, *_ = text.split("\n\n", 2)[2].splitlines()
    assert head == "MANN, trained on 15 to 17 classes, by classes in an episode"
    assert top.split() == ["instance", "15", "classes", "50", "classes"]
    assert first.split() == ["1st", "80.0%", "±", "1.0%", "50.0%", "±", "1.0%"]


def test_a_long_episode_is_measured_in_small_batches() -> None:
    class Watched(OracleFromLabels):
        most = 0

        def forward(self, inputs: Tensor) -> Tensor:
            self.most = max(self.most, inputs[..., 0].numel())
            return super().forward(inputs)

    model = Watched()
    sampler = EpisodeSampler(spots(100), classes_per_episode=100, length=1000, labels=StringLabels())
    scores = measure(model, sampler, 31, CPU)
    assert scores.episodes == 31
    assert model.most == 15_000, "drawings at once, as of 100 episodes of 150 steps"
    assert scores.by_instance[1:] == [1.0] * 9


def test_validation_and_evaluation_see_other_episodes() -> None:
    assert experiment.VALIDATION_SEED != experiment.EVALUATION_SEED
