"""Settings of the algorithmic tasks: the paper's sizes, and what cannot be."""

from pathlib import Path

import pytest

from mannkern.experiments.algorithmic.config import (
    ALGORITHMIC_CONFIGS,
    AssociativeRecallConfig,
    CopyConfig,
    NGramsConfig,
    PrioritySortConfig,
    RepeatCopyConfig,
)
from mannkern.experiments.one_shot.config import OneShotConfig
from mannkern.experiments.registry import load_config
from mannkern.files import write_json
from mannkern.training.errors import CommandError


def test_example() -> None:
    """Each task has its number of steps, over which the rate falls, also where a run is limited to 2 minutes."""
    for cls, steps in STEPS.items():
        assert cls().step_limit == cls().falling_steps == cls(minutes=2).step_limit == steps


STEPS = {
    CopyConfig: 3000, RepeatCopyConfig: 12_000, AssociativeRecallConfig: 6000, NGramsConfig: 6000,
    PrioritySortConfig: 24_000,
}  # fmt: skip


PAPER = {  # heads and hidden units by controller (tables 2 and 1), units of the LSTM (table 3)
    "copy": ((1, 100), (1, 100), 256),
    "repeat-copy": ((1, 100), (1, 100), 512),
    "associative-recall": ((1, 100), (4, 256), 256),
    "ngrams": ((1, 100), (1, 100), 128),
    "priority-sort": ((5, 200), (8, 512), 128),
}


@pytest.mark.parametrize("task", ALGORITHMIC_CONFIGS)
def test_sizes_are_the_papers(task: str) -> None:
    cls = ALGORITHMIC_CONFIGS[task]
    lstm, feedforward = cls(), cls(controller="feedforward")
    for config, sizes in zip((lstm, feedforward), PAPER[task], strict=False):
        assert (config.num_reads, config.hidden_size) == sizes
        assert config.num_writes == config.num_reads
    assert (lstm.lstm_size, lstm.lstm_layers) == (PAPER[task][2], 3)
    assert (lstm.task, lstm.model, lstm.memory_slots, lstm.memory_width, lstm.shift_range) == (task, "ntm", 128, 20, 1)
    assert lstm.make_task() == type(lstm.make_task())(), "the task's own defaults"


@pytest.mark.parametrize("task", ALGORITHMIC_CONFIGS)
def test_a_config_survives_json(tmp_path: Path, task: str) -> None:
    config = ALGORITHMIC_CONFIGS[task](hidden_size=7, num_reads=2, lr=3e-4, memory_init="uniform")
    write_json(tmp_path / "config.json", config.to_dict())
    assert load_config(tmp_path) == config
    assert (config.num_reads, config.hidden_size, config.num_writes) == (2, 7, PAPER[task][0][0])


def test_settings_that_no_task_has(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"task": "copy", "classes": 5})
    with pytest.raises(CommandError, match="classes"):
        load_config(tmp_path)
    write_json(tmp_path / "config.json", {"task": "juggling"})
    with pytest.raises(CommandError, match="--task: got juggling"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "mann"}, "--model: got mann, need one of ntm, lstm"),
        ({"controller": "gru"}, "--controller: got gru"),
        ({"max_length": 0}, "max_length: got 0"),
        ({"lstm_layers": 0}, "--lstm-layers: got 0"),
        ({"batch_size": 0}, "--batch-size: got 0"),
    ],
)
def test_what_cannot_be_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CopyConfig(**values)  # type: ignore[arg-type]


def test_runs_compare_where_their_sequences_are_the_same() -> None:
    assert CopyConfig().comparable == CopyConfig(model="lstm", hidden_size=3, lr=1.0).comparable
    assert CopyConfig().comparable != CopyConfig(max_length=10).comparable
    assert NGramsConfig().comparable != PrioritySortConfig().comparable != OneShotConfig().comparable
