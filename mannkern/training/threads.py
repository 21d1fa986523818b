"""How many threads a new run trains on: one or all, whichever is faster on the machine as it is now."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from mannkern.streams import say
from mannkern.training import processes
from mannkern.training.checkpoint import save_config
from mannkern.training.config import RunConfig
from mannkern.training.experiment import Experiment
from mannkern.training.finite import NotFinite
from mannkern.training.replica import share_of
from mannkern.training.runtime import make_optimizer, train_step

SECONDS = 1.0  # of all timed steps together; at least LEAST of each
LEAST, MOST = 2, 20  # steps of each that are timed, after a first that allocates
BUSY = 0.8  # a thread that gets less of a processor than this shares it with others


class Trial(NamedTuple):
    """A comparison of threads: seconds of a training step on one and on all, and what a thread got of a processor."""

    one: float
    all: float
    num_threads: int
    share: float

    @property
    def threads(self) -> int:
        """The number of threads to take."""
        return 1 if self.one <= self.all else self.num_threads

    def text(self, unit: str, batch_size: int) -> str:
        """One or two sentences: what was found, and which number of threads training takes."""
        rate = batch_size / min(self.one, self.all)
        found = f"on one thread {1e3 * self.one:,.0f} ms, on {self.num_threads} threads {1e3 * self.all:,.0f} ms"
        taken = "one thread" if self.threads == 1 else f"{self.num_threads} threads"
        text = f"A step takes {found}: training takes {taken}, about {rate:,.0f} {unit}/s."
        if self.share >= BUSY:
            return text
        return f"This machine is busy: a thread gets {self.share:.0%} of a processor. {text}"


def choose_threads(experiment: Experiment, config: RunConfig, run: Path) -> RunConfig:
    """``config`` with a number of threads, written into ``run``. If it has none, the faster of one and all is taken.

    Sums depend on the number of threads, so the run keeps the one it began with.
    """
    if config.threads is not None:
        return config
    trial = processes.share(try_threads(experiment, config))  # all try at once, as they will train
    if trial is not None:
        say(trial.text(experiment.unit, config.batch_size))
    config = replace(config, threads=processes.share(trial.threads if trial else torch.get_num_threads()))
    if processes.rank() == 0:
        save_config(run, config)
    return config


def try_threads(experiment: Experiment, config: RunConfig) -> Trial | None:
    """Time training steps of a model that is thrown away; None where there is no choice.

    Torch's generator stays as it was. Afterwards torch uses the number of threads that it used before. A loss that is
    not finite ends the trial without a choice, because training itself will say more of it.
    Raises ``CommandError`` for impossible sizes.
    """
    num_threads = torch.get_num_threads()
    if num_threads == 1 or torch.device(config.device).type != "cpu":
        return None
    device = torch.device("cpu")
    seconds: dict[int, list[float]] = {1: [], num_threads: []}
    shares: list[float] = []
    with torch.random.fork_rng([]):
        try:
            model = experiment.make_model()
            optimizer = make_optimizer(config, model)
            share = share_of(experiment, config)
            batch = share.sample(0, device)
            began = time.perf_counter()
            while len(shares) <= LEAST or (len(shares) <= MOST and time.perf_counter() - began < SECONDS):
                for threads, times in seconds.items():
                    torch.set_num_threads(threads)
                    start, processor = time.perf_counter(), time.thread_time()
                    train_step(share, model, optimizer, batch, config.clip)
                    times.append(time.perf_counter() - start)
                    if threads == 1:
                        shares.append((time.thread_time() - processor) / times[-1])
        except NotFinite:
            return None
        finally:
            torch.set_num_threads(num_threads)
    one, most = (median(times[1:]) for times in seconds.values())
    return Trial(one, most, num_threads, median(shares[1:]))
