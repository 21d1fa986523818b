"""One side of ``bench --against``: a process that times training steps with the mannkern of its working folder.

It is run with ``python -c`` and imports public names alone, because that mannkern may be an old one. It checks itself,
then it times one sample for each line that it reads.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

CHECKED_EPISODES, MOST_CHECKED_STEPS, TOLERANCE = 2, 100, 1e-8  # as in harness.py and contest.py
SAMPLE = 0.05  # seconds that a sample takes at least


def step(settings: dict[str, Any], B: int, T: int, dtype: torch.dtype, backend: str | None) -> Callable[[], Any]:
    """A training step, or the forward pass alone; always the same numbers."""
    import mannkern

    sizes = settings["sizes"]
    torch.manual_seed(0)
    cls = {"mann": mannkern.MANN, "ntm": mannkern.NTM}[settings["model"]]
    body = cls(*(sizes[letter] for letter in "FDNWR"), memory_init="uniform", backend=backend)
    head = nn.Linear(body.output_size, sizes["C"])
    inputs, labels = torch.rand(T, B, sizes["F"]), torch.randint(sizes["C"], (T * B,))
    body, head = body.to(settings["device"], dtype), head.to(settings["device"], dtype)
    inputs, labels = inputs.to(settings["device"], dtype), labels.to(settings["device"])
    parameters = [*body.parameters(), *head.parameters()]

    def call() -> list[Tensor]:
        logits = head(body(inputs)[0])
        if not settings["gradient"]:
            return [logits]
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels)
        return [logits, *torch.autograd.grad(loss, parameters)]

    return call if settings["gradient"] else torch.no_grad()(call)


def check(settings: dict[str, Any]) -> dict[str, Any]:
    """The largest relative error against this mannkern's own reference in float64, and the size of its results."""
    T = min(settings["sizes"]["T"], MOST_CHECKED_STEPS)
    results = step(settings, CHECKED_EPISODES, T, torch.float64, settings["backend"])()
    truth = step(settings, CHECKED_EPISODES, T, torch.float64, "reference")()
    errors = [float((x - y).norm() / y.norm().clamp_min(1e-300)) for x, y in zip(results, truth)]
    worst = max(errors, key=lambda error: math.inf if math.isnan(error) else error)
    return {"error": worst, "good": worst <= TOLERANCE, "norms": [float(x.norm()) for x in truth]}


def main() -> None:
    """Answer the settings with a check, and each further line with the seconds of a call."""
    import mannkern

    settings = json.loads(sys.stdin.readline())
    if Path(mannkern.__file__).resolve().parents[1] != Path.cwd().resolve():
        raise RuntimeError(f"mannkern: got that of {mannkern.__file__}, need that of {Path.cwd()}")
    torch.set_num_threads(settings["threads"])
    device = torch.device(settings["device"])
    if device.index is not None:  # kernels of Triton run on the current device
        torch.cuda.set_device(device)
    print(json.dumps(check(settings)), flush=True)
    run = step(settings, settings["B"], settings["sizes"]["T"], torch.float32, settings["backend"])

    def seconds(count: int) -> float:
        begin = time.perf_counter()
        for _ in range(count):
            run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - begin) / count

    seconds(1)
    count = max(1, math.ceil(SAMPLE / seconds(1)))
    for _ in sys.stdin:
        print(seconds(count), flush=True)


if __name__ == "__main__":
    main()
