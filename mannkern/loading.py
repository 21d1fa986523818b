"""``mannkern.load``: a trained model with its settings, from the folder of a run, from a file, or by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from mannkern.training.config import RunConfig


@dataclass(frozen=True)
class TrainedModel:
    """A trained model as :func:`mannkern.load` returns it.

    model:    the module, in evaluation mode
    settings: those that it was trained with, a frozen dataclass such as ``OneShotConfig``
    step:     how many steps it was trained for
    """

    model: nn.Module
    settings: RunConfig
    step: int

    def predict(self, *arguments: Any) -> Any:
        """What the model answers, without gradients. Arguments go by position.

        A model of characters or images: ``predict(support, labels, queries)``, drawings (N, P, P), their classes (N,)
        int64 in [0, C), and other drawings (Q, P, P) -> the classes of these, (Q,) int64. Drawings are uint8 up to 255
        or floating point up to 1, full ink. Each query is answered by itself, so their order does not matter.
        A MANN is shown the support set class after class in turn, because in training the classes were mixed. A model
        of images also takes lists of files as drawings.
        A model of sinusoids: ``predict(x, y, queries)``, (K,), (K,) and (Q,) -> y of the queries, (Q,).
        A model of an algorithmic task: ``predict(inputs)``, (T, B, F) -> bits (T, B, O), 0.0 or 1.0. One of a
        ``sequence_task``: ``predict(sequences)``, (T, F) or (T, B, F) -> classes, bits or numbers of each step.

        Raises ``ValueError`` or ``TypeError`` that names the argument; ``TypeError`` for a task without predictions.
        """
        from mannkern.experiments.registry import kind_of
        from mannkern.training.runtime import default_dtype_of, eval_mode

        predict = kind_of(self.settings.task).predict
        if predict is None:
            raise TypeError(
                f"predict: got a model of {self.settings.task}, need a task that has predictions; call .model"
            )
        for number, tensor in enumerate(arguments, 1):
            if isinstance(tensor, torch.Tensor) and (tensor.is_meta or tensor.layout is not torch.strided):
                got = f"{tensor.layout} on {tensor.device}"
                raise TypeError(f"argument {number}: got a tensor of {got}, need a dense one that holds numbers")
        device = torch.device(self.settings.device)
        with torch.device("cpu"), default_dtype_of(self.model.state_dict()), eval_mode(self.model, device):
            return predict(self.model, self.settings, *arguments)


def load(run_or_name: str | Path, *, device: str = "cpu") -> TrainedModel:
    """The model of a run of ``python -m mannkern train``, or a trained one that comes with mannkern.

    run_or_name: the folder of a run, a file that ``python -m mannkern export`` wrote, or a name, such as "mann-glyphs";
        a folder or file of that path comes before a name
    device: where the model goes; it takes the fastest backend there, whatever it was trained with

    No code from the files is run. A file, or a name, needs the package safetensors; without it ``ImportError``. Raises
    ``ValueError`` where there is no such run or model, where a file is damaged, and where the device is missing.
    """
    from mannkern.experiments.registry import kind_of, load_config
    from mannkern.training.errors import CommandError
    from mannkern.training.exported import find_model
    from mannkern.training.runtime import load_trained, usable_device

    if not isinstance(run_or_name, (str, Path)):
        raise TypeError(f"run_or_name: got {type(run_or_name).__name__}, need a str or a Path")
    if not isinstance(device, (str, torch.device)):
        raise TypeError(f"device: got {type(device).__name__}, need a str")
    try:
        path = find_model(run_or_name)
        settings = replace(load_config(path), device=str(device), backend=None)
    except CommandError as error:
        raise ValueError(f"run_or_name: {error}") from None
    try:
        place = usable_device(settings)
    except CommandError as error:
        reason = str(error).removeprefix(f"--device {device}: ")
        raise ValueError(f"device: got {device}, need one that can be used: {reason}") from None
    try:
        model, step = load_trained(path, lambda: kind_of(settings.task).make_model(settings), place)
    except CommandError as error:
        if isinstance(error.__cause__, ImportError):
            raise ImportError(str(error)) from None
        raise ValueError(f"run_or_name: {error}") from None
    return TrainedModel(model.eval(), settings, step)
