"""Few-shot classification as an experiment: loss, accuracy and its interval, against models that are known."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mannkern.experiments.characters import drawings_of
from mannkern.experiments.few_shot.config import FewShotConfig
from mannkern.experiments.few_shot.experiment import FewShotExperiment, make_model, measure, test_sampler
from mannkern.experiments.registry import config_classes, kind_of, load_config
from mannkern.files import write_json
from mannkern.models import MatchingNetwork, MetaNetwork
from mannkern.tasks import glyphs
from mannkern.tasks.characters.few_shot import FewShotEpisodes, FewShotSampler
from mannkern.training.errors import CommandError

CPU = torch.device("cpu")
MODELS = ("matching", "matching-fce", "meta-networks")

test_sampler.__test__ = False  # type: ignore[attr-defined]  # no test, whatever its name


class Answer(nn.Module):
    """Logits by a function of the support set, its labels and the queries."""

    def __init__(self, function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, support: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
        return self.function(support, labels, queries)


def nearest(support: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
    """Right where a class is one bright pixel: 20 for the label of the drawing that is the same, else 0."""
    same = queries.flatten(2) @ support.flatten(2).mT
    return 20 * same @ nn.functional.one_hot(labels).float()


def spots(classes: int) -> Tensor:
    """(classes, 20, 20, 20) uint8: class c is one bright pixel."""
    images = torch.zeros(classes, 20, 400, dtype=torch.uint8)
    images[torch.arange(classes), :, torch.arange(classes)] = 255
    return images.view(classes, 20, 20, 20)


@pytest.fixture(autouse=True)
def few_glyphs(monkeypatch: pytest.MonkeyPatch) -> None:
    split = glyphs.load(num_train=6, num_test=4)
    monkeypatch.setattr(glyphs, "load", lambda: split)


def test_example() -> None:
    """Of 3 queries 2 are right, then 3: 5/6. A wrong answer costs log(1 + e), a right one log(1 + 1/e)."""
    experiment = FewShotExperiment(FewShotConfig(classes=2))
    targets = torch.tensor([[0, 1, 0]])
    batch = FewShotEpisodes(torch.zeros(1, 2, 4, 4), torch.tensor([[0, 1]]), torch.zeros(1, 3, 4, 4), targets)
    wrong_at_first = torch.eye(2)[torch.tensor([[1, 1, 0]])]
    loss, first = experiment.loss_and_sums(Answer(lambda *_: wrong_at_first), batch)
    assert loss == pytest.approx((math.log(1 + math.e) + 2 * math.log(1 + 1 / math.e)) / 3)
    assert first.tolist() == [2, 3]
    _, second = experiment.loss_and_sums(Answer(lambda *_: torch.eye(2)[targets]), batch)
    assert len(first) == experiment.num_sums
    assert experiment.summarize((first + second).tolist(), 2.0) == pytest.approx({"accuracy": 5 / 6})
    assert experiment.progress_text({"accuracy": 0.5}) == "accuracy 50.0%"


def test_a_model_that_matches_and_one_that_guesses() -> None:
    sampler = FewShotSampler(spots(30), shots=2, queries=3)
    right = measure(Answer(nearest), sampler, 150, CPU)
    assert (right.episodes, right.accuracy, right.interval) == (150, 1.0, 0.0)
    assert right.loss == pytest.approx(math.log(1 + 4 * math.exp(-40)), abs=1e-6)
    first = measure(Answer(lambda s, y, q: torch.eye(5)[0].expand(len(q), 15, 5)), sampler, 150, CPU)
    assert first.accuracy == pytest.approx(0.2)
    assert first.interval == pytest.approx(0, abs=1e-9), "each episode has as many queries of each class"
    assert first.loss == pytest.approx(math.log(math.e + 4) - 0.2, abs=1e-6)


def test_the_interval_is_that_of_the_mean_over_episodes() -> None:
    sampler = FewShotSampler(spots(30), queries=4)
    scores = measure(Answer(lambda s, y, q: torch.rand(len(q), 20, 5)), sampler, 1000, CPU)
    assert scores.interval == pytest.approx(1.96 * math.sqrt(0.2 * 0.8 / 20 / 1000), rel=0.15)
    assert abs(scores.accuracy - 0.2) < 3 * scores.interval
    assert scores.to_dict()["interval_95"] == scores.interval


def test_measuring_moves_no_generator_and_keeps_the_mode() -> None:
    model = Answer(lambda s, y, q: torch.rand(len(q), 25, 5)).train()
    state = torch.get_rng_state()
    first = measure(model, FewShotSampler(spots(30)), 30, CPU)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    assert first == measure(model, FewShotSampler(spots(30)), 30, CPU)
    assert model.training


def test_each_batch_has_episodes_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """About 1,000 drawings at once, 30 in an episode. The same episodes again would narrow the interval."""
    drawn, real = [], FewShotSampler.sample

    def sample(self: FewShotSampler, batch_size: int, index: int) -> FewShotEpisodes:
        drawn.append((batch_size, index))
        return real(self, batch_size, index)

    monkeypatch.setattr(FewShotSampler, "sample", sample)
    assert measure(Answer(nearest), FewShotSampler(spots(30)), 70, CPU).episodes == 70
    assert drawn == [(33, 0), (33, 1), (4, 2)]


@pytest.mark.parametrize(("augment", "rotate"), [(False, False), (True, False), (False, True)])
def test_training_drawings_are_changed_as_the_settings_say(augment: bool, rotate: bool) -> None:
    """Those of a test never are."""
    config = FewShotConfig(classes=3, augment=augment, rotate_classes=rotate)
    experiment, split = FewShotExperiment(config), glyphs.load()
    for episodes, images, changed in (
        (experiment.sample(0, CPU), split.train, augment or rotate),
        (test_sampler(config, split.test, 7).sample(16, 0), split.test, False),
    ):
        known = {tuple(image.flatten().tolist()) for image in images.flatten(0, 1)}
        shown = {tuple(image.flatten().tolist()) for image in (255 * episodes.support).round().flatten(0, 1)}
        assert (shown <= known) != changed


def test_a_batch_depends_on_the_seed_and_the_step_alone() -> None:
    config = FewShotConfig(classes=3, batch_size=2)
    one, other = FewShotExperiment(config), FewShotExperiment(replace(config, width=5, model="matching-fce"))
    one.sample(0, CPU)
    assert all(torch.equal(a, b) for a, b in zip(one.sample(9, CPU), other.sample(9, CPU), strict=True))
    seeded = FewShotExperiment(replace(config, seed=1)).sample(9, CPU)
    assert not torch.equal(seeded.support, one.sample(9, CPU).support)


def test_runs_are_measured_on_the_same_queries() -> None:
    """Whatever number they train with, on drawings as they were drawn; fewer where a class has no more drawings."""
    images = glyphs.load().test
    one, other = (test_sampler(FewShotConfig(classes=3, queries=queries), images, 7) for queries in (1, 9))
    assert all(torch.equal(a, b) for a, b in zip(one.sample(2, 0), other.sample(2, 0), strict=True))
    assert set((255 * one.sample(2, 0).support).round().byte().unique().tolist()) <= set(images.unique().tolist())
    assert test_sampler(FewShotConfig(classes=3, shots=18), images, 7).queries == 2


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("shots", [1, 3])
def test_every_model_takes_an_episode(model: str, shots: int) -> None:
    config = FewShotConfig(classes=3, shots=shots, queries=2, width=8, batch_size=2, model=model)
    experiment = FewShotExperiment(config)
    loss, sums = experiment.loss_and_sums(experiment.make_model(), experiment.sample(0, CPU))
    loss.backward()
    assert sums.shape == (experiment.num_sums,)
    assert sums[1] == 12
    found = experiment.validate(experiment.make_model(), CPU)
    assert 0 <= found["accuracy"] <= 1
    assert found["loss"] > 0


def test_settings_reach_the_model() -> None:
    config = FewShotConfig(classes=7, width=9, strength=3.0, context_steps=4, backend="reference", model="matching-fce")
    model = make_model(config)
    assert isinstance(model, MatchingNetwork)
    assert (model.num_classes, model.strength, model.backend) == (7, 3.0, "reference")
    assert model.query_context is not None
    assert (model.embedding.width, model.query_context.steps) == (9, 4)
    plain = make_model(replace(config, model="matching"))
    assert isinstance(plain, MatchingNetwork)
    assert plain.support_context is None
    meta = make_model(replace(config, model="meta-networks", augmented_blocks=2))
    assert isinstance(meta, MetaNetwork)
    assert (meta.num_classes, meta.strength, meta.backend, meta.learner.hidden.out_features) == (7, 3.0, "reference", 9)
    assert len(meta.learner.convolutions) == len(meta.embedding.convolutions) == 2


def test_a_model_that_cannot_be() -> None:
    with pytest.raises(CommandError, match="--augmented-blocks: got 5, need 0 to blocks = 4"):
        make_model(FewShotConfig(model="meta-networks", augmented_blocks=5))


def test_both_tasks_are_opened() -> None:
    assert isinstance(kind_of("few-shot-glyphs").open(FewShotConfig(classes=3)), FewShotExperiment)
    classes = config_classes()
    assert classes["few-shot-omniglot"] is classes["few-shot-glyphs"] is FewShotConfig
    with pytest.raises(CommandError, match="few-shot-omniglot needs its folder"):
        kind_of("few-shot-omniglot").open(FewShotConfig(task="few-shot-omniglot"))


def test_a_config_survives_json(tmp_path: Path) -> None:
    config = FewShotConfig(task="few-shot-omniglot", data="x", shots=5, model="matching-fce", lr=3e-4)
    write_json(tmp_path / "config.json", config.to_dict())
    assert load_config(tmp_path) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "mann"}, "--model: got mann, need one of matching"),
        ({"task": "glyphs"}, "--task: got glyphs"),
        ({"shots": 0}, "--shots: got 0"),
        ({"queries": 0}, "--queries: got 0"),
        ({"classes": 0}, "--classes: got 0"),
        ({"width": 0}, "--width: got 0"),
        ({"context_steps": 0}, "--context-steps: got 0"),
        ({"strength": 0.0}, "--strength: got 0.0, need a number above 0"),
    ],
)
def test_what_cannot_be_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FewShotConfig(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("values", [{"classes": 25}, {"shots": 20}, {"shots": 10, "queries": 11}])
def test_sizes_that_the_data_do_not_have(values: dict[str, int]) -> None:
    with pytest.raises(CommandError, match="need at most"):
        FewShotExperiment(FewShotConfig(**values))  # type: ignore[arg-type]


def test_runs_compare_where_their_episodes_are_the_same() -> None:
    assert FewShotConfig().comparable == FewShotConfig(model="matching-fce", queries=3, lr=1.0).comparable
    for change in ({"classes": 20}, {"shots": 5}, {"task": "few-shot-omniglot"}):
        assert FewShotConfig().comparable != FewShotConfig(**change).comparable  # type: ignore[arg-type]


def test_every_model_has_a_strength_of_its_own() -> None:
    strengths = {name: FewShotConfig(model=name).strength for name in ("matching", "matching-fce", "meta-networks")}
    assert strengths == {"matching": 10.0, "matching-fce": 10.0, "meta-networks": 1.0}
    assert FewShotConfig(model="meta-networks", strength=3.0).strength == 3.0
    assert FewShotConfig(model="meta-memory").strength is None
    with pytest.raises(ValueError, match="--strength does not apply to meta-memory, which learns it"):
        FewShotConfig(model="meta-memory", strength=3.0)


@pytest.mark.parametrize("side", [20, 28])
def test_larger_drawings_are_reduced_to_the_size_of_training(side: int) -> None:
    config = FewShotConfig(task="few-shot-omniglot", drawing_side=side)
    small = torch.randint(256, (2, side, side), dtype=torch.uint8)
    doubled = small.repeat_interleave(2, 1).repeat_interleave(2, 2)
    torch.testing.assert_close(drawings_of("queries", doubled, config), drawings_of("queries", small, config))
