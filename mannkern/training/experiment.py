"""What a kind of task supplies to the training loop, and which kind a run is of."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .config import RunConfig, TrainConfig
from .few_shot_config import FewShotConfig
from .meta_memory_config import SinusoidConfig
from .sequence_config import SEQUENCE_CONFIGS, SequenceConfig

CONFIGS: dict[str, type[RunConfig]] = {
    "omniglot": TrainConfig,
    "glyphs": TrainConfig,
    "few-shot-omniglot": FewShotConfig,
    "few-shot-glyphs": FewShotConfig,
    "sinusoids": SinusoidConfig,
    **SEQUENCE_CONFIGS,
}
VALIDATION_SEED = 1_000_001  # the two differ, so that what one watches while training is not what one reports
EVALUATION_SEED = 1_000_002


class Experiment(Protocol):
    """A task and how it is learned. B examples are a batch; what a step tells is kept as float64 sums over steps."""

    @property
    def unit(self) -> str:
        """What an example is called: "episodes", "sequences" or "sinusoids"."""

    @property
    def num_sums(self) -> int:
        """K, the sums that ``score`` returns."""

    def make_model(self) -> nn.Module:
        """A new model on the CPU; draws from torch's own generator."""

    def sample(self, step: int, device: torch.device) -> Any:
        """The examples of ``step``, tensors on ``device``; they depend on the settings and the step alone."""

    def score(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """The model's loss () on the batch, to be minimised, and this step's sums (K,) without gradient."""

    def summarize(self, sums: list[float], steps: float) -> dict[str, Any]:
        """What to write down of K sums over ``steps`` steps: names and numbers, fit for JSON."""

    def remark(self, summary: dict[str, Any]) -> str:
        """A few words about a summary, to stand beside the bar of progress."""

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, Any]:
        """Names and numbers on data kept apart; leaves torch's generator as it was."""


def open_experiment(config: RunConfig) -> Experiment:
    """The task of ``config``, its data read. Raises ``CommandError`` for data or sizes that cannot be."""
    if isinstance(config, SequenceConfig):
        from .sequences import SequenceExperiment

        return SequenceExperiment(config)
    if isinstance(config, FewShotConfig):
        from .few_shot import FewShotExperiment

        return FewShotExperiment(config)
    if isinstance(config, SinusoidConfig):
        from .sinusoids import SinusoidExperiment

        return SinusoidExperiment(config)
    from .episodes import EpisodeExperiment

    assert isinstance(config, TrainConfig)
    return EpisodeExperiment(config)
