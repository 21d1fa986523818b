"""Episodes as an experiment: loss and accuracy by instance of a batch."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mannkern.experiments.one_shot import experiment as experiment_module
from mannkern.experiments.one_shot.config import OneShotConfig
from mannkern.experiments.one_shot.experiment import (
    MEAN_OF,
    OneShotExperiment,
    augmented_test_sampler,
    chance,
    make_model,
)
from mannkern.models import EpisodeClassifier
from mannkern.tasks import glyphs
from mannkern.tasks.characters.episodes import Episodes
from mannkern.tasks.characters.labels import encode


class Always(nn.Module):
    """Answers the same whatever is asked."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, inputs: Tensor) -> Tensor:
        return self.logits


def test_example(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two batches have 4 first instances and 2 second; one first is wrong: 5/6 are right, of the first 3/4."""
    split = glyphs.load(num_train=6, num_test=4)
    monkeypatch.setattr(glyphs, "load", lambda: split)
    experiment = OneShotExperiment(OneShotConfig(classes=2, length=6))
    targets = torch.tensor([[0], [1], [0]])
    episodes = Episodes(torch.zeros(3, 1, 1), targets, torch.tensor([[1], [1], [2]]), targets.unsqueeze(-1))
    wrong_at_first = torch.eye(2)[torch.tensor([[1], [1], [0]])]
    loss, first = experiment.loss_and_sums(Always(wrong_at_first), episodes)
    assert loss == pytest.approx((math.log(1 + math.e) + 2 * math.log(1 + 1 / math.e)) / 3)
    _, second = experiment.loss_and_sums(Always(torch.eye(2)[targets]), episodes)
    assert len(first) == experiment.num_sums
    summary = experiment.summarize((first + second).tolist(), 2.0)
    assert summary["accuracy"] == pytest.approx(5 / 6)
    assert summary["accuracy_by_instance"] == {"1": 0.75, "2": 1.0, "3": None, "4": None, "5": None, "10": None}


def test_a_curriculum_adds_a_class_each_ten_thousand_episodes() -> None:
    """Section 4.2.2 of the paper: from 15 classes, one more each 10,000 episodes; ten drawings of each."""
    config = OneShotConfig(task="omniglot", labels="strings", curriculum=True, classes=15, length=150)
    grown = {step: config.at_step(step) for step in (0, 624, 625, 1249, 1250, 6249, 6250, 10**6)}
    assert [grown[step].classes for step in grown] == [15, 15, 16, 16, 17, 24, 25, 100]
    assert all(later.length == 10 * later.classes for later in grown.values())
    fixed = replace(config, curriculum=False)
    assert fixed.at_step(10**6) == fixed
    with pytest.raises(ValueError, match="--curriculum needs --labels strings"):
        OneShotConfig(curriculum=True)
    sooner = replace(config, curriculum_episodes=1000)
    assert [sooner.at_step(step).classes for step in (0, 62, 63, 125, 5375)] == [15, 15, 16, 17, 100]
    with pytest.raises(ValueError, match="--curriculum-episodes needs --curriculum"):
        OneShotConfig(curriculum_episodes=1000)
    with pytest.raises(ValueError, match="--curriculum-episodes: got 0, need at least 1"):
        replace(config, curriculum_episodes=0)


def test_the_classes_of_a_batch_depend_on_the_step_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    split = glyphs.load(num_train=6, num_test=4)
    monkeypatch.setattr(glyphs, "load", lambda: split)
    sizes = {"classes": 2, "length": 6, "batch_size": 2}
    config = OneShotConfig(**sizes, labels="strings", curriculum=True, curriculum_episodes=8)
    one, other = OneShotExperiment(config), OneShotExperiment(config)
    cpu = torch.device("cpu")
    first = {step: one.sample(step, cpu) for step in (0, 3, 4, 8)}
    assert [len(first[step].targets) for step in first] == [6, 6, 9, 12]
    assert [int(first[step].targets.max()) for step in first] == [1, 1, 2, 3]
    for step in (8, 0, 4, 3):
        assert all(torch.equal(a, b) for a, b in zip(other.sample(step, cpu), first[step]))


def test_a_string_is_answered_by_25_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    split = glyphs.load(num_train=6, num_test=4)
    monkeypatch.setattr(glyphs, "load", lambda: split)
    experiment = OneShotExperiment(OneShotConfig(classes=3, length=7, balanced=False, labels="strings", hidden_size=8))
    batch = experiment.sample(0, torch.device("cpu"))
    assert experiment.make_model()(batch.inputs).shape == (7, 16, 25)
    perfect = 30 * encode(batch.symbols, 25)
    loss, sums = experiment.loss_and_sums(Always(perfect), batch)
    assert loss < 1e-9
    assert sums[:2].tolist() == [7 * 16, 7 * 16]
    blind, _ = experiment.loss_and_sums(Always(torch.zeros_like(perfect)), batch)
    assert blind == pytest.approx(-math.log(chance(experiment.config)))


def test_the_papers_test_is_augmented_on_unseen_classes() -> None:
    images = torch.zeros(5, 20, 20, 20, dtype=torch.uint8)
    images[:, :, 3:6, 4:12] = 255
    config = OneShotConfig()
    plain, augmented = (
        make(config, images, 7).sample(3, 0) for make in (experiment_module.test_sampler, augmented_test_sampler)
    )
    assert len(plain.inputs[..., :400].reshape(-1, 400).unique(dim=0)) == 1
    assert len(augmented.inputs[..., :400].reshape(-1, 400).unique(dim=0)) == 150
    original = replace(config, task="omniglot", augment_at="original")
    large = augmented_test_sampler(original, torch.zeros(5, 20, 105, 105, dtype=torch.uint8), 7)
    assert large.sample(1, 0).inputs.shape == (50, 1, 405)


def test_drawings_are_shifted_by_as_much_at_either_resolution() -> None:
    """By up to 2 pixels of 20; at 105 x 105, before they are reduced, by up to 10, which are 1.9 of 20."""
    for original, side, most in ((False, 20, 2.0), (True, 105, 10 * 20 / 105)):
        images = torch.zeros(5, 20, side, side, dtype=torch.uint8)
        images[..., side * 2 // 5 : side - side * 2 // 5, side * 2 // 5 : side - side * 2 // 5] = 255
        config = OneShotConfig(task="omniglot", augment_at="original" if original else "reduced")
        x = augmented_test_sampler(config, images, 7).sample(8, 0).inputs[..., :400].reshape(-1, 20, 20)
        right = x.sum(1) @ (torch.arange(20) - 9.5) / x.sum((1, 2))
        assert 0.97 * most < right.abs().max() < most + 0.05


def test_an_ntm_has_as_many_write_heads_as_read_heads() -> None:
    """As a MANN, so that the two compare."""
    assert OneShotConfig(model="ntm", num_reads=3).core_settings(405).num_writes == 3


def test_a_summed_loss_is_the_mean_times_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    split = glyphs.load(num_train=6, num_test=4)
    monkeypatch.setattr(glyphs, "load", lambda: split)
    config = OneShotConfig(classes=2, length=6)
    mean, summed = (OneShotExperiment(replace(config, loss=loss)) for loss in ("mean", "sum"))
    batch = mean.sample(0, torch.device("cpu"))
    blind = Always(torch.zeros(6, 16, 2))
    assert mean.loss_and_sums(blind, batch)[0] == pytest.approx(math.log(2))
    assert summed.loss_and_sums(blind, batch)[0] == pytest.approx(6 * math.log(2))


@pytest.mark.parametrize(("model", "controller"), [("mann", "lstm"), ("mann", "feedforward"), ("ntm", "lstm")])
def test_reads_that_are_not_fed_back_leave_the_controller_as_it_is(
    monkeypatch: pytest.MonkeyPatch, model: str, controller: str
) -> None:
    """Its weights for reads are 0 and get no gradient, so an optimizer leaves them at 0; those for inputs do."""
    split = glyphs.load(num_train=6, num_test=4)
    monkeypatch.setattr(glyphs, "load", lambda: split)
    sizes = {"classes": 2, "length": 6, "hidden_size": 8, "memory_slots": 6, "memory_width": 4, "num_reads": 2}
    config = OneShotConfig(model=model, controller=controller, feed_reads=False, **sizes)
    experiment = OneShotExperiment(config)
    network, batch = experiment.make_model(), experiment.sample(0, torch.device("cpu"))
    controller_module = network.recurrent.cell.controller
    weight = controller_module.weight_ih if controller == "lstm" else controller_module.linear.weight
    experiment.loss_and_sums(network, batch)[0].backward()
    assert not weight[:, 402:].any()
    assert not weight.grad[:, 402:].any()
    assert weight.grad[:, :402].any()
    state = network.recurrent.initial_state(16)
    seen = [
        network.recurrent(batch.inputs, state._replace(read=read))[0][0, :, :8] for read in (state.read, state.read + 1)
    ]
    assert torch.equal(*seen)


def test_heads_write_their_keys_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    split = glyphs.load(num_train=6, num_test=4)
    monkeypatch.setattr(glyphs, "load", lambda: split)
    sizes = [
        OneShotExperiment(OneShotConfig(classes=2, length=6, write=write))
        .make_model()
        .recurrent.cell.interface.out_features
        for write in ("add", "key")
    ]
    assert sizes == [2 * 4 * 40 + 2 * 4, 4 * 40 + 2 * 4]


@pytest.mark.parametrize("write", ["add", "key"])
def test_keys_start_as_sharp_as_asked(monkeypatch: pytest.MonkeyPatch, write: str) -> None:
    split = glyphs.load(num_train=6, num_test=4)
    monkeypatch.setattr(glyphs, "load", lambda: split)
    sizes = {"classes": 2, "length": 6, "hidden_size": 8, "memory_slots": 6, "memory_width": 4, "num_reads": 2}
    config = OneShotConfig(key_strength=True, initial_strength=6.0, write=write, **sizes)
    cell = OneShotExperiment(config).make_model().recurrent.cell
    vector = cell.interface_vector(torch.zeros(1, 8))
    assert vector.strength.tolist()[0] == pytest.approx([6, 6])
    assert vector.gate.tolist() == [[0, 0]]
    with pytest.raises(ValueError, match="--initial-strength needs --key-strength"):
        OneShotConfig(initial_strength=6.0, key_strength=False)
    with pytest.raises(ValueError, match=r"--initial-strength: got 1\.0, need a number above 1"):
        OneShotConfig(initial_strength=1.0, key_strength=True)


def initial_weights(**settings: Any) -> Tensor:
    """The weights (G, F') of the first layer of a new model that sees two classes of glyphs."""
    torch.manual_seed(0)
    sizes = {"classes": 2, "length": 6, "hidden_size": 8, "memory_width": 4, "num_reads": 2}
    core = make_model(OneShotConfig(**sizes, **settings)).recurrent
    if settings.get("model", "mann") == "mann":
        controller = core.cell.controller
        return controller.linear.weight if settings.get("controller") == "feedforward" else controller.weight_ih
    return core.weight_ih_l0 if settings["model"] == "lstm" else core[0].weight


MODELS = [{}, {"controller": "feedforward"}, {"model": "lstm"}, {"model": "feedforward"}]


@pytest.mark.parametrize("model", MODELS, ids=["mann", "mann feedforward", "lstm", "feedforward"])
def test_initial_weights_for_inputs_grow_by_the_gain(model: dict[str, Any]) -> None:
    plain, grown = (initial_weights(input_gain=gain, input_smoothness=0.0, **model) for gain in (1.0, 3.0))
    assert torch.equal(3 * plain[:, :402], grown[:, :402])
    assert torch.equal(plain[:, 402:], grown[:, 402:])
    with pytest.raises(ValueError, match=r"--input-gain: got 0\.0, need a number above 0"):
        OneShotConfig(input_gain=0.0)


@pytest.mark.parametrize("model", MODELS, ids=["mann", "mann feedforward", "lstm", "feedforward"])
def test_initial_weights_for_images_are_smoothed(model: dict[str, Any]) -> None:
    """Each is the mean of those around it, weighted by a Gaussian of their distance, up to one common factor."""
    plain, smooth = (initial_weights(input_gain=1.0, input_smoothness=by, **model).double() for by in (0.0, 1.5))
    places = torch.cartesian_prod(torch.arange(20.0), torch.arange(20.0)).double()
    expected = plain[:, :400] @ torch.exp(-(torch.cdist(places, places) ** 2) / (2 * 1.5**2))
    expected *= plain[:, :400].std() / expected.std()
    torch.testing.assert_close(smooth[:, :400], expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(plain[:, 400:], smooth[:, 400:])
    with pytest.raises(ValueError, match=r"--input-smoothness: got -1\.0, need 0 or a number above it"):
        OneShotConfig(input_smoothness=-1.0)


def test_the_mean_image_of_training_is_subtracted(monkeypatch: pytest.MonkeyPatch) -> None:
    split = glyphs.load(num_train=6, num_test=4)
    monkeypatch.setattr(glyphs, "load", lambda: split)
    monkeypatch.setattr(experiment_module, "MEAN_OF", MEAN_OF)  # other tests take fewer
    sizes = {"classes": 2, "length": 6, "hidden_size": 8, "memory_width": 4, "num_reads": 2}
    experiment = OneShotExperiment(OneShotConfig(**sizes, augment=False, rotate_classes=False))
    model = experiment.make_model()
    drawings = split.train.flatten(0, 1).flatten(1).double()
    mean = (drawings / drawings.amax(1, keepdim=True)).mean(0)
    assert model.mean is not None
    torch.testing.assert_close(model.mean[:400].double(), mean, rtol=0, atol=0.01)  # of 20,000 drawn at random
    assert model.mean[400:].tolist() == [0, 0]
    inputs = experiment.sample(0, torch.device("cpu")).inputs
    without = EpisodeClassifier(model.recurrent, 2)
    without.head = model.head
    torch.testing.assert_close(model(inputs), without(inputs - model.mean), rtol=0, atol=0)
    torch.testing.assert_close(model.trace(inputs).logits, model(inputs))
    again = make_model(experiment.config)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(inputs), model(inputs)), "the mean is saved with the parameters"
    assert OneShotExperiment(OneShotConfig(**sizes, subtract_mean=False)).make_model().mean is None


def test_runs_from_before_the_smooth_start_keep_their_own() -> None:
    values = OneShotConfig().to_dict()
    for name in ("subtract_mean", "input_smoothness", "input_gain"):
        del values[name]
    earlier = OneShotConfig.from_dict(values)
    assert (earlier.subtract_mean, earlier.input_smoothness, earlier.input_gain) == (False, 0.0, 1.0)
