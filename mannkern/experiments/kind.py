"""The record of a kind of experiment: all that the command line needs to know of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from mannkern.training.config import RunConfig
from mannkern.training.experiment import Experiment


@dataclass(frozen=True)
class Kind:
    """A kind of experiment. ``Any`` stands for its own settings, and for its own result of an evaluation.

    tasks:    the name of each task that ``train`` offers, and the class of its settings
    paper:    where the defaults of its settings come from
    measures: what ``evaluate`` measures, for its help
    open:     settings -> the experiment, with its data; raises ``CommandError`` for data or sizes that do not work
    evaluate: folder of a run, its settings, number of examples -> result; writes ``evaluation.json`` into the folder
    table:    results of several runs -> the text that ``evaluate`` prints
    draw:     results of several runs -> paths of the pictures that it drew
    verdict:  result of a run -> a sentence that says whether the model learned; None where only the table can tell
    build:    settings -> a new model, without the data; None where that of the experiment is taken
    predict:  model, settings, then what ``TrainedModel.predict`` was given -> its answer; None where there is none
    """

    tasks: Mapping[str, type[RunConfig]]
    paper: str
    measures: str
    open: Callable[[Any], Experiment]
    evaluate: Callable[[Path, Any, int], Any]
    table: Callable[[Sequence[Any]], str]
    draw: Callable[[Sequence[Any]], list[Path]]
    verdict: Callable[[Any], str] | None = None
    build: Callable[[Any], nn.Module] | None = None
    predict: Callable[..., Any] | None = None

    def make_model(self, config: Any) -> nn.Module:
        """A new model for the settings ``config``. Raises ``CommandError`` for impossible sizes."""
        return self.open(config).make_model() if self.build is None else self.build(config)
