"""The numbers of training steps: sums over steps on the device, and the journal that they are written to."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from mannkern.files import naming, write_atomically
from mannkern.training.config import RunConfig
from mannkern.training.errors import CommandError
from mannkern.training.events import Events
from mannkern.training.experiment import Experiment
from mannkern.training.trackers import Tracker

METRICS = "metrics.jsonl"
DAMAGED = "metrics.damaged.jsonl"


def empty_sums(num_sums: int) -> Tensor:
    """The sums before the first step, float64: loss, gradient norm, steps, and ``num_sums`` of the experiment's own."""
    return torch.zeros(3 + num_sums, dtype=torch.float64)


def step_sums(loss: Tensor, norm: Tensor, sums: Tensor) -> Tensor:
    """What one step adds to the sums: loss (), gradient norm (), 1 for the step, and the experiment's sums (K,)."""
    return torch.cat((torch.stack((loss.detach(), norm, torch.ones_like(norm))).double(), sums))


def summarize(running_sums: Tensor, experiment: Experiment) -> dict[str, Any]:
    """Means over the steps so far: ``loss``, ``gradient_norm`` and what the experiment makes of its own sums."""
    loss, norm, steps, *sums = running_sums.tolist()
    own = plain("summarize", experiment.summarize(sums, steps))
    return {"loss": loss / steps, "gradient_norm": norm / steps, **own}


def plain(source: str, values: dict[str, Any]) -> dict[str, Any]:
    """``values`` that ``source`` returned, fit for JSON: of tensors and arrays with one number, that number.

    Raises ``CommandError``, naming the value, where one is no number, no None, and no mapping of numbers.
    """

    def number(name: str, value: Any, within: bool = False) -> Any:
        if isinstance(value, Mapping) and not within:
            return {str(key): number(f"{name}.{key}", part, True) for key, part in value.items()}
        if hasattr(value, "item") and math.prod(getattr(value, "shape", (0,))) == 1:  # also one of numpy's
            value = value.item()
        if value is None or isinstance(value, (bool, int, float)):
            return value
        raise CommandError(f"{source}: {name}: got {type(value).__name__}, need a number")

    return {name: number(name, value) for name, value in values.items()}


def layer_norms(model: nn.Module, norm: Tensor, clip: float) -> dict[str, float]:
    """The norm of the gradient of each module's own parameters, before clipping: of the step that was just done.

    norm (): that of the whole gradient before it was clipped to ``clip``; 0: no limit
    """
    squares: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            layer = name.rpartition(".")[0] or name
            squares[layer] = squares.get(layer, torch.zeros_like(norm)) + parameter.grad.detach().square().sum()
    if not squares:
        return {}
    clipped = ((norm + 1e-6) / clip).clamp(min=1) if clip else torch.ones_like(norm)  # as clip_grad_norm_ has it
    return dict(zip(squares, (torch.stack(list(squares.values())).sqrt() * clipped).tolist(), strict=True))


def log_pictures(run: Path, paths: Iterable[Path], step: int) -> None:
    """Add pictures, PNG files, to the TensorBoard events of ``run``, if TensorBoard is installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return
    from matplotlib.image import imread

    with Events(run, filename_suffix=".pictures") as events:
        for path in paths:
            events.write("add_image", path.stem, imread(path), step, dataformats="HWC")


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl``, oldest first, without damaged ones."""
    return _read(run)[0]


def is_irregular(run: Path) -> bool:
    """Whether a line has no time, other fields than others of its kind, or values of other types, as a damaged one."""
    types: dict[tuple[str, str], set[type]] = {}
    fields: dict[str, set[frozenset[str]]] = {}
    for line in read_metrics(run):
        fields.setdefault(line["kind"], set()).add(frozenset(line))
        for name, value in line.items():
            if value is not None:
                types.setdefault((line["kind"], name), set()).add(float if isinstance(value, int) else type(value))
    differ = any(len(kinds) > 1 for kinds in types.values()) or any(len(names) > 1 for names in fields.values())
    return differ or any("seconds" not in names for lines in fields.values() for names in lines)


def reached_goal(run: Path, config: RunConfig, step: int) -> bool:
    """Whether the validation of ``run`` at ``step`` reached the goal of ``config``, which may be another than before.

    One at the end of a run alone does not count: an unbroken run has none there.
    """
    if step % config.validate_every:
        return False
    validations = [line for line in read_metrics(run) if (line["kind"], line["step"]) == ("validation", step)]
    try:
        return bool(validations) and config.is_reached(validations[-1])
    except (KeyError, TypeError, AttributeError):  # a line that lacks numbers, as a damaged one may
        return False


def _read(run: Path) -> tuple[list[dict[str, Any]], dict[int, bytes]]:
    """The whole lines of ``metrics.jsonl``, and the damaged ones by their numbers.

    A last line that a kill cut short is neither.
    """
    try:
        written = (run / METRICS).read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], {}
    lines, damaged = [], {}
    for number, content in enumerate(written, 1):
        try:
            line = json.loads(content)
            if not (isinstance(line["step"], int) and isinstance(line["kind"], str)):
                raise ValueError("no line of metrics")
            lines.append(line)
        except (ValueError, KeyError, TypeError, RecursionError):
            if number < len(written):
                damaged[number] = content
    return lines, damaged


def _set_aside(run: Path, damaged: dict[int, bytes]) -> None:
    """Append the ``damaged`` lines to a file of their own, and say so on stderr."""
    path = run / DAMAGED
    before = path.read_bytes() if path.exists() else b""
    after = before + b"".join(line + b"\n" for line in damaged.values())
    write_atomically(path, lambda file: file.write(after))
    numbers = ", ".join(map(str, damaged))
    print(f"mannkern: {run / METRICS}: damaged lines are set aside in {path.name}: {numbers}", file=sys.stderr)


class Journal:
    """The journal of a run: ``metrics.jsonl``, TensorBoard events, and the service that ``config.log`` names.

    It first drops the lines after ``step``, and warns on stderr where there are fewer than the ``expected`` ones that
    the checkpoint of that step had seen. A validation at ``step`` that is no multiple of ``validate_every`` is
    dropped too: it was the end of a run that now goes on, and an unbroken run has none there. TensorBoard also gets the
    settings, as text.
    """

    def __init__(self, run: Path, step: int, config: RunConfig, expected: int = 0) -> None:
        whole, damaged = _read(run)
        if damaged:
            _set_aside(run, damaged)
        seen = [line for line in whole if line["step"] <= step]
        if len(seen) + len(damaged) < expected:
            lost = f"got {len(seen)} of {expected} lines up to step {step:,}; training goes on without the others"
            print(f"mannkern: {run / METRICS}: {lost}", file=sys.stderr)
        ended = {("validation", step)} if step % config.validate_every else set()
        kept = [line for line in seen if (line["kind"], line["step"]) not in ended]
        self.num_lines = len(kept)
        lines = [json.dumps(line) + "\n" for line in kept]
        write_atomically(run / METRICS, lambda file: file.writelines(line.encode() for line in lines))
        self.path = run / METRICS
        self.file = open(self.path, "a")  # noqa: SIM115 - closed in __exit__
        self.events = Events(run, purge_step=step + 1)
        settings = config.to_dict()
        rows = [f"| {name} | {value} |" for name, value in settings.items()]
        self.events.write("add_text", "settings", "\n".join(["| setting | value |", "|---|---|", *rows]), step)
        self.tracker = Tracker(config.log, run, settings)

    def write(self, kind: str, values: dict[str, Any]) -> None:
        """Add the line ``{"kind": kind, **values}``, with ``step`` in ``values``, and elsewhere ``kind/name``."""
        with naming(self.path):
            self.file.write(json.dumps({"kind": kind, **values}) + "\n")
            self.file.flush()
        self.num_lines += 1
        scalars: dict[str, float] = {}
        for name, value in values.items():
            if isinstance(value, dict):  # "accuracy_by_instance"
                group = f"{kind}_{name.rpartition('_')[2]}"
                scalars |= {f"{group}/{key}": part for key, part in value.items() if part is not None}
            elif name != "step" and value is not None:
                scalars[f"{kind}/{name}"] = value
        for name, value in scalars.items():
            self.events.write("add_scalar", name, value, values["step"])
        self.tracker.log(scalars, values["step"])

    def flush(self) -> None:
        """Put everything on the disk, so that no checkpoint is ahead of its metrics."""
        with naming(self.path):
            os.fsync(self.file.fileno())
        self.events.write("flush")

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.events.close()
        self.tracker.finish()
        with naming(self.path):
            self.file.close()
