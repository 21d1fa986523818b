"""The harness of every benchmark: it checks the contestants, times those that are right, and keeps the results."""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench import contestants, timing
from bench.contestants import Contestant
from bench.machine import surroundings, write
from bench.problems import Problem
from bench.timing import Run
from mannkern.verification.accuracy import errors, relative_errors

FLOAT64_TOLERANCE = 1e-8  # relative, of whole episodes


def options(description: str | None, batch: list[int], repeats: int) -> argparse.Namespace:
    """The command line of the CPU's benchmarks: --batch, --threads, --repeats, --json."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=batch, metavar="B", help="episodes at a time")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="COUNT", help="threads")
    parser.add_argument("--repeats", type=int, default=repeats, metavar="COUNT", help="rounds a median is taken of")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file that the results are written to")
    return parser.parse_args()


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

    A row has the fields of ``where``, the name, the median seconds of a call, quartiles, and ratios to contestants.
    """

    def __init__(self, name: str, repeats: int, device: str = "cpu", deadline: float = math.inf) -> None:
        self.name, self.repeats, self.device, self.deadline = name, repeats, device, deadline
        self.rows: list[dict[str, Any]] = []
        self.not_timed: list[dict[str, Any]] = []
        self.differs = False
        self.where: dict[str, Any] = {}
        self.copy_rate = timing.copy_rate("cuda") if device == "cuda" else None  # a CPU's depends on the threads

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

    def time(self, problem: Problem, entrants: Sequence[Contestant], bases: Sequence[str]) -> None:
        """Time the contestants that fit, and add their rows, with ratios to ``bases``, and that of the bound."""
        fitting = []
        for entrant in entrants:
            if self.device == "cpu" and entrant.most is not None and entrant.most < problem.B:
                self.drop(entrant.name, f"would keep about {problem.B * 5 / 1000:.0f} GB")
            else:
                fitting.append(entrant)
        if self.device == "cpu":
            times = timing.interleave({entrant.name: entrant.build(problem) for entrant in fitting}, self.repeats)
        else:
            times = self._one_by_one(problem, fitting)
        self._add(problem, times, bases)

    def _one_by_one(self, problem: Problem, entrants: Sequence[Contestant]) -> dict[str, list[float]]:
        """Seconds on a GPU, one contestant after the other, since its memory does not hold what all of them keep."""
        times = {}
        for entrant in entrants:
            if time.monotonic() > self.deadline:
                self.drop(entrant.name, "has no time left")
                continue
            try:
                times[entrant.name] = timing.gpu_seconds(entrant.build(problem), self.repeats)
                print(f"{entrant.name}: {statistics.median(times[entrant.name]) * 1e3:.3f} ms", flush=True)
            except RuntimeError as error:  # out of memory, or an operation that a graph cannot hold
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

    def _add(self, problem: Problem, times: dict[str, list[float]], bases: Sequence[str]) -> None:
        B, medians = problem.B, {name: statistics.median(samples) for name, samples in times.items()}
        print("\n" + ", ".join(f"{name} = {value}" for name, value in self.where.items()))
        bound = self._bound(problem)
        columns = ["us/episode", "episodes/s", *(f"x {base}" for base in bases)]
        print("".join([f"{'':18}", *(f"{column:>14}" for column in columns)]))
        for name, median in {**medians, **({"bound": bound} if bound else {})}.items():
            ratios = {base: median / medians[base] for base in bases if base in medians}
            cells = [f"{median / B * 1e6:14.1f}", f"{B / median:14.0f}", *(f"{x:14.2f}" for x in ratios.values())]
            print(f"{name:18}{''.join(cells)}", flush=True)
            row = {**self.where, "name": name, "seconds": median, "episodes_per_second": B / median, "ratio_to": ratios}
            if name in times:
                low, _, high = statistics.quantiles(times[name], n=4) if len(times[name]) > 1 else [median] * 3
                row |= {"quartiles": [low, high], "samples": len(times[name])}
            if self.device == "cuda":
                row["of_bound"] = bound / median
            self.rows.append(row)

    def end(self, file: Path | None) -> None:
        """Write the results to ``file``; exit with 1 where a contestant differed."""
        if file:
            write(file, {"benchmark": self.name, **surroundings(), "rows": self.rows, "not_timed": self.not_timed})
            print(f"\nwritten: {file}")
        sys.exit(int(self.differs))


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or '-').splitlines()[0]}"
