"""One network for three families of tasks: the loss of a step, and what the command line trains and measures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mannkern.experiments.families.config import FamiliesConfig
from mannkern.experiments.families.experiment import FAMILIES, FamiliesExperiment
from mannkern.experiments.registry import train
from mannkern.tasks import FewShotSampler, glyphs
from mannkern.training.checkpoint import load_checkpoint
from tests.commands.calls import run

CPU = torch.device("cpu")
SMALL = FamiliesConfig(
    classes=3, shots=2, width=4, hidden_size=5, batch_size=2, log_every=2, validate_every=4, threads=1, steps=4,
)  # fmt: skip


@pytest.fixture(autouse=True)
def few_glyphs(monkeypatch: pytest.MonkeyPatch) -> None:
    split = glyphs.load(num_train=6, num_test=4)
    monkeypatch.setattr(glyphs, "load", lambda: split)


def test_a_step_is_the_mean_of_its_families() -> None:
    """Sums of 1 of 2, 3 of 4 and 4 of 4 are 1/2, 3/4 and 1, in the mean 3/4."""
    experiment = FamiliesExperiment(SMALL)
    model = experiment.make_model().eval()
    batch = experiment.sample(0, CPU)
    assert [part.support.dim() for part in batch] == [3, 4, 4]
    assert [part.support.shape[1] for part in batch] == [3, 3, 6]
    loss, sums = experiment.loss_and_sums(model, batch)
    alone = [experiment.described.loss_and_sums(model, part) for part in batch]
    torch.testing.assert_close(loss, sum(one for one, _ in alone) / 3)
    assert torch.equal(sums, torch.cat([part for _, part in alone]))
    found = experiment.summarize([1, 2, 3, 4, 4, 4], 1.0)
    assert found == {"accuracy": 0.75, "accuracy_by_family": dict(zip(FAMILIES, (0.5, 0.75, 1.0), strict=True))}
    assert experiment.progress_text(found) == "accuracy by description 50%, one 75%, several 100%"
    loss.backward()
    for part in (model.describe, model.embedding):
        assert part is not None
        assert all(p.grad is not None for p in part.parameters())


def test_families_draw_classes_of_their_own() -> None:
    """Else a step sees a third of the variety: one seed and one step give one draw of classes."""
    experiment = FamiliesExperiment(replace(SMALL, shots=1, batch_size=20))
    one, other = experiment.sample(3, CPU)[1:]
    same = [torch.equal(*episodes) for episodes in zip(one.support, other.support, strict=True)]
    assert sum(same) < 3


def test_every_family_is_measured_on_unseen_classes() -> None:
    described, one, several = FamiliesExperiment(SMALL).test_samplers(7)
    for sampler, shots in ((one, 1), (several, 2)):
        expected = FewShotSampler(glyphs.load().test, classes_per_episode=3, shots=shots, queries=5, seed=7)
        assert all(torch.equal(a, b) for a, b in zip(sampler.sample(2, 0), expected.sample(2, 0), strict=True))
    shown = {tuple(image.flatten().tolist()) for image in described.sample(9, 0).queries.mul(255).round().flatten(0, 1)}
    assert shown <= {tuple(image.flatten().tolist()) for image in glyphs.load().test.float().flatten(0, 1)}


def test_the_command_line_trains_resumes_and_judges_on_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = (
        "--classes 3 --shots 2 --width 4 --hidden-size 5 --batch-size 2 --log-every 2 --validate-every 4 --threads 1 "
        "--episodes 10"
    )
    assert run("train families-glyphs --steps 4 --run", tmp_path / "run", sizes) == 0
    out = capsys.readouterr().out
    for word in ("META-MEMORY on families-glyphs", "by a description", "by 2 examples", "learning_curve.png"):
        assert word in out
    record = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert list(record["unseen_by_family"]) == list(FAMILIES)
    assert run("train --resume --steps 6 --no-evaluate --run", tmp_path / "run") == 0
    (tmp_path / "straight").mkdir()
    train(replace(SMALL, steps=6), tmp_path / "straight")
    one, other = load_checkpoint(tmp_path / "run"), load_checkpoint(tmp_path / "straight")
    assert one is not None
    assert other is not None
    assert all(torch.equal(value, other["model"][name]) for name, value in one["model"].items())
