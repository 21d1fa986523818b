"""The training loop: a signal stops it after any step, and on the CPU it resumes bit for bit."""

from __future__ import annotations

import math
import time
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mannkern.training import processes
from mannkern.training.batch_norm import own_statistics
from mannkern.training.batches import Batches
from mannkern.training.checkpoint import load_checkpoint, save_checkpoint
from mannkern.training.config import RunConfig
from mannkern.training.errors import CommandError
from mannkern.training.experiment import Experiment
from mannkern.training.finite import ADVICE, NotFinite, first_bad, where_not_finite
from mannkern.training.lock import locked
from mannkern.training.metrics import Journal, empty_sums, layer_norms, plain, reached_goal, step_sums, summarize
from mannkern.training.progress import ProgressBar, StopSignals
from mannkern.training.replica import replicate, seed_step
from mannkern.training.restore import check_data, check_settings, data_digest, restore
from mannkern.training.runtime import make_optimizer, set_learning_rate, train_step, usable_device, use_threads


class Outcome(NamedTuple):
    """The step at which training stopped, and the signal that stopped it (None: it reached its limit or its goal)."""

    step: int
    signal: int | None


def train(experiment: Experiment, config: RunConfig, run: Path) -> Outcome:
    """Train ``experiment`` in the folder ``run``, from its checkpoint if there is one, until a limit, goal or signal.

    On SIGINT, SIGTERM and SIGHUP the step ends, then the run is saved. The data depend on the seed and the step alone,
    and the checkpoint holds all else that a step reads, so a resumed run on the CPU equals one that never stopped.
    Several processes (``processes.joined``) share each batch; rank 0 validates, writes, and decides when it is over.
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
    running_sums, step, seconds, expected = empty_sums(experiment.num_sums).to(device), 0, 0.0, 0
    bad = torch.full((), math.inf, device=device)  # the first step that is not finite
    leads = processes.rank() == 0
    digest = data_digest(experiment)
    if (checkpoint := processes.share(load_checkpoint(run) if leads else None)) is not None:
        check_settings(run, checkpoint, config)
        check_data(checkpoint, digest)
        step, seconds = restore(run, checkpoint, model, optimizer, running_sums, device)
        expected = checkpoint.get("num_lines", 0)
    share = replicate(experiment, config, model)

    def check_finite() -> None:
        if bool(torch.isfinite(running_sums).all()):
            return
        if bool(torch.isfinite(running_sums[:2]).all()):
            raise CommandError(f"loss_and_sums: got sums that are not finite by step {step}, need finite numbers")
        where = f"at step {int(bad)}" if math.isfinite(float(bad)) else f"by step {step}"
        raise CommandError(f"the loss or the gradient is not finite {where}; {ADVICE}")

    def position(now: float) -> dict[str, Any]:
        return {"step": step, experiment.unit: step * config.batch_size, "seconds": now - began}

    def save() -> None:
        check_finite()
        for name, x in model.named_parameters():  # a buffer may hold infinities, as a mask does
            if not bool(torch.isfinite(x).all()):
                raise CommandError(f"{name} is not finite after step {step}; {ADVICE}")
        if journal is None:
            return
        journal.flush()
        state = {
            "config": config.to_dict(),
            "data_digest": digest,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "running_sums": running_sums.cpu(),
            "step": step,
            "num_lines": journal.num_lines,
            "seconds": seconds,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }
        save_checkpoint(run, state)

    def validate() -> dict[str, Any]:
        with own_statistics(model):  # the other ranks do not validate
            return plain("validate", experiment.validate(model, device))

    def is_over() -> bool:
        over = reached or step >= config.step_limit or seconds >= config.second_limit
        return any(processes.largest(int(over and leads), stop.number or 0))

    with (
        StopSignals() as stop,
        Journal(run, step, config, expected) if leads else nullcontext() as journal,
        Batches(share, device) as batches,
        closing(ProgressBar(config, step, seconds)) as progress,
    ):
        save()  # from here on there is a checkpoint, whatever happens
        began = time.perf_counter() - seconds
        saved = mark = time.perf_counter()
        steps_since_mark = 0
        reached = leads and reached_goal(run, config, step)  # a run that resumes
        while not is_over():
            batch = batches.take(step)
            set_learning_rate(config, optimizer, step)
            seed_step(config, step)
            generator = torch.get_rng_state()
            try:
                loss, norm, sums = train_step(share, model, optimizer, batch, config.clip)
            except NotFinite as error:
                torch.set_rng_state(generator)
                found = where_not_finite(experiment, model, batch)
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
                if journal is not None:
                    rates = {f"{experiment.unit}_per_second": rate, "gradient_norm_by_layer": layers}
                    journal.write("train", {**position(now), **summary, **rates})
                text = experiment.progress_text(summary)
                progress.note(f"loss {summary['loss']:.3f}, {text}, {rate:,.0f} {experiment.unit}/s")
                running_sums, steps_since_mark, mark = torch.zeros_like(running_sums), 0, now
            if step % config.validate_every == 0 and journal is not None:
                pause = time.perf_counter()
                measured = validate()
                journal.write("validation", {**position(pause), **measured})
                reached = config.is_reached(measured)
                mark += time.perf_counter() - pause
            now = time.perf_counter()
            seconds = now - began
            if now - saved >= config.save_seconds:
                save()
                saved = time.perf_counter()
            progress.show(step, seconds)
        if (
            journal is not None and stop.number is None and step % config.validate_every
        ):  # so that a short run has a point to draw
            measured = validate()
            journal.write("validation", {**position(began + seconds), **measured})
        save()
        (signal,) = processes.largest(stop.number or 0)
    return Outcome(step, signal or None)
