"""The training loop: a signal stops it after any step, and on the CPU it resumes bit for bit."""

from __future__ import annotations

import math
import time
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mannkern.training.batches import Batches
from mannkern.training.checkpoint import load_checkpoint, save_checkpoint
from mannkern.training.config import RunConfig
from mannkern.training.errors import CommandError
from mannkern.training.experiment import Experiment
from mannkern.training.finite import ADVICE, NotFinite, find_operation, first_bad
from mannkern.training.lock import locked
from mannkern.training.metrics import Journal, empty_sums, layer_norms, step_sums, summarize
from mannkern.training.progress import ProgressBar, StopSignals
from mannkern.training.restore import restore
from mannkern.training.runtime import make_optimizer, set_learning_rate, train_step, usable_device, use_threads


class Outcome(NamedTuple):
    """The step at which training stopped, and the signal that stopped it (None: it reached its limit or its goal)."""

    step: int
    signal: int | None


def train(experiment: Experiment, config: RunConfig, run: Path) -> Outcome:
    """Train ``experiment`` in the folder ``run``, from its checkpoint if there is one, until a limit, goal or signal.

    On SIGINT and SIGTERM the step ends, then the run is saved. The data depend on the seed and the step alone, and the
    checkpoint holds all else that a step reads, so a resumed run on the CPU equals one that never stopped.
    Raises ``CommandError`` for sizes or devices that do not work, where another process trains in ``run``, and where
    the loss or the gradient is not finite; the last checkpoint is then from before that.
    """
    with locked(run):
        return _train(experiment, config, run)


def _train(experiment: Experiment, config: RunConfig, run: Path) -> Outcome:
    use_threads(config)
    torch.manual_seed(config.seed)
    device = usable_device(config)
    model = experiment.make_model().to(device)
    optimizer = make_optimizer(config, model)
    running_sums, step, seconds = empty_sums(experiment.num_sums).to(device), 0, 0.0
    bad = torch.full((), math.inf, device=device)  # the first step that is not finite
    if (checkpoint := load_checkpoint(run)) is not None:
        step, seconds = restore(run, checkpoint, model, optimizer, running_sums, device)

    def check_finite() -> None:
        if not bool(torch.isfinite(running_sums).all()):
            where = f"at step {int(bad)}" if math.isfinite(float(bad)) else f"by step {step}"
            raise CommandError(f"the loss or the gradient is not finite {where}; {ADVICE}")

    def position(now: float) -> dict[str, Any]:
        return {"step": step, experiment.unit: step * config.batch_size, "seconds": now - began}

    def save() -> None:
        check_finite()
        journal.flush()
        state = {
            "config": config.to_dict(),
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "running_sums": running_sums.cpu(),
            "step": step,
            "seconds": seconds,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }
        save_checkpoint(run, state)

    with (
        StopSignals() as stop,
        Journal(run, step, config) as journal,
        Batches(experiment, device) as batches,
        closing(ProgressBar(config, step, seconds)) as progress,
    ):
        save()  # from here on there is a checkpoint, whatever happens
        began = time.perf_counter() - seconds
        saved = mark = time.perf_counter()
        steps_since_mark = 0
        reached = False
        while not (reached or stop.number or step >= config.step_limit or seconds >= config.second_limit):
            batch = batches.take(step)
            set_learning_rate(config, optimizer, step)
            generator = torch.get_rng_state()
            try:
                loss, norm, sums = train_step(experiment, model, optimizer, batch, config.clip)
            except NotFinite as error:
                torch.set_rng_state(generator)
                found = find_operation(experiment, model, batch)
                raise CommandError(f"the {error} is not finite at step {step + 1}: {found}; {ADVICE}") from None
            step += 1
            steps_since_mark += 1
            if device.type != "cpu":
                bad = first_bad(bad, loss.detach(), norm, step)
            running_sums += step_sums(loss, norm, sums)
            if step % config.log_every == 0:
                check_finite()
                layers = layer_norms(model, norm, config.clip)
                summary = summarize(running_sums, experiment)  # waits for the device, so the clock below is honest
                now = time.perf_counter()
                rate = steps_since_mark * config.batch_size / (now - mark)
                journal.write(
                    "train",
                    {
                        **position(now),
                        **summary,
                        f"{experiment.unit}_per_second": rate,
                        "gradient_norm_by_layer": layers,
                    },
                )
                text = experiment.progress_text(summary)
                progress.note(f"loss {summary['loss']:.3f}, {text}, {rate:,.0f} {experiment.unit}/s")
                running_sums, steps_since_mark, mark = torch.zeros_like(running_sums), 0, now
            if step % config.validate_every == 0:
                pause = time.perf_counter()
                measured = experiment.validate(model, device)
                journal.write("validation", {**position(pause), **measured})
                reached = config.is_reached(measured)
                mark += time.perf_counter() - pause
            now = time.perf_counter()
            seconds = now - began
            if now - saved >= config.save_seconds:
                save()
                saved = time.perf_counter()
            progress.show(step, seconds)
        save()
    return Outcome(step, stop.number)
