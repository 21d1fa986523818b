"""The training loop: a signal stops it after any step, and on the CPU it resumes bit for bit."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mannkern.training.batches import Batches
from mannkern.training.checkpoint import load_checkpoint, save_checkpoint
from mannkern.training.config import RunConfig
from mannkern.training.errors import CommandError
from mannkern.training.experiment import Experiment
from mannkern.training.metrics import Journal, empty_sums, step_sums, summarize
from mannkern.training.progress import ProgressBar, StopSignals
from mannkern.training.runtime import make_optimizer, set_learning_rate, train_step, usable_device, use_threads


class Outcome(NamedTuple):
    """The step at which training stopped, and the signal that stopped it (None: it reached its limit or its goal)."""

    step: int
    signal: int | None


def train(experiment: Experiment, config: RunConfig, run: Path) -> Outcome:
    """Train ``experiment`` in the folder ``run``, from its checkpoint if there is one, until a limit, goal or signal.

    On SIGINT and SIGTERM the step ends, then the run is saved. The data depend on the seed and the step alone, and the
    checkpoint holds all else that a step reads, so a resumed run on the CPU equals one that never stopped.
    Raises ``CommandError`` for sizes or devices that do not work, and where the loss is no longer finite.
    """
    use_threads(config)
    torch.manual_seed(config.seed)
    device = usable_device(config)
    model = experiment.make_model().to(device)
    optimizer = make_optimizer(config, model)
    running_sums, step, seconds = empty_sums(experiment.num_sums).to(device), 0, 0.0
    if (checkpoint := load_checkpoint(run)) is not None:
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        running_sums = checkpoint["running_sums"].to(device)
        step, seconds = checkpoint["step"], checkpoint["seconds"]
        torch.set_rng_state(checkpoint["rng"])
        if device.type == "cuda" and checkpoint["cuda_rng"] is not None:
            torch.cuda.set_rng_state(checkpoint["cuda_rng"], device)

    def check_finite() -> None:
        if not bool(torch.isfinite(running_sums).all()):
            raise CommandError(
                f"loss or gradient is not finite by step {step}; the last checkpoint is from before that"
            )

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

    with StopSignals() as stop, Journal(run, step) as journal, Batches(experiment, device) as batches:
        save()  # from here on there is a checkpoint, whatever happens
        progress = ProgressBar(config, step, seconds)
        began = time.perf_counter() - seconds
        saved = mark = time.perf_counter()
        steps_since_mark = 0
        reached = False
        while not (reached or stop.number or step >= config.step_limit or seconds >= config.second_limit):
            batch = batches.take(step)
            set_learning_rate(config, optimizer, step)
            loss, norm, sums = train_step(experiment, model, optimizer, batch, config.clip)
            step += 1
            steps_since_mark += 1
            running_sums += step_sums(loss, norm, sums)
            if step % config.log_every == 0:
                check_finite()
                summary = summarize(running_sums, experiment)  # waits for the device, so the clock below is honest
                now = time.perf_counter()
                rate = steps_since_mark * config.batch_size / (now - mark)
                journal.write("train", {**position(now), **summary, f"{experiment.unit}_per_second": rate})
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
        progress.close()
    return Outcome(step, stop.number)
