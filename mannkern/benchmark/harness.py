"""The harness of every benchmark: it checks the contestants, times those that are right, and keeps the results."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mannkern.benchmark import contestants, timing
from mannkern.benchmark.contestants import Contestant
from mannkern.benchmark.machine import busy, surroundings, write
from mannkern.benchmark.problems import Problem, Training
from mannkern.benchmark.timing import Run
from mannkern.verification.accuracy import errors, relative_errors

FLOAT64_TOLERANCE = 1e-8  # relative, of whole episodes
MOST_KEPT = 5_300_000_000  # bytes: 1,024 standard episodes in a loop of small operations
NO_TIME = "has no time left"  # of a contestant that the deadline came before
Rows = list[dict[str, Any]]


class Accuracy:
    """The rule of accuracy of the tests, for one problem: every output and gradient against the reference in float64.

    A float32 result may have 4 times the error of the float32 reference + 1e-6. A problem in float64 is held to 1e-8.
    """

    def __init__(self, problem: Problem) -> None:
        self.names = problem.names
        build = contestants.reference(problem.workload).build
        single = problem.dtype == torch.float32
        self.truth = self._named(build(problem.double() if single else problem))
        self.float32 = self._named(build(problem)) if single else None

    def check(self, run: Run) -> None:
        """Raise AssertionError, saying which results differ, where ``run`` breaks the rule."""
        results = self._named(run)
        if self.float32 is None:
            allowed = dict.fromkeys(self.truth, FLOAT64_TOLERANCE)
            off = relative_errors(results, self.truth)
        else:
            measured = errors(results, self.truth, self.float32)
            off, allowed = ({k: x[i] for k, x in measured.items()} for i in (0, 1))
        wrong = [f"{k}: {off[k]:.2e}, allowed {allowed[k]:.2e}" for k in off if not off[k] <= allowed[k]]
        if wrong:
            raise AssertionError(f"relative errors: {'; '.join(wrong)}")

    def _named(self, run: Run) -> dict[str, Tensor]:
        return {name: x.detach() for name, x in zip(self.names, run(), strict=True)}


class Report:
    """Rows of a benchmark, printed as they come, and the contestants that were not timed.

    device: one of several GPUs, as in cuda:1, has to be PyTorch's current one, whose events measure the time.
    A row has the fields of ``where``, the name, the median seconds of a call, quartiles, and ratios to contestants.
    show: prints the rows of a configuration, given ``where`` and the contestants that the ratios are to. file: gets the
    results after every configuration, since the next one may fail or be stopped; until the end they are ``unfinished``.
    """

    def __init__(
        self,
        name: str,
        repeats: int,
        device: str = "cpu",
        deadline: float = math.inf,
        show: Callable[[dict[str, Any], Rows, Sequence[str]], None] | None = None,
        file: Path | None = None,
    ) -> None:
        self.name, self.repeats, self.device, self.deadline = name, repeats, device, deadline
        self.device_type = torch.device(device).type
        self.show, self.file = show or print_rows, file
        self.surroundings = surroundings() if file else {}  # of the code that runs, which may change on the disk
        self.rows: list[dict[str, Any]] = []
        self.not_timed: list[dict[str, Any]] = []
        self.differs = False
        self.where: dict[str, Any] = {}
        self.copy_rate = (
            timing.copy_rate(device) if self.device_type == "cuda" else None
        )  # a CPU's depends on the threads

    def begin(self, where: dict[str, Any]) -> None:
        """Start another configuration: its batch size B, its threads, and what else is particular to it."""
        torch.set_num_threads(where.get("threads", torch.get_num_threads()))
        torch._dynamo.reset()
        self.where = where

    def check(self, problem: Problem, entrants: Sequence[Contestant]) -> list[Contestant]:
        """Those of ``entrants`` that may be timed; the report says of the others why not."""
        accuracy, good = Accuracy(problem), []
        for entrant in entrants:
            try:
                if entrant.checked and not (entrant.single and problem.dtype == torch.float64):
                    accuracy.check(entrant.build(problem))
                good.append(entrant)
            except AssertionError as error:
                self.differs = True
                self.drop(entrant.name, f"differs from the reference: {error}")
            except Exception as error:  # whatever a missing or broken compiler raises
                self.drop(entrant.name, f"cannot run: {_first_line(error)}")
        return good

    def drop(self, name: str, reason: str) -> None:
        """Say why ``name`` is not timed."""
        self.not_timed.append({**self.where, "name": name, "reason": reason})
        print(f"{name} is not timed. It {reason}", flush=True)

    def time(
        self,
        problem: Problem,
        entrants: Sequence[Contestant],
        bases: Sequence[str],
        smaller: Callable[[int], Problem] | None = None,
    ) -> None:
        """Time the contestants, and add their rows, with ratios to ``bases``, and that of the bound.

        On a CPU a contestant that would keep too much is timed on ``smaller(B)`` episodes, else not at all.
        """
        problems: dict[str, Problem] = {}
        fitting = []
        for entrant in entrants:
            kept = kept_bytes(problem) if entrant.keeps_all and self.device_type == "cpu" else 0
            if kept > MOST_KEPT and smaller is None:
                self.drop(entrant.name, f"would keep about {kept / 1e9:.0f} GB")
                continue
            problems[entrant.name] = problem
            if kept > MOST_KEPT and smaller is not None:
                problems[entrant.name] = smaller(max(1, problem.B * MOST_KEPT // kept))
            fitting.append(entrant)
        if self.device_type == "cpu":
            runs = {entrant.name: entrant.build(problems[entrant.name]) for entrant in fitting}
            times = timing.interleave(runs, self.repeats)
        else:
            times = self._one_by_one(problem, fitting)
        self._add(problem, times, bases, {name: x.B for name, x in problems.items() if x.B != problem.B})
        self._save({"unfinished": True})

    def _one_by_one(self, problem: Problem, entrants: Sequence[Contestant]) -> dict[str, list[float]]:
        """Seconds on a GPU, one contestant after the other, since its memory does not hold what all of them keep."""
        times = {}
        for entrant in entrants:
            if time.monotonic() > self.deadline:
                self.drop(entrant.name, NO_TIME)
                continue
            try:
                times[entrant.name] = timing.gpu_seconds(entrant.build(problem), self.repeats)
                print(f"{entrant.name}: {statistics.median(times[entrant.name]) * 1e3:.3f} ms", flush=True)
            except Exception as error:  # out of memory, what a graph cannot hold, whatever a compiler raises
                self.drop(entrant.name, f"cannot run: {_first_line(error)}")
            torch.cuda.empty_cache()
        return times

    def _bound(self, problem: Problem) -> float:
        """Seconds that the problem's FLOPs take or, where that is longer, the bytes that it must move."""
        seconds = 0.0
        if problem.flops:
            rate = timing.product_rate()
            print(f"a matrix product runs at {rate / 1e9:.0f} GFLOP/s")
            seconds = problem.flops / rate
        if problem.moved:
            seconds = max(seconds, problem.moved / (self.copy_rate or timing.copy_rate(self.device)))
        return seconds * problem.B

    def _add(
        self, problem: Problem, times: dict[str, list[float]], bases: Sequence[str], fewer: dict[str, int]
    ) -> None:
        """Add the rows. fewer: episodes of those contestants that were timed on fewer than the problem has."""
        medians = {name: statistics.median(samples) for name, samples in times.items()}
        bound, first = self._bound(problem), len(self.rows)
        episode = {name: seconds / fewer.get(name, problem.B) for name, seconds in medians.items()}
        for name, median in {**medians, **({"bound": bound} if bound else {})}.items():
            B = fewer.get(name, problem.B)
            ratios = {base: median / B / episode[base] for base in bases if base in episode}
            row = {**self.where, "name": name, "seconds": median, "episodes_per_second": B / median, "ratio_to": ratios}
            if name in fewer:
                row["B"] = B
            if name in times:
                low, _, high = statistics.quantiles(times[name], n=4) if len(times[name]) > 1 else [median] * 3
                row |= {"quartiles": [low, high], "samples": len(times[name])}
            if self.device_type == "cuda":
                row["of_bound"] = bound / median
            self.rows.append(row)
        self.show(self.where, self.rows[first:], bases)

    def _save(self, more: dict[str, Any]) -> None:
        if self.file:
            results = {"rows": self.rows, "not_timed": self.not_timed}
            write(self.file, {"benchmark": self.name, **self.surroundings, **results, **more})

    def write(self) -> int:
        """Write the results to the file, as finished. Returns the exit code, 1 where a contestant differed."""
        self._save({})
        if self.file:
            print(f"\nwritten: {self.file}")
        if self.device_type == "cpu" and (warning := busy()):
            print(warning, file=sys.stderr)
        return int(self.differs)

    def end(self) -> None:
        """Write the results to the file and exit."""
        sys.exit(self.write())


def kept_bytes(problem: Problem) -> int:
    """About what a loop of small operations keeps for the gradient: five copies of the memory for each step."""
    sizes = problem.sizes
    if isinstance(problem, Training) and not problem.gradient:
        return 0
    return 5 * 4 * math.prod(sizes.get(letter, 1) for letter in "BTNW")


def print_rows(where: dict[str, Any], rows: Rows, bases: Sequence[str]) -> None:
    """Print the rows of a configuration as a table."""
    print("\n" + ", ".join(f"{name} = {value}" for name, value in where.items()))
    columns = ["us/episode", "episodes/s", *(f"x {base}" for base in bases)]
    print("".join([f"{'':18}", *(f"{column:>14}" for column in columns)]))
    for row in rows:
        rate = row["episodes_per_second"]
        cells = [f"{1e6 / rate:14.1f}", f"{rate:14.0f}", *(f"{x:14.2f}" for x in row["ratio_to"].values())]
        print(f"{row['name']:18}{''.join(cells)}", flush=True)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or '-').splitlines()[0]}"
