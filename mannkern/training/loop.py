"""The training loop: stoppable at any moment, and on the CPU continued bit for bit."""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NamedTuple

import torch

from .build import make_optimizer, usable_device
from .checkpoint import load_checkpoint, save_checkpoint
from .config import RunConfig
from .errors import CommandError
from .experiment import open_experiment
from .metrics import Journal, empty_window, step_sums, summarize


class Outcome(NamedTuple):
    """Where training stopped: the step it stands at, and the signal that stopped it (None: it reached its limit)."""

    step: int
    signal: int | None


class StopSignals:
    """While entered, the first SIGINT or SIGTERM is noted in ``number``; a second one acts as if nobody listened."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.previous: dict[int, Any] = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self.previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()


class Progress:
    """A bar of the share of the run that is done, by steps or by time, whichever is further."""

    def __init__(self, config: RunConfig, step: int, seconds: float) -> None:
        from tqdm import tqdm

        self.config = config
        self.numbers = ""
        interval = 0.2 if sys.stderr.isatty() else 10.0
        self.bar = tqdm(
            total=1.0,
            initial=self._share(step, seconds),
            bar_format=self._format(step),
            mininterval=interval,
            dynamic_ncols=True,
        )

    def _share(self, step: int, seconds: float) -> float:
        limit = self.config.step_limit
        return min(1.0, max(step / limit if limit else 1.0, seconds / self.config.second_limit))

    def _format(self, step: int) -> str:
        head = f"{self.config.memory.upper()} {{percentage:3.0f}}%|{{bar}}|"
        return f"{head} step {step:,}{self.numbers} [{{elapsed}}<{{remaining}}]"

    def show(self, step: int, seconds: float) -> None:
        """Move the bar to where the run stands."""
        self.bar.bar_format = self._format(step)
        self.bar.update(self._share(step, seconds) - self.bar.n)

    def note(self, numbers: str) -> None:
        """Numbers to stand beside the bar from now on."""
        self.numbers = f", {numbers}"

    def close(self) -> None:
        """Leave the bar as it stands."""
        self.bar.refresh()
        self.bar.close()


def train(config: RunConfig, run: Path) -> Outcome:
    """Train in the folder ``run``, from its checkpoint if it has one, until a limit of ``config`` or a signal.

    SIGINT and SIGTERM let the step finish, then save. The data depend on the seed and the step alone, and the
    checkpoint holds all else that a step reads, so a resumed run on the CPU equals one that never stopped.
    Raises ``CommandError`` for data, sizes or devices that cannot be, and where the loss is no longer finite.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    experiment = open_experiment(config)
    torch.manual_seed(config.seed)
    device = usable_device(config)
    model = experiment.make_model().to(device)
    optimizer = make_optimizer(config, model)
    window, step, seconds = empty_window(experiment.num_sums).to(device), 0, 0.0
    if (checkpoint := load_checkpoint(run)) is not None:
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        window, step, seconds = checkpoint["window"].to(device), checkpoint["step"], checkpoint["seconds"]
        torch.set_rng_state(checkpoint["rng"])
        if device.type == "cuda" and checkpoint["cuda_rng"] is not None:
            torch.cuda.set_rng_state(checkpoint["cuda_rng"], device)

    def check_finite() -> None:
        if not bool(torch.isfinite(window).all()):
            raise CommandError(f"loss or gradient is not finite by step {step}; the checkpoint before it is kept")

    def place(now: float) -> dict[str, Any]:
        return {"step": step, experiment.unit: step * config.batch_size, "seconds": now - began}

    def save() -> None:
        check_finite()
        journal.flush()
        state = {
            "config": config.to_dict(),
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "window": window.cpu(),
            "step": step,
            "seconds": seconds,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }
        save_checkpoint(run, state)

    with StopSignals() as stop, Journal(run, step) as journal:
        save()  # from here on there is a checkpoint, whatever happens
        progress = Progress(config, step, seconds)
        began = time.perf_counter() - seconds
        saved = mark = time.perf_counter()
        since = 0
        while stop.number is None and step < config.step_limit and seconds < config.second_limit:
            batch = experiment.sample(step, device)
            loss, sums = experiment.score(model, batch)
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            optimizer.step()
            step += 1
            since += 1
            window += step_sums(loss, norm, sums)
            if step % config.log_every == 0:
                check_finite()
                summary = summarize(window, experiment)  # waits for the device, so the clock below is honest
                now = time.perf_counter()
                rate = since * config.batch_size / (now - mark)
                journal.write("train", {**place(now), **summary, f"{experiment.unit}_per_second": rate})
                remark = experiment.remark(summary)
                progress.note(f"loss {summary['loss']:.3f}, {remark}, {rate:,.0f} {experiment.unit}/s")
                window, since, mark = torch.zeros_like(window), 0, now
            if step % config.validate_every == 0:
                pause = time.perf_counter()
                journal.write("validation", {**place(pause), **experiment.validate(model, device)})
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
