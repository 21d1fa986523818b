"""Zero-shot classification as an experiment: where gradients flow, the command line, resuming."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from mannkern.experiments.registry import train
from mannkern.experiments.zero_shot.config import ZeroShotConfig
from mannkern.experiments.zero_shot.experiment import ZeroShotExperiment
from mannkern.models import MetaMemoryNetwork
from mannkern.tasks import CharacterSplit, glyphs, omniglot
from mannkern.tasks.characters.descriptions import ATTRIBUTES
from mannkern.training.checkpoint import load_checkpoint
from tests.commands.calls import refused, run

CPU = torch.device("cpu")
SMALL = ZeroShotConfig(
    classes=3, queries=2, width=4, hidden_size=5, batch_size=2, log_every=2, validate_every=4, threads=1, steps=4,
)  # fmt: skip


@pytest.fixture(autouse=True)
def few_glyphs(monkeypatch: pytest.MonkeyPatch) -> None:
    split = glyphs.load(num_train=6, num_test=4)
    monkeypatch.setattr(glyphs, "load", lambda: split)


def test_descriptions_that_are_embedded_as_queries_are_read_exactly() -> None:
    """Descriptions and queries share a space: the memory's answer alone names the class of an equal vector."""
    model = MetaMemoryNetwork(nn.Identity(), 3, 3, steps=0, describe=nn.Linear(2, 3, bias=False), strength=100.0)
    with torch.no_grad():
        model.describe.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [0, 0]]))  # type: ignore[union-attr, operator]
        for parameter in model.answer.output.parameters():
            parameter.zero_()
    support = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    queries = torch.tensor([[[0.0, 2.0, 0.0], [3.0, 0.0, 0.0]]])
    logits = model(support, torch.tensor([[2, 0]]), queries)
    torch.testing.assert_close(logits, torch.tensor([[[10.0, 0, 0], [0, 0, 10]]]), atol=1e-4, rtol=0)
    torch.testing.assert_close(model.adapt(support, torch.tensor([[2, 0]]))(queries), logits)


def test_training_reaches_the_description() -> None:
    experiment = ZeroShotExperiment(SMALL)
    assert experiment.sampler.description_size == ATTRIBUTES, "glyphs have no alphabets"
    model = experiment.make_model()
    loss, sums = experiment.loss_and_sums(model, experiment.sample(0, CPU))
    loss.backward()
    assert sums[1] == 2 * 3 * 2
    assert model.describe is not None
    for parameter in (*model.describe.parameters(), *model.embedding.parameters()):
        assert parameter.grad is not None
        assert bool(parameter.grad.isfinite().all())
    assert experiment.summarize([3, 12], 1.0) == {"accuracy": 0.25}


@pytest.mark.parametrize("alphabet", [True, False])
def test_a_description_has_the_alphabet_or_not(alphabet: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(SMALL, task="zero-shot-omniglot", data="somewhere", alphabet=alphabet)
    images = torch.randint(256, (6, 20, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    numbers = torch.arange(6) % len(omniglot.ALPHABETS)
    monkeypatch.setattr(omniglot, "load", lambda *_, **__: CharacterSplit(images, images))
    monkeypatch.setattr(omniglot, "alphabets", lambda split: CharacterSplit(numbers, numbers))
    experiment = ZeroShotExperiment(config)
    numbers_of_a_description = ATTRIBUTES + (50 if alphabet else 0)
    support = experiment.sample(0, CPU).support
    assert support.shape[-1] == experiment.sampler.description_size == numbers_of_a_description
    experiment.loss_and_sums(experiment.make_model(), experiment.sample(0, CPU))


def test_unseen_classes_are_described_in_the_units_of_training() -> None:
    experiment = ZeroShotExperiment(SMALL)
    for sampler in (experiment.unseen, experiment.test_sampler(3)):
        assert all(torch.equal(one, other) for one, other in zip(sampler.units, experiment.sampler.units, strict=True))


def test_the_command_line_trains_resumes_evaluates_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = (
        "--classes 3 --queries 2 --width 4 --hidden-size 5 --batch-size 2 --log-every 2 --validate-every 4 --threads 1 "
        "--episodes 10"
    )
    assert run("train zero-shot-glyphs --steps 4 --run", tmp_path / "run", sizes) == 0
    out = capsys.readouterr().out
    for word in ("META-MEMORY on zero-shot-glyphs", "8 episodes of training", "33.3%", "learning_curve.png"):
        assert word in out
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["shots"] == 0
    assert run("train --resume --steps 6 --no-evaluate --run", tmp_path / "run") == 0
    (tmp_path / "straight").mkdir()
    train(replace(SMALL, steps=6), tmp_path / "straight")
    one, other = load_checkpoint(tmp_path / "run"), load_checkpoint(tmp_path / "straight")
    assert one is not None
    assert other is not None
    assert all(torch.equal(value, other["model"][name]) for name, value in one["model"].items())
    said = refused(capsys, "train zero-shot-glyphs --classes 5 --no-rotate-classes --run", tmp_path / "new")
    assert "need at most 4 classes" in said


@pytest.mark.parametrize("task", ["zero-shot-glyphs", "families-glyphs"])
def test_one_class_is_refused(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--classes: got 1, need at least 2, else every answer is right" in refused(
        capsys, f"train {task} --classes 1"
    )
