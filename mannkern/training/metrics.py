"""What a training step tells, summed over steps on the device, and the journal it is written to."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from mannkern.tasks.episodes import Episodes

from .checkpoint import write_atomically

INSTANCES = (1, 2, 3, 4, 5, 10)  # the columns of Table 1 of the paper
METRICS = "metrics.jsonl"
EVENTS = "tensorboard"


def empty_window() -> Tensor:
    """Sums over no step, float64: loss, gradient norm, steps, correct, shown, then the two of each of ``INSTANCES``."""
    return torch.zeros(5 + 2 * len(INSTANCES), dtype=torch.float64)


def step_sums(loss: Tensor, norm: Tensor, logits: Tensor, episodes: Episodes) -> Tensor:
    """One step's addition to a window, on the device of its loss (), gradient norm () and logits (T, B, C)."""
    correct = logits.detach().argmax(-1) == episodes.targets
    at = episodes.instances == torch.tensor(INSTANCES, device=correct.device).view(-1, 1, 1)
    parts = (
        torch.stack((loss.detach(), norm, torch.ones_like(norm))).double(),
        torch.stack((correct.sum(), torch.full_like(correct.sum(), correct.numel()))).double(),
        (at & correct).sum((1, 2)).double(),
        at.sum((1, 2)).double(),
    )
    return torch.cat(parts)


def summarize(window: Tensor) -> dict[str, Any]:
    """Means of a window: ``loss``, ``gradient_norm``, ``accuracy``, ``accuracy_by_instance`` (None: never shown)."""
    loss, norm, steps, correct, shown, *by_instance = window.tolist()
    pairs = zip(by_instance[: len(INSTANCES)], by_instance[len(INSTANCES) :], strict=True)
    accuracies = [right / of if of else None for right, of in pairs]
    return {
        "loss": loss / steps,
        "gradient_norm": norm / steps,
        "accuracy": correct / shown,
        "accuracy_by_instance": {str(k): value for k, value in zip(INSTANCES, accuracies, strict=True)},
    }


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl``, oldest first; a last line that a kill cut short is left out."""
    lines = []
    try:
        text = (run / METRICS).read_text()
    except FileNotFoundError:
        return []
    for line in text.splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines


class Journal:
    """``metrics.jsonl`` and TensorBoard events of a run that stands at ``step``: what lies beyond is dropped first."""

    def __init__(self, run: Path, step: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        kept = [json.dumps(line) + "\n" for line in read_metrics(run) if line["step"] <= step]
        write_atomically(run / METRICS, lambda file: file.writelines(line.encode() for line in kept))
        self.file = open(run / METRICS, "a")  # noqa: SIM115 - closed in __exit__
        self.events = SummaryWriter(str(run / EVENTS), purge_step=step + 1)

    def write(self, kind: str, values: dict[str, Any]) -> None:
        """Add the line ``{"kind": kind, **values}``, with ``step`` in ``values``, and to TensorBoard ``kind/name``."""
        self.file.write(json.dumps({"kind": kind, **values}) + "\n")
        self.file.flush()
        for name, value in values.items():
            if name == "accuracy_by_instance":
                for instance, accuracy in value.items():
                    if accuracy is not None:
                        self.events.add_scalar(f"{kind}_instance/{instance}", accuracy, values["step"])
            elif name != "step":
                self.events.add_scalar(f"{kind}/{name}", value, values["step"])

    def flush(self) -> None:
        """Put everything on the disk, so that no checkpoint is ahead of its metrics."""
        os.fsync(self.file.fileno())
        self.events.flush()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()
        self.events.close()
