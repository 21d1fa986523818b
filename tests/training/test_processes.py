"""Several processes train one model: as one process with the same batch, and an error of one ends them all."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.utils.tensorboard.writer  # so that the ranks need not import it
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mannkern.experiments import registry
from mannkern.experiments.algorithmic.config import CopyConfig
from mannkern.experiments.autoencoder.config import AutoencoderConfig
from mannkern.experiments.families.config import FamiliesConfig
from mannkern.experiments.few_shot.config import FewShotConfig
from mannkern.experiments.few_shot_images.config import FewShotImagesConfig
from mannkern.experiments.gaussian_processes.config import GaussianProcessConfig
from mannkern.experiments.one_shot.config import OneShotConfig
from mannkern.experiments.sequences import sequence_task
from mannkern.experiments.sinusoids.config import SinusoidConfig
from mannkern.experiments.zero_shot.config import ZeroShotConfig
from mannkern.tasks import glyphs, images
from mannkern.training import processes
from mannkern.training.checkpoint import load_checkpoint
from mannkern.training.config import RunConfig
from tests.training.launch import launch, printed
from tests.training.line import LINE, Line, train_line
from tests.training.parabola import ParabolaConfig
from tests.training.small_runs import numbers

UNEVEN = [  # sequence k of 1 to 4 steps, of which the first and the last have an answer
    (torch.full((1 + k % 4, 1), k / 9), torch.tensor([k % 2, 1, 0, 1])[: 1 + k % 4], torch.arange(1 + k % 4) % 3 == 0)
    for k in range(9)
]
SEQUENCES = sequence_task("own", UNEVEN, UNEVEN[:4], loss="classes", outputs=2)
COMMON: dict[str, Any] = {"batch_size": 6, "log_every": 2, "validate_every": 3, "threads": 1}
# In steps of 1e-2 the batch norm of so few numbers makes rounding grow beyond the tolerance, with Adam too.
SMALL_STEPS = COMMON | {"lr": 1e-3}
CONFIGS: dict[str, RunConfig] = {
    "glyphs": OneShotConfig(
        classes=2, length=6, hidden_size=8, memory_slots=6, memory_width=4, num_reads=2, **COMMON
    ),
    "strings": OneShotConfig(model="lstm", labels="strings", classes=2, length=6, hidden_size=8, **COMMON),
    "copy": CopyConfig(bits=2, max_length=3, hidden_size=4, memory_slots=6, memory_width=3, decay_steps=9, **COMMON),
    "matching": FewShotConfig(model="matching", classes=2, shots=1, queries=2, width=4, **SMALL_STEPS),
    "meta-networks": FewShotConfig(
        model="meta-networks", classes=2, shots=1, queries=1, width=4, optimizer="adam", **COMMON
    ),
    "meta-memory": FewShotConfig(
        model="meta-memory", classes=2, shots=1, queries=1, width=4, hidden_size=4, **SMALL_STEPS
    ),
    "sinusoids": SinusoidConfig(width=8, hidden_size=8, **COMMON),
    "gaussian-processes": GaussianProcessConfig(length=4, hidden_size=4, memory_slots=6, memory_width=3, **COMMON),
    "images": FewShotImagesConfig(
        data="", classes=2, shots=1, queries=2, side=16, width=4, hidden_size=4, **COMMON
    ),
    "zero-shot": ZeroShotConfig(classes=2, queries=2, width=4, hidden_size=4, **SMALL_STEPS),
    # with some seeds the numbers of a batch norm are so alike that rounding of float32 grows; float64 agrees to 1e-13
    "families": FamiliesConfig(seed=13, classes=2, shots=2, width=4, hidden_size=4, **SMALL_STEPS),
    "autoencoder": AutoencoderConfig(hidden_size=32, width=8, **COMMON),
    "sequences": SEQUENCES.tasks["own"](model="ntm", hidden_size=4, memory_slots=4, memory_width=3, **COMMON),
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def small_data() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        split = glyphs.load(num_train=6, num_test=4)
        split = split._replace(test=torch.cat((split.test, split.train[:1])))  # the autoencoder needs five
        patch.setattr(glyphs, "load", lambda: split)
        colours = [(torch.arange(4 * 3 * 16 * 16) * c % 255).view(4, 3, 16, 16).byte() for c in (3, 5, 7)]
        patch.setattr(images, "load", lambda root, part, side: colours)
        patch.setattr(images, "class_sizes", lambda root, part: {"a": 4, "b": 4, "c": 4})
        patch.setattr(registry, "KINDS", [*registry.KINDS, SEQUENCES])
        yield


def train_all(folder: Path, steps: int) -> None:
    """Train every configuration in a folder of its own, on every rank."""
    with processes.joined():
        for name, config in CONFIGS.items():
            if processes.rank() == 0:
                (folder / name).mkdir(parents=True, exist_ok=True)
            registry.train(replace(config, steps=steps), folder / name)


def flat(line: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a line of metrics, also those within; of gradients the norm of all alone, not of each layer."""
    parts = [part for name, part in line.items() if isinstance(part, dict) and name != "gradient_norm_by_layer"]
    within = {key: value for part in parts for key, value in part.items()}
    return {key: value for key, value in (line | within).items() if isinstance(value, (int, float))}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of one process in "one", those of two, and then three, that resume them in "several"."""
    folder = tmp_path_factory.mktemp("runs")
    train_all(folder / "one", 5)
    launch(2, folder / "logs-2", train_all, folder / "several", 3)
    launch(3, folder / "logs-3", train_all, folder / "several", 5)
    return folder


@pytest.mark.parametrize("name", CONFIGS)
def test_the_curve_is_that_of_one_process_with_the_same_batch(name: str, runs: Path) -> None:
    """On two ranks to step 3, then on three. Parameters, batch norm's statistics and every number but the clock's."""
    one, several = load_checkpoint(runs / "one" / name), load_checkpoint(runs / "several" / name)
    assert one is not None
    assert several is not None
    for key, tensor in one["model"].items():
        torch.testing.assert_close(several["model"][key], tensor, rtol=1e-4, atol=1e-5, msg=key)
    lines = numbers(runs / "one" / name)
    assert len(lines) == 4
    for line, other in zip(lines, numbers(runs / "several" / name), strict=True):
        assert flat(other) == pytest.approx(flat(line), rel=1e-4, abs=1e-4)


def test_ranks_say_nothing_but_what_rank_0_says(runs: Path) -> None:
    for logs in ("logs-2", "logs-3"):
        assert printed(runs / logs) == []
        assert printed(runs / logs, "stdout") == []


@pytest.mark.parametrize("name", CONFIGS)
def test_rows_are_those_of_the_batch(name: str) -> None:
    experiment = registry.prepare(CONFIGS[name])
    whole, device = experiment.sample(7, torch.device("cpu")), torch.device("cpu")
    parts = [experiment.sample_rows(7, device, slice(start, start + 2)) for start in (0, 2, 4)]  # type: ignore[attr-defined]
    axis = 1 if name in ("glyphs", "strings", "copy", "gaussian-processes", "sequences") else 0
    for tensor, *shares in zip(*map(tree_leaves, (whole, *parts)), strict=True):
        if tensor.dim():
            assert torch.equal(tensor, torch.cat(shares, axis))
        else:  # a number of the whole batch
            assert sum(shares) == pytest.approx(tensor)


@dataclass(frozen=True)
class Goal(ParabolaConfig):
    def is_reached(self, measured: Mapping[str, Any]) -> bool:
        return processes.rank() == 0 and bool(measured["loss"] == 0)


def test_unused_parameters_and_buffers(tmp_path: Path) -> None:
    """The parameter follows all examples, the unused one stays as it is, the saved buffer is rank 0's."""
    (tmp_path / "one").mkdir()
    (tmp_path / "three").mkdir()
    step, alone = train_line(tmp_path / "one", Line, LINE)
    results = launch(3, tmp_path / "logs", train_line, tmp_path / "three", Line, LINE)
    assert [result[0] for result in results.values()] == [step] * 3
    for _, (weight, unused, _) in results.values():
        assert weight == pytest.approx(alone[0])
        assert unused == 2
    saved = load_checkpoint(tmp_path / "three")
    assert saved is not None
    assert saved["model"]["seen"] == 4 * (0 + 1)
    assert printed(tmp_path / "logs") == []


class Normed(Line):
    """Its batch norm has no statistics of its own, so that it takes those of the batch in validation too."""

    def make_model(self) -> nn.Linear:
        model = super().make_model()
        model.norm = nn.BatchNorm1d(1, affine=False, track_running_stats=False)
        return model

    def loss_and_sums(self, model: nn.Module, batch: Tensor) -> tuple[Tensor, Tensor]:
        return super().loss_and_sums(model, model.norm(batch))  # type: ignore[operator]

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, Any]:
        return {"loss": float(model.norm(torch.arange(4.0).unsqueeze(1)).detach().sum().abs() > 1e-3)}  # type: ignore[operator]


def test_rank_0_validates_with_the_statistics_of_its_own_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others wait for it, and must not be waited for. After it the batches of all count again."""
    monkeypatch.setattr(processes, "PATIENCE", timedelta(seconds=20))  # for two ranks that wait for each other
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    _, alone = train_line(tmp_path / "one", Normed, LINE)
    results = launch(2, tmp_path / "logs", train_line, tmp_path / "two", Normed, LINE)
    assert [weight for _, (weight, *_) in results.values()] == pytest.approx([alone[0]] * 2)
    assert [line["loss"] for line in numbers(tmp_path / "two") if line["kind"] == "validation"] == [0, 0]


class Slow(Line):
    """Rank 1 is slower, so that its clock is ahead of that of rank 0."""

    def sample_rows(self, step: int, device: torch.device, rows: slice) -> Tensor:
        time.sleep(0.05 * processes.rank())
        return super().sample_rows(step, device, rows)


@pytest.mark.parametrize("config", [Goal(steps=50, batch_size=6, validate_every=4), ParabolaConfig(minutes=0.005)])
def test_rank_0_decides_when_it_is_over(config: ParabolaConfig, tmp_path: Path) -> None:
    config = replace(config, batch_size=6, threads=1)
    results = launch(2, tmp_path / "logs", train_line, tmp_path, Slow, config)
    assert results[0][0] == results[1][0]
    assert results[0][0] == (4 if config.steps else pytest.approx(6, abs=5))
